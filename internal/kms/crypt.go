package kms

import (
	"context"
	"strconv"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// ciphertextAAD is what a ciphertext under a thread's DEK is bound to: kind,
// key ID, key version and the caller's AAD.
func ciphertextAAD(d *dek, aad []byte) []byte {
	return aead.AAD("keyfold/ciphertext/v1", d.id, strconv.FormatUint(uint64(d.version), 10), string(aad))
}

// Encrypt seals each item under the DEK that it names. An item fails with
// fault.NotFound (no such key ID), fault.TooLarge, fault.Damaged (the DEK's row
// does not open), or fault.Conflict of type "dek_worn_out" (the thread's DEK
// must be rotated).
func (s *Service) Encrypt(ctx context.Context, items []kmsapi.EncryptItem) ([]kmsapi.EncryptResult, error) {
	if err := checkBatch(len(items)); err != nil {
		return nil, err
	}
	keys := s.hold(ctx, len(items), func(i int) string { return items[i].KeyID }, useEncrypt)
	defer keys.release()
	out := make([]kmsapi.EncryptResult, len(items))
	for i, item := range items {
		out[i] = encrypt(keys.item[i], item)
	}
	if !s.stand(ctx, keys) {
		for i, h := range keys.item {
			if h.err != nil {
				out[i] = kmsapi.EncryptResult{Err: h.err}
			}
		}
	}
	return out, nil
}

func encrypt(h *held, item kmsapi.EncryptItem) kmsapi.EncryptResult {
	if h.err != nil {
		return kmsapi.EncryptResult{Err: h.err}
	}
	if err := checkSizes(item.Plaintext, item.AAD); err != nil {
		return kmsapi.EncryptResult{Err: err}
	}
	d := h.slot.key
	ciphertext, err := d.key.Seal(item.Plaintext, ciphertextAAD(d, item.AAD))
	if err != nil {
		return kmsapi.EncryptResult{Err: asFault(err)}
	}
	return kmsapi.EncryptResult{Ciphertext: ciphertext, KeyVersion: d.version}
}

// Decrypt opens each item under the DEK that it names. An item fails with
// fault.NotFound (no such key ID), fault.Damaged (the DEK's row does not open)
// or fault.Unopenable, for every cause the same.
func (s *Service) Decrypt(ctx context.Context, items []kmsapi.DecryptItem) ([]kmsapi.DecryptResult, error) {
	if err := checkBatch(len(items)); err != nil {
		return nil, err
	}
	keys := s.hold(ctx, len(items), func(i int) string { return items[i].KeyID }, useDecrypt)
	defer keys.release()
	out := make([]kmsapi.DecryptResult, len(items))
	for i, item := range items {
		out[i] = decrypt(keys.item[i], item)
	}
	if !s.stand(ctx, keys) {
		for i, h := range keys.item {
			if h.err != nil {
				clear(out[i].Plaintext)
				out[i] = kmsapi.DecryptResult{Err: h.err}
			}
		}
	}
	return out, nil
}

func decrypt(h *held, item kmsapi.DecryptItem) kmsapi.DecryptResult {
	if h.err != nil {
		return kmsapi.DecryptResult{Err: h.err}
	}
	d := h.slot.key
	plaintext, err := d.key.Open(item.Ciphertext, ciphertextAAD(d, item.AAD))
	return kmsapi.DecryptResult{Plaintext: plaintext, Err: asFault(err)}
}
