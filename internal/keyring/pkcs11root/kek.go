//go:build cgo && !windows

package pkcs11root

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/keyfold/keyfold/internal/aead"
)

// A wrapped DEK, 60 bytes:
//
//	nonce (12) | wrapped DEK (32) | tag (16)
const (
	nonceSize   = 12
	wrappedSize = aead.KeySize + aead.Overhead
)

var errWipedKEK = errors.New("the KEK was wiped")

// kek is a KEK on the token.
type kek struct {
	root  *Root
	id    []byte // CKA_ID
	proof atomic.Pointer[[]byte]
	wiped atomic.Bool
}

// Wipe makes the KEK unusable. Its object stays on the token.
func (k *kek) Wipe() { k.wiped.Store(true) }

// Wrap wraps a DEK of 32 bytes inside the token. It fails with
// fault.Unavailable while the token is away.
func (k *kek) Wrap(dek, aad []byte) (wrapped []byte, err error) {
	if len(dek) != aead.KeySize {
		return nil, aead.ErrKeySize
	}
	err = k.use(func(c *conn, s session, h object) (err error) {
		wrapped, err = k.root.wrap(s, h, dek, aad)
		return err
	})
	return wrapped, err
}

// Unwrap is the mirror of Wrap. It fails with aead.ErrOpen, or with
// fault.Unavailable while the token is away.
func (k *kek) Unwrap(wrapped, aad []byte) (dek []byte, err error) {
	if len(wrapped) != wrappedSize || k.wiped.Load() {
		return nil, aead.ErrOpen
	}
	err = k.use(func(c *conn, s session, h object) (err error) {
		if dek, err = k.root.unwrap(s, h, wrapped, aad); err == nil {
			return nil
		}
		if broken := k.works(s, h); broken != nil {
			return broken
		}
		return fmt.Errorf("%w (%v)", aead.ErrOpen, err)
	})
	return dek, err
}

// use calls f with a session and the handle of k's object. That an object which
// was there when k was loaded is not, is the token's trouble and no answer.
func (k *kek) use(f func(*conn, session, object) error) error {
	return k.root.do(func(c *conn, s session) error {
		if k.wiped.Load() {
			return errWipedKEK
		}
		h, err := k.root.find(c, s, k.id)
		if errors.Is(err, errNoObject) {
			err = away(err)
		}
		if err != nil {
			return err
		}
		return f(c, s, h)
	})
}

// works returns nil when session and key are in order, so that a wrapped DEK
// which failed to unwrap is itself to blame. Tokens do not tell these apart by
// their codes: SoftHSM answers a wrong tag with CKR_GENERAL_ERROR. What is tried
// is one wrapped DEK of our own, kept, so that failures use up no nonces.
func (k *kek) works(s session, h object) error {
	aad := aead.AAD("keyfold/pkcs11-proof/v1")
	proof := k.proof.Load()
	if proof == nil {
		wrapped, err := k.root.wrap(s, h, make([]byte, aead.KeySize), aad)
		if err != nil {
			return err
		}
		proof = &wrapped
		k.proof.Store(proof)
	}
	_, err := k.root.unwrap(s, h, *proof, aad)
	return err
}

// wrap is the one place where a token encrypts. The nonce is 12 fresh random
// bytes of ours, always: some tokens take a missing one as an empty one, which
// breaks the key. Where a token puts one of its own in its place, that is stored.
func (r *Root) wrap(s session, h object, dek, aad []byte) ([]byte, error) {
	buf := make([]byte, nonceSize+64)
	nonce := buf[:nonceSize]
	rand.Read(nonce)
	nonceLen, n, err := r.lib.encrypt(s, h, nonce, aad, dek, buf[nonceSize:])
	switch {
	case err != nil:
		return nil, away(fmt.Errorf("wrap: %w", err))
	case n != wrappedSize-nonceSize, nonceLen != nonceSize:
		return nil, fmt.Errorf("the token wrapped a DEK to %d bytes under a nonce of %d bytes; it is not fit to be a root", n, nonceLen)
	}
	return buf[:wrappedSize:wrappedSize], nil
}

func (r *Root) unwrap(s session, h object, wrapped, aad []byte) ([]byte, error) {
	buf := make([]byte, 64)
	n, err := r.lib.decrypt(s, h, wrapped[:nonceSize], aad, wrapped[nonceSize:], buf)
	if err == nil && n != aead.KeySize {
		err = errors.New("the token unwrapped something that is no DEK")
	}
	if err != nil {
		clear(buf)
		return nil, away(fmt.Errorf("unwrap: %w", err))
	}
	return buf[:aead.KeySize:aead.KeySize], nil
}
