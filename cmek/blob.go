package cmek

import (
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/keyfold/keyfold/internal/aead"
)

// A blob is, in bytes, of one of two versions:
//
//	0x01 | nonce (12 bytes, random) | ciphertext (as long as the plaintext) | tag (16 bytes)
//	0x02 | salt (32) | commitment (32) | nonce (12) | ciphertext | tag (16); see bound.go
//
// Version 0x01 is AES-256-GCM under the key itself, without AAD. On the wire a
// blob is one text, in one of two forms:
//
//	FormBase64  the blob in standard base64 with padding: what we write
//	FormHex     a blob 0x01 without its version byte, in lower-case hex: read, and kept by ReencryptValue
//
// The forms cannot be confused: base64 of a first byte 0x01 or 0x02 begins with
// "A", which is no lower-case hex digit. And a blob has one text per form: what
// parses is written back to the same text, so that equal blobs compare equal
// and nothing rides along in spare bits or line breaks.

const (
	plainVersion = 0x01
	boundVersion = 0x02
	// Overhead is how much longer a blob of version 1 is than its plaintext, in bytes.
	Overhead = 1 + aead.Overhead
	// BoundOverhead is how much longer a blob of version 2 is than its plaintext, in bytes.
	BoundOverhead = 1 + saltSize + commitmentSize + aead.Overhead
)

// Form is how a value's text spells its blob.
type Form string

// The two forms.
const (
	FormBase64 Form = "base64" // the documented form
	FormHex    Form = "hex"    // the older form, without a version byte
)

// Info is what a value shows without a key. It is a check of shape, not proof
// that anything was encrypted: any lower-case hex text of 56 characters or
// more has the shape of the older form.
type Info struct {
	Form          Form
	Version       byte // 1 or 2; 0 in FormHex, which has none
	PlaintextSize int  // bytes
}

// Encrypt returns the blob of plaintext, which may be empty, in bytes: version
// 1, which opens at any path. It fails only when the key was wiped.
func Encrypt(k *Key, plaintext []byte) ([]byte, error) {
	return k.seal(Context{}, shape{version: plainVersion}, plaintext)
}

// Decrypt returns the plaintext of a blob of version 1 in bytes: see DecryptAt.
// A bound blob is ErrNeedsContext.
func Decrypt(k *Key, blob []byte) ([]byte, error) { return DecryptAt(k, Context{}, blob) }

// EncryptValue returns what Encrypt does as the text to send: FormBase64.
func EncryptValue(k *Key, plaintext []byte) (string, error) {
	return k.sealValue(Context{}, shape{FormBase64, plainVersion}, plaintext)
}

// DecryptValue returns the plaintext of a value of version 1, in either form:
// see DecryptValueAt. A bound value is ErrNeedsContext.
func DecryptValue(k *Key, value string) ([]byte, error) { return DecryptValueAt(k, Context{}, value) }

// ReencryptValue is ReencryptValueAt for values of version 1. A bound value is
// ErrNeedsContext.
func ReencryptValue(old, fresh *Key, value string) (string, error) {
	return ReencryptValueAt(old, fresh, Context{}, value)
}

// Inspect says what a value looks like from outside; it needs no key. Its
// errors are the shape errors of DecryptValue, so that what Inspect accepts can
// fail later in two ways only, ErrDecrypt and, if bound, ErrNeedsContext.
func Inspect(value string) (Info, error) {
	s, body, err := parseValue(value)
	if err != nil {
		return Info{}, err
	}
	info := Info{Form: s.form, Version: s.version, PlaintextSize: len(body) + 1 - s.overhead()}
	if s.form == FormHex {
		info.Version = 0
	}
	return info, nil
}

// shape is all of a blob but its body, the bytes behind the version byte. The
// older form is of version 1 and does not say so.
type shape struct {
	form    Form
	version byte
}

// overhead is how much longer the blob is than its plaintext, in bytes.
func (s shape) overhead() int {
	if s.version == boundVersion {
		return BoundOverhead
	}
	return Overhead
}

// parseValue returns the shape and the body of a value. A text of nothing but
// lower-case hex digits is of the older form, any other of the documented.
func parseValue(value string) (shape, []byte, error) {
	if value != "" && isLowerHex(value) {
		body, err := parseHex(value)
		return shape{FormHex, plainVersion}, body, err
	}
	blob, err := decodeBase64(value)
	if err != nil {
		return shape{}, nil, err
	}
	version, body, err := parseBlob(blob)
	return shape{FormBase64, version}, body, err
}

// formatBlob is the inverse of parseValue for a whole blob.
func formatBlob(form Form, blob []byte) string {
	if form == FormHex {
		return hex.EncodeToString(blob[1:])
	}
	return base64.StdEncoding.EncodeToString(blob)
}

func parseBlob(blob []byte) (version byte, body []byte, err error) {
	if len(blob) < Overhead {
		return 0, nil, ErrTooShort
	}
	switch version = blob[0]; {
	case version != plainVersion && version != boundVersion:
		return 0, nil, ErrUnknownVersion
	case len(blob) < (shape{version: version}).overhead():
		return 0, nil, ErrTooShort
	}
	return version, blob[1:], nil
}

func parseHex(value string) ([]byte, error) {
	sealed, err := hex.DecodeString(value)
	if err != nil {
		return nil, ErrBadEncoding
	}
	if len(sealed) < aead.Overhead {
		return nil, ErrTooShort
	}
	return sealed, nil
}

// decodeBase64 accepts one spelling per bytes. Strict refuses spare bits that
// are not zero; line breaks, which the library skips, are refused here.
func decodeBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, ErrBadEncoding
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, ErrBadEncoding
	}
	return b, nil
}

// isLowerHex reports whether s holds nothing but 0-9 and a-f. Upper case is
// left out: with it, "Aa…" could be both forms at once.
func isLowerHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}
