package cmek

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A key file is text, as MarshalKeyFile writes it:
//
//	# Keyfold CMEK key. ...
//	# vault: 0198f1a2-...
//	# fingerprint: 630dcd29...
//	# created: 2026-11-21T23:24:00Z
//	AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
//
// Readers accept any comments, blank lines, white space around lines, CRLF,
// and every spelling of the key that ParseKeyText accepts. A file of 32 bytes
// that are not text is the raw key.

// maxKeyFile bounds a key file, in bytes; ours are about 300.
const maxKeyFile = 4096

const (
	fingerprintComment = "fingerprint:"
	space              = " \t\r\n" // and no other: languages differ in what else they trim
)

// KeyFileInfo is what a key file, and a backup, says of its key in comments. Empty members
// are left out.
type KeyFileInfo struct {
	VaultID string // printable, 200 bytes at most
	Created time.Time
}

// Comments returns the comment lines that say it, for a file that holds a key
// in another form, such as a backup.
func (i KeyFileInfo) Comments() ([]byte, error) { return i.comments("") }

// comments is Comments with a line more, in its place.
func (i KeyFileInfo) comments(line string) ([]byte, error) {
	if len(i.VaultID) > 200 || !utf8.ValidString(i.VaultID) || strings.ContainsFunc(i.VaultID, unicode.IsControl) {
		return nil, errors.New("cmek: the vault ID of a key file is one line of at most 200 bytes")
	}
	var out []byte
	if i.VaultID != "" {
		out = fmt.Appendf(out, "# vault: %s\n", i.VaultID)
	}
	out = append(out, line...)
	if !i.Created.IsZero() {
		out = fmt.Appendf(out, "# created: %s\n", i.Created.UTC().Format(time.RFC3339))
	}
	return out, nil
}

// MarshalKeyFile returns the text of k's key file, which holds the key itself.
func MarshalKeyFile(k *Key, info KeyFileInfo) ([]byte, error) {
	comments, err := info.comments(fmt.Sprintf("# %s %s\n", fingerprintComment, k.Fingerprint()))
	if err != nil {
		return nil, err
	}
	raw := k.Bytes()
	if len(raw) == 0 {
		return nil, errWiped
	}
	defer clear(raw)
	out := []byte("# Keyfold CMEK key. It opens what was encrypted under it, and nothing else does: keep it secret, and do not lose it.\n")
	return append(base64.StdEncoding.AppendEncode(append(out, comments...), raw), '\n'), nil
}

// WriteKeyFile writes k's key file with mode 0600. It refuses to replace a
// file: what that one opens would be lost. When it returns nil, the file is on
// stable storage; when it fails, it leaves no file of its own behind, save in
// a crash, and what a crash leaves is refused by ReadKeyFile.
func WriteKeyFile(path string, k *Key, info KeyFileInfo) error {
	text, err := MarshalKeyFile(k, info)
	if err != nil {
		return err
	}
	defer clear(text)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if os.IsExist(err) {
		return fmt.Errorf("cmek: not replacing a key file, since what its key opens would be lost; choose another name: %w", err)
	}
	if err != nil {
		return fmt.Errorf("cmek: %w", err)
	}
	if err := finish(f, text); err != nil {
		os.Remove(path)
		return fmt.Errorf("cmek: %w", err)
	}
	return nil
}

// finish writes text and brings it and its name to stable storage.
func finish(f *os.File, text []byte) error {
	_, err := f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil || runtime.GOOS == "windows" { // which cannot sync a directory
		return err
	}
	dir, err := os.Open(filepath.Dir(f.Name()))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// ReadKeyFile reads a key file: see ParseKeyFile. Its errors name the path.
func ReadKeyFile(path string) (*Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cmek: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	defer clear(data)
	if err != nil {
		return nil, fmt.Errorf("cmek: %w", err)
	}
	k, err := ParseKeyFile(data)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return k, nil
}

// ParseKeyFile returns the one key of a key file: text with # comments, or 32
// raw bytes. Errors are ErrKeySize, ErrKeyEncoding, ErrNoKey, ErrTwoKeys, ErrBackup
// and ErrFingerprintMismatch; none shows any part of the file.
func ParseKeyFile(data []byte) (*Key, error) {
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("%w; this file is over %d bytes", ErrKeySize, maxKeyFile)
	}
	if !isText(data) {
		return NewKey(data)
	}
	keyLine, named := "", []string(nil)
	text := strings.TrimPrefix(string(data), "\ufeff") // some editors put a byte order mark there
	for line := range strings.Lines(text) {
		line = strings.Trim(line, space)
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			if fp, ok := strings.CutPrefix(strings.Trim(comment, space), fingerprintComment); ok {
				named = append(named, strings.Trim(fp, space))
			}
		} else if line != "" && strings.HasPrefix(keyLine, "keyfold-cmek-") {
			return nil, ErrBackup
		} else if line != "" && keyLine != "" {
			return nil, ErrTwoKeys
		} else if line != "" {
			keyLine = line
		}
	}
	if keyLine == "" {
		return nil, ErrNoKey
	}
	return parseNamed(keyLine, named)
}

// parseNamed parses a key that every given fingerprint must name.
func parseNamed(text string, fingerprints []string) (*Key, error) {
	k, err := ParseKeyText(text)
	if err != nil {
		return nil, err
	}
	for _, fp := range fingerprints {
		if !strings.EqualFold(fp, k.Fingerprint()) {
			k.Wipe()
			return nil, ErrFingerprintMismatch
		}
	}
	return k, nil
}

// ParseKeyText parses a key given as text, in an environment variable, say:
// base64 of the 32 bytes (44 characters; the URL alphabet and missing padding
// are accepted too) or 64 hex digits of either case. White space around it is
// ignored. Errors are ErrKeySize and ErrKeyEncoding.
func ParseKeyText(s string) (*Key, error) {
	s = strings.Trim(s, space)
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != KeySize {
		raw, err = decodeKeyBase64(s)
	}
	defer clear(raw)
	if err != nil {
		return nil, ErrKeyEncoding
	}
	return NewKey(raw)
}

// decodeKeyBase64 reads every spelling of base64 that has one meaning. A text
// that mixes the two alphabets, or has a typing error in its spare bits, has none.
func decodeKeyBase64(s string) ([]byte, error) {
	enc := base64.StdEncoding
	if strings.ContainsAny(s, "-_") {
		enc = base64.URLEncoding
	}
	if !strings.HasSuffix(s, "=") {
		enc = enc.WithPadding(base64.NoPadding)
	}
	if strings.ContainsAny(s, "\r\n") {
		return nil, ErrKeyEncoding
	}
	return enc.Strict().DecodeString(s)
}

// isText reports whether data is UTF-8 without control characters, except
// those of lines and tabs. Of all random 32-byte keys, fewer than one in
// 10^10 look like text; such a key must be written in base64.
func isText(data []byte) bool {
	return utf8.Valid(data) && !bytes.ContainsFunc(data, func(r rune) bool {
		return unicode.IsControl(r) && !strings.ContainsRune("\t\r\n", r)
	})
}
