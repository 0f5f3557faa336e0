package vault

import (
	"context"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// tinyKMS stands in for kms.Service until it is there.
type tinyKMS struct {
	mu   sync.RWMutex
	keks map[string]*aead.Key
}

func newKMS(testing.TB) KMS { return &tinyKMS{keks: map[string]*aead.Key{}} }

func (k *tinyKMS) CreateKEK(_ context.Context, ids []string) ([]kmsapi.KEKInfo, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]kmsapi.KEKInfo, len(ids))
	for i, id := range ids {
		if k.keks[id] == nil {
			k.keks[id], _ = aead.NewKey(aead.GenerateRaw())
		}
		out[i] = kmsapi.KEKInfo{KEKID: id, Version: 1}
	}
	return out, nil
}

func (k *tinyKMS) Seal(_ context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	out := make([]kmsapi.SealResult, len(items))
	for i, it := range items {
		k.mu.RLock()
		kek := k.keks[it.KEKID]
		k.mu.RUnlock()
		if kek == nil {
			out[i].Err = fault.New(fault.NotFound, "no KEK")
			continue
		}
		raw := aead.GenerateRaw()
		dek, _ := aead.NewKey(raw)
		w, _ := kek.Seal(raw, it.AAD)
		c, _ := dek.Seal(it.Plaintext, it.AAD)
		out[i].Envelope = kmsapi.Envelope{KEKID: it.KEKID, KEKVersion: 1, WrappedDEK: w, Ciphertext: c}
	}
	return out, nil
}

func (k *tinyKMS) Open(_ context.Context, items []kmsapi.OpenItem) ([]kmsapi.OpenResult, error) {
	out := make([]kmsapi.OpenResult, len(items))
	for i, it := range items {
		e := it.Envelope
		k.mu.RLock()
		kek := k.keks[e.KEKID]
		k.mu.RUnlock()
		if kek == nil || e.KEKVersion != 1 {
			out[i].Err = fault.New(fault.NotFound, "no KEK")
			continue
		}
		raw, err := kek.Open(e.WrappedDEK, it.AAD)
		if err == nil {
			var dek *aead.Key
			dek, _ = aead.NewKey(raw)
			out[i].Plaintext, err = dek.Open(e.Ciphertext, it.AAD)
		}
		if err != nil {
			out[i].Err = fault.Wrap(fault.Damaged, err, "does not open")
		}
	}
	return out, nil
}

// deadKMS fails every call.
type deadKMS struct{ err error }

func (d deadKMS) CreateKEK(context.Context, []string) ([]kmsapi.KEKInfo, error) { return nil, d.err }
func (d deadKMS) Seal(context.Context, []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	return nil, d.err
}
func (d deadKMS) Open(context.Context, []kmsapi.OpenItem) ([]kmsapi.OpenResult, error) {
	return nil, d.err
}
