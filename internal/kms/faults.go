package kms

import (
	"errors"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/store"
)

// asFault names err: every ciphertext and wrapped DEK that does not open gets
// the same answer, whatever the cause.
func asFault(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	switch {
	case errors.Is(err, aead.ErrOpen):
		return fault.Wrap(fault.Unopenable, err, "it does not open: it was not sealed under this key with this AAD, or it was changed since")
	case errors.Is(err, store.ErrDamaged):
		return fault.Wrap(fault.Damaged, err, "the key store is damaged; restore it from its backup")
	}
	return fault.Wrap(fault.Unavailable, err, "the KMS cannot do this now; try again")
}

// damagedDEK answers for a DEK whose own row does not open. That the KMS is
// not able to tell is no damage.
func damagedDEK(err error) error {
	if f := asFault(err); errors.Is(f, fault.Unavailable) {
		return f
	}
	return fault.Wrap(fault.Damaged, err, "the stored DEK of this key ID does not open; restore the key store from its backup")
}

func checkBatch(n int) error {
	if n > kmsapi.MaxBatch {
		return fault.New(fault.TooLarge, "send at most %d items in one call", kmsapi.MaxBatch)
	}
	return nil
}

func checkSizes(plaintext, aad []byte) error {
	if len(plaintext) > MaxPlaintext {
		return fault.New(fault.TooLarge, "a plaintext may have at most %d bytes", MaxPlaintext)
	}
	if len(aad) > MaxAAD {
		return fault.New(fault.TooLarge, "an AAD may have at most %d bytes", MaxAAD)
	}
	return nil
}

// validID reports whether id, which comes from a caller, may name a KEK, a DEK
// or a thread: 1 to 128 of A-Z a-z 0-9 _ . -
func validID(id string) bool {
	for i := range len(id) {
		c := id[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-') {
			return false
		}
	}
	return 1 <= len(id) && len(id) <= 128
}
