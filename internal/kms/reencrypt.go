package kms

import (
	"context"
	"sync"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// Reencrypt opens each item's envelope and then the value in it with the old key
// of a session, and seals both again: the value under the new key with a fresh
// nonce, in its form and version, the envelope under a fresh DEK and NewAAD. A
// value that opens with the new key alone stays as it is, in a fresh envelope.
//
// It fails with fault.NotFound of type kmsapi.TypeCMEKSessionGone. An item fails
// as Open's and Seal's do, and with fault.Unopenable of TypeCMEKNeitherKey when
// the envelope opens and the value does not.
func (s *Service) Reencrypt(ctx context.Context, session string, items []kmsapi.ReencryptItem) ([]kmsapi.ReencryptResult, error) {
	if err := checkBatch(len(items)); err != nil {
		return nil, err
	}
	r, err := s.useCMEKRotation(session)
	if err != nil {
		return nil, asFault(err)
	}
	defer r.release()
	out := make([]kmsapi.ReencryptResult, len(items))
	var wg sync.WaitGroup
	for from := 0; from < len(items); from += reencryptShare {
		wg.Go(func() {
			for i := from; i < min(from+reencryptShare, len(items)); i++ {
				out[i] = s.reencrypt(ctx, r, &items[i])
			}
		})
	}
	wg.Wait()
	return out, nil
}

// reencryptShare is how many items of a call one processor does while others do
// the rest.
const reencryptShare = 25

func (s *Service) reencrypt(ctx context.Context, r *cmekRotation, item *kmsapi.ReencryptItem) (out kmsapi.ReencryptResult) {
	var err error
	if out, err = s.reencrypted(ctx, r, item); err != nil {
		return kmsapi.ReencryptResult{Err: asFault(err)}
	}
	return out
}

func (s *Service) reencrypted(ctx context.Context, r *cmekRotation, item *kmsapi.ReencryptItem) (out kmsapi.ReencryptResult, err error) {
	blob, err := s.open(ctx, item.Envelope, item.AAD)
	if err != nil {
		return out, err
	}
	defer clear(blob)
	value, opened, err := r.reencrypt(string(blob), item.Path)
	if err != nil {
		return out, err
	}
	out.Opened = opened
	out.Envelope, err = s.seal(ctx, kmsapi.SealItem{KEKID: item.Envelope.KEKID, Plaintext: []byte(value), AAD: item.NewAAD})
	return out, err
}

// reencrypt returns value under the new key, and which key it was under.
func (r *cmekRotation) reencrypt(value, path string) (string, string, error) {
	at := cmek.Context{VaultID: r.vault, Path: path}
	if fresh, err := cmek.ReencryptValueAt(r.old, r.fresh, at, value); err == nil {
		r.done.Add(1)
		return fresh, kmsapi.OpenedOld, nil
	}
	plaintext, err := cmek.DecryptValueAt(r.fresh, at, value)
	clear(plaintext)
	if err != nil {
		return "", "", fault.Wrap(fault.Unopenable, err, "the value opens with neither key: it was sealed under another or for another path, or it was changed since").WithType(kmsapi.TypeCMEKNeitherKey)
	}
	return value, kmsapi.OpenedNew, nil
}
