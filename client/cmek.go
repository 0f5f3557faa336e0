package client

import (
	"context"

	"github.com/keyfold/keyfold/cmek"
)

// CMEK is a customer's key as the client uses it. LocalKey makes one of a key
// that is here; another may ask a process that keeps the key and never gives it
// away. It is safe for concurrent use.
type CMEK interface {
	// Fingerprint names the key: 64 lower-case hex digits.
	Fingerprint() string

	// Seal returns plaintext, which may be empty, sealed as a value in base64: a
	// blob of that version, 1, or 2, which is bound to at.
	Seal(ctx context.Context, at cmek.Context, version int, plaintext []byte) (string, error)

	// Open returns the plaintext of a value that was read from at, whichever its
	// form and version. A value that does not open is cmek.ErrDecrypt, and one
	// without the shape of a blob is cmek.ErrNotBlob.
	Open(ctx context.Context, at cmek.Context, value string) ([]byte, error)
}

// A KeyChecker is a CMEK that can make the key check of a vault, as cmek.Check
// does. With one, a vault that keeps a check refuses another key before the
// first write; without, the fingerprint alone decides.
type KeyChecker interface {
	Check(ctx context.Context, vaultID string) (string, error)
}

// LocalKey returns the key k as a CMEK, and nil for nil. It is a KeyChecker.
func LocalKey(k *cmek.Key) CMEK {
	if k == nil {
		return nil
	}
	return localKey{k}
}

type localKey struct{ *cmek.Key }

func (k localKey) Seal(_ context.Context, at cmek.Context, version int, plaintext []byte) (string, error) {
	if version == 2 {
		return cmek.EncryptBoundValue(k.Key, at, plaintext)
	}
	return cmek.EncryptValue(k.Key, plaintext)
}

func (k localKey) Open(_ context.Context, at cmek.Context, value string) ([]byte, error) {
	return cmek.DecryptValueAt(k.Key, at, value)
}

func (k localKey) Check(_ context.Context, vaultID string) (string, error) {
	return k.Key.Check(vaultID), nil
}
