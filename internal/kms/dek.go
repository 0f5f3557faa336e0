package kms

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// dek is a thread's DEK, ready for use.
//
// It counts its seals by reservation: before it seals, it adds a block to the
// count in its row, durably, and then uses the block up in memory. A crash or
// an eviction wastes what is left of the block and never counts a seal too few.
// (The seal of a row that met a conflict goes uncounted; the limit has room.)
type dek struct {
	id      string
	version uint32
	key     *aead.Key
	left    atomic.Int64 // seals reserved and not used
	mu      sync.Mutex   // held while reserving
}

// Wipe makes the DEK unusable.
func (d *dek) Wipe() { d.key.Wipe() }

// take uses n reserved seals, if there are as many.
func (d *dek) take(n int64) bool {
	for {
		left := d.left.Load()
		if left < n {
			return false
		}
		if d.left.CompareAndSwap(left, left-n) {
			return true
		}
	}
}

// dekAAD is what a thread's wrapped DEK is bound to, through the keyring, which
// adds KEK ID and version: kind, key ID, thread ID.
func dekAAD(keyID, threadID string) []byte {
	return aead.AAD("keyfold/thread-dek/v1", keyID, threadID)
}

// CreateDEK makes a DEK for each thread, named by a fresh key ID. When it
// answers, all of them are on stable storage. An item fails with fault.Invalid
// (thread ID: 1 to 128 of A-Z a-z 0-9 _ . -).
func (s *Service) CreateDEK(ctx context.Context, items []kmsapi.CreateDEKItem) ([]kmsapi.CreateDEKResult, error) {
	if err := checkBatch(len(items)); err != nil {
		return nil, err
	}
	ring, err := s.kek(ctx, kmsapi.ThreadsKEK)
	if err != nil {
		return nil, asFault(err)
	}
	defer s.keks.release(ring)
	out := make([]kmsapi.CreateDEKResult, len(items))
	var made []*dek
	var b store.Batch
	for i, item := range items {
		d, info, err := s.makeDEK(ring.key, item.ThreadID, &b)
		if err == nil {
			made = append(made, d)
		}
		out[i] = kmsapi.CreateDEKResult{DEK: info, Err: asFault(err)}
	}
	if _, err := s.store.Commit(ctx, &b); err != nil {
		for _, d := range made {
			d.Wipe()
		}
		return nil, asFault(err)
	}
	for _, d := range made {
		if kept, err := s.deks.add(d.id, d); err == nil {
			s.deks.release(kept)
		}
	}
	return out, nil
}

func (s *Service) makeDEK(ring *keyring.Keyring, threadID string, b *store.Batch) (*dek, kmsapi.DEKInfo, error) {
	if !validID(threadID) {
		return nil, kmsapi.DEKInfo{}, fault.New(fault.Invalid, "a thread ID is 1 to 128 letters, digits, '_', '.' and '-'")
	}
	raw := aead.GenerateRaw()
	defer clear(raw)
	key, err := aead.NewKey(raw)
	if err != nil {
		return nil, kmsapi.DEKInfo{}, err
	}
	keyID := "dek-" + uuid.NewString()
	wrapped, kekVersion, err := ring.Wrap(raw, dekAAD(keyID, threadID))
	if err != nil {
		return nil, kmsapi.DEKInfo{}, err
	}
	rec := record{ThreadID: threadID, KEKID: ring.ID(), KEKVersion: kekVersion, Wrapped: wrapped, Version: 1, Created: s.now().UTC(), Seals: s.block}
	row, err := rec.marshal(key, keyID)
	if err != nil {
		return nil, kmsapi.DEKInfo{}, err
	}
	b.RequireAbsent(layout.DEK(keyID))
	b.Put(layout.DEK(keyID), row)
	d := &dek{id: keyID, version: rec.Version, key: key}
	d.left.Store(s.block - 1) // one was the row's
	return d, kmsapi.DEKInfo{KeyID: keyID, WrappedDEK: wrapped, KEKID: rec.KEKID, KEKVersion: kekVersion}, nil
}

