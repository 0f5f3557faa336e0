package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/keyfold/keyfold/internal/fault"
)

// A key file of an audit is text, at most 4 KiB: comment lines, which begin
// with '#', empty lines, and one line with the standard base64 (44 characters)
// of the 32 bytes of an Ed25519 seed. Its mode is 0600 or 0400, its owner the
// user of the process, or root.
const (
	maxKeyFile  = 4 << 10
	keyFileHead = "# Keyfold audit key: the base64 of an Ed25519 seed.\n# Who reads this file can write records that verify. Leave its mode at 0600.\n# The public key, by which records are verified: "
)

// OpenOrCreateKeyFile reads the key at path, or makes one when there is no such
// file. It refuses a file that another user can read or owns, and says how to
// mend it. Its errors name the path: they are for the operator at start.
func OpenOrCreateKeyFile(path string) (ed25519.PrivateKey, error) {
	key, err := openKeyFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	text := fmt.Appendf(nil, "%s%s\n%s\n", keyFileHead, FormatPublicKey(pub), base64.StdEncoding.EncodeToString(key.Seed()))
	defer clear(text)
	if err := createWhole(path, text); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the audit key file: %w", err)
	}
	return openKeyFile(path) // ours, or that of another who was faster
}

func openKeyFile(path string) (ed25519.PrivateKey, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // O_NONBLOCK: a FIFO must not hold us
	if err != nil {
		return nil, fmt.Errorf("open the audit key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open the audit key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the audit key file %s is not a regular file; name the file itself", path)
	}
	if err := checkPrivate(path, info, 0o600); err != nil {
		return nil, err
	}
	text := make([]byte, maxKeyFile+1)
	defer clear(text)
	n, err := io.ReadFull(f, text)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read the audit key file %s: %w", path, err)
	}
	seed := parseKey(text[:n])
	defer clear(seed)
	if n > maxKeyFile || seed == nil {
		return nil, fmt.Errorf("the audit key file %s must hold one line with the base64 of 32 bytes, beside comments; restore it from its backup", path)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// parseKey returns the seed in text, or nil.
func parseKey(text []byte) (seed []byte) {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key, err := base64.StdEncoding.Strict().DecodeString(string(line))
		if err != nil || seed != nil || len(key) != ed25519.SeedSize {
			return nil
		}
		seed = key
	}
	return seed
}

// FormatPublicKey returns the base64 of a public key.
func FormatPublicKey(key ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(key) }

// ParsePublicKey is the mirror of FormatPublicKey. It fails with fault.Invalid.
func ParsePublicKey(text string) (ed25519.PublicKey, error) {
	key, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fault.New(fault.Invalid, "the public key of an audit is the base64 of 32 bytes, as the status of the process shows it")
	}
	return key, nil
}
