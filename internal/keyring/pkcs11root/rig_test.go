//go:build cgo && !windows

package pkcs11root

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/keyring/roottest"
)

var (
	ctx = context.Background()
	dek = bytes.Repeat([]byte{7}, aead.KeySize)
	aad = []byte("the caller's")
)

// hsm is a SoftHSM of the test's own, with one token.
type hsm struct {
	testing.TB
	roottest.SoftHSM
	config Config
}

func newHSM(t testing.TB) *hsm {
	t.Helper()
	h := &hsm{TB: t, SoftHSM: roottest.NewSoftHSM(t)}
	h.config = Config{Module: h.Library, Token: h.Token, PIN: func() ([]byte, error) { return []byte(h.PIN), nil }}
	return h
}

func (h *hsm) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// open returns a Root on the token, which tries again at once when it is away.
func (h *hsm) open() *Root {
	h.Helper()
	return h.openOver(func(lib cryptoki) cryptoki { return lib })
}

func (h *hsm) openOver(over func(cryptoki) cryptoki) *Root {
	h.Helper()
	r, err := open(h.config, over)
	h.must(err)
	h.Cleanup(r.Wipe)
	r.pause = 0
	return r
}

func (h *hsm) kek(r *Root, name keyring.Name) (keyring.KEK, []byte) {
	h.Helper()
	stored, err := r.MakeKEK(ctx, name)
	h.must(err)
	k, err := r.LoadKEK(ctx, name, stored)
	h.must(err)
	return k, stored
}

func (h *hsm) wrap(k keyring.KEK) []byte {
	h.Helper()
	wrapped, err := k.Wrap(dek, aad)
	h.must(err)
	return wrapped
}

func (h *hsm) mustUnwrap(k keyring.KEK, wrapped []byte) {
	h.Helper()
	got, err := k.Unwrap(wrapped, aad)
	if err != nil || !bytes.Equal(got, dek) {
		h.Fatalf("it does not unwrap its own: %v", err)
	}
}

func (h *hsm) mustBeAway(what string, err error) {
	h.Helper()
	if !errors.Is(err, fault.Unavailable) || errors.Is(err, aead.ErrOpen) {
		h.Errorf("%s: %v (%v); want fault.Unavailable", what, err, errors.Unwrap(err))
	}
}
