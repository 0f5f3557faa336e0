package kms

import (
	"context"
	"errors"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// wrapping takes a KEK with n wraps by its primary. The caller releases it. It
// fails with fault.Conflict of type "kek_worn_out" at the limit.
func (s *Service) wrapping(ctx context.Context, id string, n int64) (*slot[*kek], error) {
	var k *slot[*kek]
	err := store.Retry(ctx, func() (err error) {
		if k, err = s.kek(ctx, id); err != nil {
			return err
		}
		if err = s.takeWraps(ctx, k.key, n); err != nil {
			s.keks.release(k)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	k.key.uses[useWrap].Add(n)
	return k, nil
}

// takeWraps uses n wraps of k's primary, of which it reserves more when they
// run out. store.ErrConflict: try again with s.kek.
func (s *Service) takeWraps(ctx context.Context, k *kek, n int64) error {
	if k.wraps.take(n) {
		return nil
	}
	k.wraps.mu.Lock()
	defer k.wraps.mu.Unlock()
	for !k.wraps.take(n) {
		if err := s.reserveWraps(ctx, k, n); err != nil {
			return err
		}
	}
	return nil
}

// reserveWraps adds a block of wraps to the count of k's primary, enough for n
// beside the one that the row costs. It requires k's own row as it was read:
// so a process that missed a rotation learns of it here.
func (s *Service) reserveWraps(ctx context.Context, k *kek, n int64) error {
	use, rev, err := s.use(ctx, k.Keyring, k.rev)
	if err != nil {
		return err
	}
	granted := grant(n, s.block, use.Wraps[k.Primary()], s.maxSeals)
	if granted == 0 {
		return fault.New(fault.Conflict, "this version of the KEK %q has wrapped as many DEKs as it may; rotate the KEK", k.ID()).WithType("kek_worn_out")
	}
	err = s.commitUse(ctx, k.Keyring, k.rev, use.Add(k.Primary(), granted), rev)
	if errors.Is(err, store.ErrConflict) {
		s.forgetIfStale(ctx, k.ID(), k.rev)
	}
	if err != nil {
		return err
	}
	k.wraps.left.Add(granted - 1)
	return nil
}

// use reads what is counted of a KEK, of which ring was read at ringRev.
// Revision 0: nothing yet. store.ErrConflict: ring is not the newest any more.
func (s *Service) use(ctx context.Context, ring *keyring.Keyring, ringRev store.Revision) (keyring.Use, store.Revision, error) {
	rec, err := s.store.Get(ctx, layout.KEKUse(ring.ID()))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return keyring.Use{}, 0, err
	}
	use, err := ring.ParseUse(rec.Value)
	switch {
	case errors.Is(err, keyring.ErrNewer) && s.forgetIfStale(ctx, ring.ID(), ringRev):
		err = store.ErrConflict
	case errors.Is(err, keyring.ErrNewer):
		err = fault.Wrap(fault.Damaged, err, "what is counted of a KEK was changed; restore the key store from its backup")
	}
	return use, rec.Revision, err
}

// commitUse writes what is counted of a KEK in the place of revision rev (0:
// nothing), if the keyring still stands at ringRev.
func (s *Service) commitUse(ctx context.Context, ring *keyring.Keyring, ringRev store.Revision, use keyring.Use, rev store.Revision) error {
	row, err := ring.MarshalUse(use)
	if err != nil {
		return err
	}
	var b store.Batch
	b.RequireRevision(layout.KEK(ring.ID()), ringRev)
	b.RequireRevision(layout.KEKUse(ring.ID()), rev)
	b.Put(layout.KEKUse(ring.ID()), row)
	_, err = s.store.Commit(ctx, &b)
	return err
}

// forgetIfStale drops a KEK from the cache unless its row still stands at rev.
func (s *Service) forgetIfStale(ctx context.Context, id string, rev store.Revision) bool {
	rec, err := s.store.Get(ctx, layout.KEK(id))
	stale := errors.Is(err, store.ErrNotFound) || err == nil && rec.Revision != rev
	if stale {
		s.keks.drop(id)
	}
	return stale
}

// ReleaseKEK takes the caller's word that it holds no wrapped DEK of its own
// under versions of a KEK below the given one: from then on they may be
// destroyed. below is at most the primary, so that none of them can wrap any
// more. It fails with fault.Invalid or fault.NotFound.
func (s *Service) ReleaseKEK(ctx context.Context, kekID string, below uint32) error {
	return asFault(store.Retry(ctx, func() error {
		ring, rev, err := s.readKEK(ctx, kekID)
		if err != nil {
			return err
		}
		defer ring.Wipe()
		if below == 0 || below > ring.Primary() {
			return fault.New(fault.Invalid, "only versions before the primary can be released: below is 1 to %d; rotate the KEK first", ring.Primary())
		}
		use, useRev, err := s.use(ctx, ring, rev)
		if err != nil || use.Released >= below {
			return err
		}
		use.Released = below
		return s.Audited(ctx, "kek.release", kekID, map[string]any{"below": below}, func() error {
			return s.commitUse(ctx, ring, rev, use.Add(ring.Primary(), 1), useRev)
		})
	}))
}
