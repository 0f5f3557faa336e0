package cmek

import (
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/keyfold/keyfold/internal/aead"
)

// A blob is, in bytes:
//
//	version (1 byte, 0x01) | nonce (12 bytes, random) | ciphertext (as long as the plaintext) | tag (16 bytes)
//
// AES-256-GCM, no AAD. On the wire it is one text, in one of two forms:
//
//	FormBase64  the blob in standard base64 with padding: what we write
//	FormHex     the blob without its version byte, in lower-case hex: read, and kept by ReencryptValue
//
// The forms cannot be confused: base64 of a first byte 0x01 begins with "A",
// which is no lower-case hex digit. And a blob has one text per form: what
// parses is written back to the same text, so that equal blobs compare equal
// and nothing rides along in spare bits or line breaks.

const (
	blobVersion = 0x01
	// Overhead is how much longer a blob is than its plaintext, in bytes.
	Overhead = 1 + aead.Overhead
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
	Version       byte // 1; 0 in FormHex, which has none
	PlaintextSize int  // bytes
}

// Encrypt returns the blob of plaintext, which may be empty, in bytes. It
// fails only when the key was wiped.
func Encrypt(k *Key, plaintext []byte) ([]byte, error) {
	sealed, err := k.m.aead.Seal(plaintext, nil)
	if err != nil {
		return nil, errWiped
	}
	return append([]byte{blobVersion}, sealed...), nil
}

// Decrypt returns the plaintext of a blob in bytes. Bytes without the shape of
// a blob are ErrTooShort or ErrUnknownVersion; every blob that does not open
// is ErrDecrypt.
func Decrypt(k *Key, blob []byte) ([]byte, error) {
	sealed, err := parseBlob(blob)
	if err != nil {
		return nil, err
	}
	return k.open(sealed)
}

// EncryptValue returns the blob of plaintext as the text to send: FormBase64.
// It fails only when the key was wiped.
func EncryptValue(k *Key, plaintext []byte) (string, error) {
	blob, err := Encrypt(k, plaintext)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(blob), nil
}

// DecryptValue returns the plaintext of a value in either form. Text without
// the shape of one is ErrBadEncoding, ErrTooShort or ErrUnknownVersion; every
// value that does not open is ErrDecrypt.
func DecryptValue(k *Key, value string) ([]byte, error) {
	_, sealed, err := parseValue(value)
	if err != nil {
		return nil, err
	}
	return k.open(sealed)
}

// ReencryptValue opens value under old and returns it encrypted under fresh,
// with a new nonce and in the form that it came in, so that whoever wrote it can
// still read it. Errors are those of DecryptValue and EncryptValue.
func ReencryptValue(old, fresh *Key, value string) (string, error) {
	form, sealed, err := parseValue(value)
	if err != nil {
		return "", err
	}
	plaintext, err := old.open(sealed)
	if err != nil {
		return "", err
	}
	defer clear(plaintext)
	sealed, err = fresh.m.aead.Seal(plaintext, nil)
	if err != nil {
		return "", errWiped
	}
	return formatValue(form, sealed), nil
}

// Inspect says what a value looks like from outside; it needs no key. Its
// errors are the shape errors of DecryptValue, so that what Inspect accepts
// can fail later in one way only, ErrDecrypt.
func Inspect(value string) (Info, error) {
	form, sealed, err := parseValue(value)
	if err != nil {
		return Info{}, err
	}
	info := Info{Form: form, PlaintextSize: len(sealed) - aead.Overhead}
	if form == FormBase64 {
		info.Version = blobVersion
	}
	return info, nil
}

func (k *Key) open(sealed []byte) ([]byte, error) {
	plaintext, err := k.m.aead.Open(sealed, nil)
	if err != nil {
		return nil, ErrDecrypt
	}
	return plaintext, nil
}

// parseValue returns nonce | ciphertext | tag of either form. A text of nothing
// but lower-case hex digits is of the older form, any other of the documented.
func parseValue(value string) (Form, []byte, error) {
	if value != "" && isLowerHex(value) {
		sealed, err := parseHex(value)
		return FormHex, sealed, err
	}
	blob, err := decodeBase64(value)
	if err != nil {
		return "", nil, err
	}
	sealed, err := parseBlob(blob)
	return FormBase64, sealed, err
}

// formatValue is the inverse of parseValue.
func formatValue(form Form, sealed []byte) string {
	if form == FormHex {
		return hex.EncodeToString(sealed)
	}
	return base64.StdEncoding.EncodeToString(append([]byte{blobVersion}, sealed...))
}

func parseBlob(blob []byte) ([]byte, error) {
	if len(blob) < Overhead {
		return nil, ErrTooShort
	}
	if blob[0] != blobVersion {
		return nil, ErrUnknownVersion
	}
	return blob[1:], nil
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
