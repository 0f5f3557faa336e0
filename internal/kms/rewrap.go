package kms

import (
	"cmp"
	"context"
	"errors"

	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Rewrap wraps each item's DEK by the primary of its KEK: a thread's DEK, named
// by its key ID, in its row; the wrapped DEK of an envelope for the caller to
// keep. What is under the primary already comes back as it is, once it was
// opened. Ciphertexts stay as they are. An item fails with fault.NotFound,
// fault.Invalid, fault.Unopenable (an envelope's), fault.Damaged (a thread's),
// or fault.Conflict of type "kek_worn_out".
func (s *Service) Rewrap(ctx context.Context, items []kmsapi.RewrapItem) ([]kmsapi.RewrapResult, error) {
	if err := checkBatch(len(items)); err != nil {
		return nil, err
	}
	out := make([]kmsapi.RewrapResult, len(items))
	seen := map[string]bool{} // KEKs that this call has read anew
	for i, item := range items {
		switch {
		case (item.KeyID == "") == (item.KEKID == ""), item.KeyID != "" && (item.KEKVersion != 0 || len(item.WrappedDEK)+len(item.AAD) != 0):
			out[i].Err = fault.New(fault.Invalid, "an item names either a key ID alone or an envelope's KEK, version, wrapped DEK and AAD")
		case item.KeyID == "":
			out[i] = s.rewrapEnvelope(ctx, item, seen)
		}
	}
	if err := s.rewrapThreads(ctx, items, out); err != nil {
		return nil, asFault(err)
	}
	return out, nil
}

func (s *Service) rewrapEnvelope(ctx context.Context, item kmsapi.RewrapItem, seen map[string]bool) kmsapi.RewrapResult {
	wrapped, version, err := s.rewrapWrapped(ctx, item, seen)
	if err != nil {
		return kmsapi.RewrapResult{Err: asFault(err)}
	}
	return kmsapi.RewrapResult{WrappedDEK: wrapped, KEKID: item.KEKID, KEKVersion: version}
}

func (s *Service) rewrapWrapped(ctx context.Context, item kmsapi.RewrapItem, seen map[string]bool) ([]byte, uint32, error) {
	get := s.freshKEK
	if seen[item.KEKID] {
		get = s.kek
	}
	k, err := get(ctx, item.KEKID)
	if err != nil {
		return nil, 0, err
	}
	defer s.keks.release(k)
	seen[item.KEKID] = true
	aad := envelopeAAD(item.KEKID, item.AAD)
	key, err := unwrapDEK(k.key.Keyring, item.KEKVersion, item.WrappedDEK, aad)
	if err != nil {
		return nil, 0, err
	}
	key.Wipe()
	if item.KEKVersion == k.key.Primary() {
		return item.WrappedDEK, item.KEKVersion, nil
	}
	for {
		to, err := s.wrapping(ctx, item.KEKID, 1)
		if err != nil {
			return nil, 0, err
		}
		wrapped, version, err := to.key.Rewrap(item.KEKVersion, item.WrappedDEK, aad)
		stands, lookErr := s.stands(ctx, to)
		s.keks.release(to)
		if stands || lookErr != nil {
			return wrapped, version, cmp.Or(lookErr, err)
		}
	}
}

// rewrapThreads does the items that name a key ID, in one commit.
func (s *Service) rewrapThreads(ctx context.Context, items []kmsapi.RewrapItem, out []kmsapi.RewrapResult) error {
	byID := map[string]kmsapi.RewrapResult{}
	for i, item := range items {
		if item.KeyID != "" && out[i].Err == nil {
			byID[item.KeyID] = kmsapi.RewrapResult{}
		}
	}
	if len(byID) == 0 {
		return nil
	}
	err := store.Retry(ctx, func() error { return s.tryRewrapThreads(ctx, byID) })
	for i, item := range items {
		if r, ok := byID[item.KeyID]; ok && out[i].Err == nil {
			out[i] = r
		}
	}
	return err
}

// tryRewrapThreads is one try: store.ErrConflict means that a row, or the KEK,
// was changed meanwhile.
func (s *Service) tryRewrapThreads(ctx context.Context, byID map[string]kmsapi.RewrapResult) error {
	k, err := s.wrapping(ctx, kmsapi.ThreadsKEK, int64(len(byID)))
	if err != nil {
		return err
	}
	defer s.keks.release(k)
	var b store.Batch
	var events []audit.Event
	for keyID := range byID {
		rec, row, err := s.row(ctx, keyID)
		before := rec.KEKVersion
		if before > k.key.Primary() && s.forgetIfStale(ctx, k.key.ID(), k.key.rev) {
			return store.ErrConflict
		}
		if err == nil {
			rec, err = rewrapRow(k.key.Keyring, keyID, rec, row, &b)
		}
		byID[keyID] = kmsapi.RewrapResult{WrappedDEK: rec.Wrapped, KEKID: rec.KEKID, KEKVersion: rec.KEKVersion, Err: asFault(err)}
		if err == nil && rec.KEKVersion != before {
			events = append(events, audit.Event{Action: "dek.rewrap", Target: keyID, Detail: map[string]any{"from": before, "kek_version": rec.KEKVersion}})
		}
	}
	return s.audited(ctx, events, func() error { return s.commitDEKs(ctx, k.key, &b) })
}

// rewrapRow puts the row of a DEK under ring's primary into b, unless it lies
// under it already, and returns what the row then says. It proves that the row
// opens, before and after. The commit needs what commitDEKs says.
func rewrapRow(ring *keyring.Keyring, keyID string, rec record, row store.Record, b *store.Batch) (record, error) {
	key, err := openRow(ring, keyID, rec, row.Value)
	if err != nil {
		return record{}, damagedDEK(err)
	}
	defer key.Wipe()
	if rec.KEKVersion == ring.Primary() {
		return rec, nil
	}
	aad := dekAAD(keyID, rec.ThreadID)
	if rec.Wrapped, rec.KEKVersion, err = ring.Rewrap(rec.KEKVersion, rec.Wrapped, aad); err != nil {
		return record{}, damagedDEK(err)
	}
	rec.Seals++ // the row's
	value, err := rec.marshal(key, keyID)
	if err != nil {
		return record{}, err
	}
	again, err := openRow(ring, keyID, rec, value)
	if err != nil {
		return record{}, errors.Join(errRewrap, err)
	}
	again.Wipe()
	b.RequireRevision(layout.DEK(keyID), row.Revision)
	b.Put(layout.DEK(keyID), value)
	return rec, nil
}

var errRewrap = fault.New(fault.Internal, "a DEK that was rewrapped does not open; nothing was changed")