// GetWrapped returns a DEK as it is stored, wrapped (60 bytes). It fails with
// fault.NotFound or fault.Damaged.
func (s *Service) GetWrapped(ctx context.Context, keyID string) ([]byte, error) {
	d, rec, err := s.load(ctx, keyID)
	if err != nil {
		return nil, err
	}
	d.Wipe()
	return rec.Wrapped, nil
}

// dek takes a DEK, from the cache or the store. The caller releases it.
func (s *Service) dek(ctx context.Context, keyID string) (*slot[*dek], error) {
	if d := s.deks.take(keyID); d != nil {
		return d, nil
	}
	d, _, err := s.load(ctx, keyID)
	if err != nil {
		return nil, err
	}
	return s.deks.add(keyID, d)
}

// load reads a DEK from the store, with no seals reserved.
func (s *Service) load(ctx context.Context, keyID string) (*dek, record, error) {
	rec, row, err := s.row(ctx, keyID)
	if err != nil {
		return nil, record{}, err
	}
	key, err := s.unwrap(ctx, keyID, rec)
	if err != nil {
		return nil, record{}, damagedDEK(err)
	}
	if err := authenticate(key, keyID, row.Value); err != nil {
		key.Wipe()
		return nil, record{}, damagedDEK(err)
	}
	return &dek{id: keyID, version: rec.Version, key: key}, rec, nil
}

// row reads the row of a DEK, not yet authenticated.
func (s *Service) row(ctx context.Context, keyID string) (record, store.Record, error) {
	if !validID(keyID) {
		return record{}, store.Record{}, fault.New(fault.NotFound, "there is no DEK of this key ID")
	}
	row, err := s.store.Get(ctx, layout.DEK(keyID))
	if errors.Is(err, store.ErrNotFound) {
		return record{}, row, fault.New(fault.NotFound, "there is no DEK of this key ID")
	} else if err != nil {
		return record{}, row, asFault(err)
	}
	rec, err := parseRow(row.Value)
	if err != nil {
		return record{}, row, fault.Wrap(fault.Damaged, err, "the stored DEK of this key ID does not parse; restore the key store from its backup")
	}
	return rec, row, nil
}

func (s *Service) unwrap(ctx context.Context, keyID string, rec record) (*aead.Key, error) {
	ring, err := s.kek(ctx, rec.KEKID)
	if err != nil {
		return nil, err
	}
	defer s.keks.release(ring)
	raw, err := ring.key.Unwrap(rec.KEKVersion, rec.Wrapped, dekAAD(keyID, rec.ThreadID))
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	return aead.NewKey(raw)
}

// takeSeals uses n seals of d, of which it reserves more when they run out.
func (s *Service) takeSeals(ctx context.Context, d *dek, n int64) error {
	if d.take(n) {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.take(n) {
		if err := store.Retry(ctx, func() error { return s.reserve(ctx, d, n) }); err != nil {
			return asFault(err)
		}
	}
	return nil
}

// reserve adds a block of seals to the count in d's row, enough for n beside
// the one that the row costs. When it fails, at worst a block is wasted.
func (s *Service) reserve(ctx context.Context, d *dek, n int64) error {
	rec, row, err := s.row(ctx, d.id)
	if err != nil {
		return err
	}
	if err := authenticate(d.key, d.id, row.Value); err != nil {
		return damagedDEK(err)
	}
	granted := min(max(s.block, n+1), s.maxSeals-rec.Seals)
	if granted < n+1 {
		return fault.New(fault.Conflict, "this DEK has made as many seals as it may; rotate the thread's DEK").WithType("dek_worn_out")
	}
	rec.Seals += granted
	value, err := rec.marshal(d.key, d.id)
	if err != nil {
		return err
	}
	var b store.Batch
	b.RequireRevision(layout.DEK(d.id), row.Revision)
	b.Put(layout.DEK(d.id), value)
	if _, err := s.store.Commit(ctx, &b); err != nil {
		return err
	}
	d.left.Add(granted - 1)
	return nil
}
