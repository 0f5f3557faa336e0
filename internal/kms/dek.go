package kms

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// dek is a thread's DEK, ready for use. It counts its seals. (The seal of a row
// that met a conflict, or of one that was rewrapped, goes uncounted or over the
// limit by one; the limit has room.)
type dek struct {
	id      string
	version uint32
	key     *aead.Key
	allowance
	uses uses
}

// Wipe makes the DEK unusable.
func (d *dek) Wipe() { d.key.Wipe() }

func (s *Service) collectDEK(id string, d *dek) {
	if n, any := d.uses.take(); any {
		s.tally.add(layout.DEK(id), n)
	}
}

// dekVersion is the version of every DEK: a thread whose DEK is rotated gets
// another key ID.
const dekVersion = 1

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
	var out []kmsapi.CreateDEKResult
	err := store.Retry(ctx, func() (err error) {
		out, err = s.createDEKs(ctx, items)
		return err
	})
	return out, asFault(err)
}

// createDEKs is one try: store.ErrConflict means that the KEK was rotated.
func (s *Service) createDEKs(ctx context.Context, items []kmsapi.CreateDEKItem) ([]kmsapi.CreateDEKResult, error) {
	ring, err := s.wrapping(ctx, kmsapi.ThreadsKEK, int64(len(items)))
	if err != nil {
		return nil, err
	}
	defer s.keks.release(ring)
	epoch := s.deks.epoch()
	out := make([]kmsapi.CreateDEKResult, len(items))
	var made []*dek
	var events []audit.Event
	var b store.Batch
	for i, item := range items {
		d, info, err := s.makeDEK(ring.key.Keyring, item.ThreadID, &b)
		if err == nil {
			made = append(made, d)
			if s.audit != nil {
				events = append(events, audit.Event{Action: "dek.create", Target: info.KeyID, Detail: map[string]any{"thread": item.ThreadID, "kek_version": info.KEKVersion}})
			}
		}
		out[i] = kmsapi.CreateDEKResult{DEK: info, Err: asFault(err)}
	}
	err = s.audited(ctx, events, func() error { return s.commitDEKs(ctx, ring.key, &b) })
	if err != nil {
		for _, d := range made {
			d.Wipe()
		}
		return nil, err
	}
	for _, d := range made {
		if kept, err := s.deks.add(d.id, d, epoch); err == nil {
			s.deks.release(kept)
		}
	}
	return out, nil
}

// commitDEKs commits rows of DEKs that k wrapped, if there are any.
//
// Every commit by which a DEK comes to lie under another KEK version than before,
// or under one at all, goes through here or through the rewrap job's step, and
// requires the KEK's row at the revision at which that version was the primary.
// So once a rotation is committed, no DEK comes under an older version any more:
// a job that reads all rows after it finds all of them, and a count of rows
// under an older version can only fall.
func (s *Service) commitDEKs(ctx context.Context, k *kek, b *store.Batch) error {
	if len(b.Writes) == 0 {
		return nil
	}
	b.RequireRevision(layout.KEK(k.ID()), k.rev)
	_, err := s.store.Commit(ctx, b)
	if errors.Is(err, store.ErrConflict) {
		s.forgetIfStale(ctx, k.ID(), k.rev)
	}
	return err
}

func (s *Service) makeDEK(ring *keyring.Keyring, threadID string, b *store.Batch) (*dek, kmsapi.DEKInfo, error) {
	if !validID(threadID) {
		return nil, kmsapi.DEKInfo{}, fault.New(fault.Invalid, "a thread ID is 1 to 128 letters, digits, '_', '.' and '-'")
	}
	keyID := "dek-" + uuid.NewString()
	key, wrapped, kekVersion, err := freshDEK(ring, dekAAD(keyID, threadID))
	if err != nil {
		return nil, kmsapi.DEKInfo{}, err
	}
	rec := record{ThreadID: threadID, KEKID: ring.ID(), KEKVersion: kekVersion, Wrapped: wrapped, Version: dekVersion, Created: s.now().UTC(), Seals: s.block}
	row, err := rec.marshal(key, keyID)
	if err != nil {
		key.Wipe()
		return nil, kmsapi.DEKInfo{}, err
	}
	b.RequireAbsent(layout.DEK(keyID))
	b.Put(layout.DEK(keyID), row)
	d := &dek{id: keyID, version: rec.Version, key: key}
	d.left.Store(s.block - 1) // one was the row's
	return d, kmsapi.DEKInfo{KeyID: keyID, WrappedDEK: wrapped, KEKID: rec.KEKID, KEKVersion: kekVersion}, nil
}

