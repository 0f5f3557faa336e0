package audit

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/private"
)

// keyFileHead begins a key file of an audit, which is a key file of package
// private. Its key is the seed of an Ed25519 key.
const keyFileHead = "# Keyfold audit key: the base64 of an Ed25519 seed.\n# Who reads this file can write records that verify. Leave its mode at 0600.\n# The public key, by which records are verified: "

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
	seed := key.Seed()
	defer clear(seed)
	err = private.CreateKey(path, keyFileHead+FormatPublicKey(pub)+"\n", seed)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the audit key file: %w", err)
	}
	return openKeyFile(path) // ours, or that of another who was faster
}

func openKeyFile(path string) (ed25519.PrivateKey, error) {
	text, err := private.Read(path, "audit key file")
	if err != nil {
		return nil, err
	}
	defer clear(text)
	seed, err := private.ParseKey(text, "audit key file "+path)
	if err != nil {
		return nil, err
	}
	defer clear(seed)
	return ed25519.NewKeyFromSeed(seed), nil
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
