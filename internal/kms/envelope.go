package kms

import (
	"context"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
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
// KEK), fault.TooLarge, fault.Invalid (a KEK that is not for envelopes), or
// fault.Conflict of type "kek_worn_out" (the KEK must be rotated).
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
	if !wrapsEnvelopes(item.KEKID) {
		return kmsapi.Envelope{}, fault.New(fault.Invalid, "the KEK %q is not for envelopes; name a vault's", item.KEKID)
	}
	for {
		k, err := s.wrapping(ctx, item.KEKID, 1)
		if err != nil {
			return kmsapi.Envelope{}, err
		}
		k.key.uses[useSeal].Add(1)
		e, err := sealEnvelope(k.key.Keyring, item.Plaintext, envelopeAAD(item.KEKID, item.AAD))
		stands, lookErr := s.stands(ctx, k)
		s.keks.release(k)
		switch {
		case lookErr != nil:
			return kmsapi.Envelope{}, lookErr
		case stands:
			return e, err
		}
	}
}

// wrapsEnvelopes reports whether a KEK may be used for Seal. Of those that may
// not the KMS knows by itself what they wrap.
func wrapsEnvelopes(kekID string) bool {
	return kekID != kmsapi.ThreadsKEK && kekID != auditKEK && kekID != cmekKEK
}

// sealEnvelope seals plaintext under a fresh DEK, wrapped by ring's primary.
func sealEnvelope(ring *keyring.Keyring, plaintext, aad []byte) (kmsapi.Envelope, error) {
	key, wrapped, version, err := freshDEK(ring, aad)
	if err != nil {
		return kmsapi.Envelope{}, err
	}
	defer key.Wipe()
	ciphertext, err := key.Seal(plaintext, aad)
	if err != nil {
		return kmsapi.Envelope{}, err
	}
	return kmsapi.Envelope{KEKID: ring.ID(), KEKVersion: version, WrappedDEK: wrapped, Ciphertext: ciphertext}, nil
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
	for {
		k, err := s.kekOf(ctx, e.KEKID, e.KEKVersion)
		if err != nil {
			return nil, err
		}
		k.key.uses[useOpen].Add(1)
		plaintext, err := openEnvelope(k.key.Keyring, e, envelopeAAD(e.KEKID, callerAAD))
		stands, lookErr := s.stands(ctx, k)
		s.keks.release(k)
		if stands {
			return plaintext, err
		}
		clear(plaintext)
		if lookErr != nil {
			return nil, lookErr
		}
	}
}

func openEnvelope(ring *keyring.Keyring, e kmsapi.Envelope, aad []byte) ([]byte, error) {
	key, err := unwrapDEK(ring, e.KEKVersion, e.WrappedDEK, aad)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	return key.Open(e.Ciphertext, aad)
}

// envelopeRow is how an envelope of the KMS's own is stored. Its KEK follows
// from the row's key.
//
//	{"kek_version":1,"wrapped":"<base64 of 60 bytes>","ciphertext":"<base64>"}
type envelopeRow struct {
	KEKVersion uint32 `json:"kek_version"`
	Wrapped    []byte `json:"wrapped"`
	Ciphertext []byte `json:"ciphertext"`
}

func marshalEnvelope(e kmsapi.Envelope) ([]byte, error) {
	return json.Marshal(envelopeRow{KEKVersion: e.KEKVersion, Wrapped: e.WrappedDEK, Ciphertext: e.Ciphertext})
}

// parseEnvelope reads a row under a KEK. It fails with aead.ErrOpen: an error of
// JSON may quote the row.
func parseEnvelope(kekID string, text []byte) (kmsapi.Envelope, error) {
	var row envelopeRow
	if json.Unmarshal(text, &row, json.RejectUnknownMembers(true)) != nil {
		return kmsapi.Envelope{}, aead.ErrOpen
	}
	return kmsapi.Envelope{KEKID: kekID, KEKVersion: row.KEKVersion, WrappedDEK: row.Wrapped, Ciphertext: row.Ciphertext}, nil
}