// freshDEK makes a DEK and wraps it by ring's primary, bound to aad. Its raw
// bytes are cleared when it returns.
func freshDEK(ring *keyring.Keyring, aad []byte) (key *aead.Key, wrapped []byte, version uint32, err error) {
	raw := aead.GenerateRaw()
	defer clear(raw)
	if wrapped, version, err = ring.Wrap(raw, aad); err == nil {
		key, err = aead.NewKey(raw)
	}
	return key, wrapped, version, err
}

// unwrapDEK returns the DEK that version of ring wrapped, ready for use. Its raw
// bytes are cleared when it returns.
func unwrapDEK(ring *keyring.Keyring, version uint32, wrapped, aad []byte) (*aead.Key, error) {
	raw, err := ring.Unwrap(version, wrapped, aad)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	return aead.NewKey(raw)
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

// dek takes a DEK from the store. The caller releases it.
func (s *Service) dek(ctx context.Context, keyID string) (*slot[*dek], error) {
	epoch := s.deks.epoch()
	d, _, err := s.load(ctx, keyID)
	if err != nil {
		return nil, err
	}
	return s.deks.add(keyID, d, epoch)
}

// load reads a DEK from the store, with no seals reserved.
func (s *Service) load(ctx context.Context, keyID string) (*dek, record, error) {
	for {
		rec, row, err := s.row(ctx, keyID)
		if err != nil {
			return nil, record{}, err
		}
		key, err := s.unwrap(ctx, keyID, rec, row)
		if err == nil {
			return &dek{id: keyID, version: rec.Version, key: key}, rec, nil
		}
		// It may have been rewrapped, and its old KEK version destroyed, since it was read.
		if now, again := s.store.Get(ctx, row.Key); again != nil || now.Revision == row.Revision {
			return nil, record{}, damagedDEK(err)
		}
	}
}

var errNoDEK = fault.New(fault.NotFound, "there is no DEK of this key ID")

// row reads the row of a DEK, not yet authenticated.
func (s *Service) row(ctx context.Context, keyID string) (record, store.Record, error) {
	if !validID(keyID) {
		return record{}, store.Record{}, errNoDEK
	}
	row, err := s.store.Get(ctx, layout.DEK(keyID))
	if errors.Is(err, store.ErrNotFound) {
		return record{}, row, errNoDEK
	} else if err != nil {
		return record{}, row, asFault(err)
	}
	rec, err := parseRow(row.Value)
	if err != nil {
		return record{}, row, fault.Wrap(fault.Damaged, err, "the stored DEK of this key ID does not parse; restore the key store from its backup")
	}
	return rec, row, nil
}

// unwrap returns the DEK of a row and authenticates the row with it.
func (s *Service) unwrap(ctx context.Context, keyID string, rec record, row store.Record) (*aead.Key, error) {
	k, err := s.kek(ctx, rec.KEKID)
	if err == nil && rec.KEKVersion > k.key.Primary() { // another process rotated and rewrapped
		s.keks.release(k)
		k, err = s.freshKEK(ctx, rec.KEKID)
	}
	if err != nil {
		return nil, err
	}
	defer s.keks.release(k)
	return openRow(k.key.Keyring, keyID, rec, row.Value)
}

// openRow returns the DEK of a row that ring wrapped, and authenticates the row with it.
func openRow(ring *keyring.Keyring, keyID string, rec record, row []byte) (*aead.Key, error) {
	if rec.KEKID != ring.ID() {
		return nil, aead.ErrOpen
	}
	key, err := unwrapDEK(ring, rec.KEKVersion, rec.Wrapped, dekAAD(keyID, rec.ThreadID))
	if err != nil {
		return nil, err
	}
	if err := authenticate(key, keyID, row); err != nil {
		key.Wipe()
		return nil, err
	}
	return key, nil
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
	granted := grant(n, s.block, rec.Seals, s.maxSeals)
	if granted == 0 {
		return fault.New(fault.Conflict, "this DEK has made as many seals as it may; rotate the thread's DEK").WithType("dek_worn_out")
	}
	rec.Seals += granted
	value, err := rec.marshal(d.key, d.id)
	if err != nil {
		return err
	}
	var b store.Batch
	b.RequireRevision(layout.DEK(d.id), row.Revision) // as it was read: it stays under its KEK version, which commitDEKs speaks of
	b.Put(layout.DEK(d.id), value)
	if _, err := s.store.Commit(ctx, &b); err != nil {
		return err
	}
	d.left.Add(granted - 1)
	return nil
}
