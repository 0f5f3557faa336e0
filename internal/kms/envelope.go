package kms

import (
	"context"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// envelopeAAD is what an envelope's ciphertext and, through the keyring, its
// wrapped DEK are bound to: kind, KEK ID and the caller's AAD. The KEK version
// is bound to the wrapped DEK alone, so that a rewrap leaves the ciphertext.
func envelopeAAD(kekID string, aad []byte) []byte {
	return aead.AAD("keyfold/envelope/v1", kekID, string(aad))
}

// Seal seals each item under a DEK of its own, which is used once and wrapped
// by the primary of the item's KEK. An item fails with fault.NotFound (no such
// KEK) or fault.TooLarge.
func (s *Service) Seal(ctx context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	if err := checkBatch(len(items)); err != nil {
		return nil, err
	}
	out := make([]kmsapi.SealResult, len(items))
	for i, item := range items {
		envelope, err := s.seal(ctx, item)
		out[i] = kmsapi.SealResult{Envelope: envelope, Err: asFault(err)}
	}
	return out, nil
}

func (s *Service) seal(ctx context.Context, item kmsapi.SealItem) (kmsapi.Envelope, error) {
	if err := checkSizes(item.Plaintext, item.AAD); err != nil {
		return kmsapi.Envelope{}, err
	}
	ring, err := s.kek(ctx, item.KEKID)
	if err != nil {
		return kmsapi.Envelope{}, err
	}
	defer s.keks.release(ring)
	raw := aead.GenerateRaw()
	defer clear(raw)
	aad := envelopeAAD(item.KEKID, item.AAD)
	wrapped, version, err := ring.key.Wrap(raw, aad)
	if err != nil {
		return kmsapi.Envelope{}, err
	}
	key, err := aead.NewKey(raw)
	if err != nil {
		return kmsapi.Envelope{}, err
	}
	defer key.Wipe()
	ciphertext, err := key.Seal(item.Plaintext, aad)
	if err != nil {
		return kmsapi.Envelope{}, err
	}
	return kmsapi.Envelope{KEKID: item.KEKID, KEKVersion: version, WrappedDEK: wrapped, Ciphertext: ciphertext}, nil
}

// Open opens envelopes. An item fails with fault.NotFound (no such KEK) or
// fault.Unopenable, for every cause the same.
func (s *Service) Open(ctx context.Context, items []kmsapi.OpenItem) ([]kmsapi.OpenResult, error) {
	if err := checkBatch(len(items)); err != nil {
		return nil, err
	}
	out := make([]kmsapi.OpenResult, len(items))
	for i, item := range items {
		plaintext, err := s.open(ctx, item.Envelope, item.AAD)
		out[i] = kmsapi.OpenResult{Plaintext: plaintext, Err: asFault(err)}
	}
	return out, nil
}

func (s *Service) open(ctx context.Context, e kmsapi.Envelope, callerAAD []byte) ([]byte, error) {
	ring, err := s.kek(ctx, e.KEKID)
	if err != nil {
		return nil, err
	}
	defer s.keks.release(ring)
	aad := envelopeAAD(e.KEKID, callerAAD)
	raw, err := ring.key.Unwrap(e.KEKVersion, e.WrappedDEK, aad)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	key, err := aead.NewKey(raw)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	return key.Open(e.Ciphertext, aad)
}
