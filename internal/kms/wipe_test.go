package kms

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// spyRoot keeps every raw DEK that passes its KEKs, as the slice that it was in.
type spyRoot struct {
	keyring.Root
	mu  sync.Mutex // guards raw
	raw [][]byte
}

func (s *spyRoot) LoadKEK(ctx context.Context, name keyring.Name, stored []byte) (keyring.KEK, error) {
	kek, err := s.Root.LoadKEK(ctx, name, stored)
	return spyKEK{kek, s}, err
}

type spyKEK struct {
	keyring.KEK
	spy *spyRoot
}

func (k spyKEK) Wrap(dek, aad []byte) ([]byte, error) {
	k.spy.keep(dek, aad)
	return k.KEK.Wrap(dek, aad)
}

func (k spyKEK) Unwrap(wrapped, aad []byte) ([]byte, error) {
	dek, err := k.KEK.Unwrap(wrapped, aad)
	k.spy.keep(dek, aad)
	return dek, err
}

// keep keeps dek, unless it is the digest of a row.
func (s *spyRoot) keep(dek, aad []byte) {
	if len(dek) > 0 && !bytes.Contains(aad, []byte("keyfold/keyring/")) && !bytes.Contains(aad, []byte("keyfold/kek-use/")) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.raw = append(s.raw, dek)
	}
}

func TestARawDEKIsClearedBeforeTheCallReturns(t *testing.T) {
	r := newRig(t)
	spy := &spyRoot{Root: r.root}
	r.root = spy
	s := r.start()
	r.createKEK(s, "v")
	key := r.createDEK(s, "t").KeyID
	c := r.encrypt(s, key, "x", "")
	e := r.seal(s, "v", "x", "")
	r.mustOpen(s, e, "", "x")
	e.Ciphertext = nil
	openOne(s, e, "")
	s = r.start(ticking())
	r.mustDecrypt(s, key, c, "", "x")
	_, err := s.GetWrapped(ctx, key)
	r.must(err)
	got, err := s.RotateKEK(ctx, kmsapi.Rotate{All: true})
	r.must(err)
	r.finish(s, got.Job.ID)
	_, err = s.Rewrap(ctx, []kmsapi.RewrapItem{{KEKID: "v", KEKVersion: 1, WrappedDEK: e.WrappedDEK}, {KeyID: key}})
	r.must(err)
	r.auditKey()
	old, fresh := rawKeys()
	r.reencryptAll(s, r.openRotation(s, askFor(t, "v", old, fresh)), r.sealedValues(s, "v", old, "x")...)
	if len(spy.raw) != 18 {
		t.Errorf("%d raw DEKs seen, want 18", len(spy.raw))
	}
	for i, raw := range spy.raw {
		if !bytes.Equal(raw, make([]byte, aead.KeySize)) {
			t.Errorf("raw DEK %d of %d is still in memory", i, len(spy.raw))
		}
	}
}

func TestUnsealedKeysAreClearedWhateverTheyAre(t *testing.T) {
	old, fresh := rawKeys()
	o := askFor(t, "v", old, fresh)
	for _, pair := range [][]byte{append(bytes.Clone(old), fresh...), append(bytes.Clone(fresh), old...)} {
		provenPair(o, pair)
		if !bytes.Equal(pair, make([]byte, len(pair))) {
			t.Errorf("%q is still in memory", pair)
		}
	}
	if len(old) != 32 || !bytes.Equal(old, o.Old) || bytes.Equal(old, make([]byte, 32)) {
		t.Error("the caller's own copy was cleared")
	}
}
