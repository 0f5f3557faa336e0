package kms

import (
	"context"
	"errors"
	"strings"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// ShredDEK takes a thread's DEK away for ever: from the store and from this
// process. What it sealed opens no more. It takes a row that does not open, too.
// It fails with fault.NotFound.
func (s *Service) ShredDEK(ctx context.Context, keyID string) error {
	if !validID(keyID) {
		return errNoDEK
	}
	_, err := s.store.Get(ctx, layout.DEK(keyID))
	if errors.Is(err, store.ErrNotFound) {
		return errNoDEK
	} else if err != nil {
		return asFault(err)
	}
	return asFault(s.Audited(ctx, "dek.shred", keyID, nil, func() error {
		defer s.deks.drop(keyID) // whatever the error: the row may be gone
		var b store.Batch
		b.Delete(layout.DEK(keyID)) // every other write of the row requires that it is there
		_, err := s.store.Commit(ctx, &b)
		return err
	}))
}

// DestroyKEKVersion takes one version of a KEK away for ever. It never takes the
// primary, and no version that is in use (fault.Conflict of type
// "kek_version_in_use"): of the threads' KEK, while a DEK lies under it, or one
// whose row does not open; of any other, until ReleaseKEK said that its
// envelopes have moved on. When it fails, the version is destroyed or as it was,
// and the call can be repeated. fault.NotFound: no such KEK or version.
func (s *Service) DestroyKEKVersion(ctx context.Context, kekID string, version uint32) error {
	return asFault(store.Retry(ctx, func() error { return s.destroy(ctx, kekID, version) }))
}

// destroy is one try: store.ErrConflict means that the KEK was changed meanwhile.
func (s *Service) destroy(ctx context.Context, kekID string, version uint32) error {
	ring, rev, err := s.readKEK(ctx, kekID)
	if err != nil {
		return err
	}
	defer ring.Wipe()
	switch {
	case version == 0 || version > ring.Primary():
		return fault.New(fault.NotFound, "this KEK has no such version; it has 1 to %d", ring.Primary())
	case version == ring.Primary():
		return fault.New(fault.Conflict, "version %d is the primary; rotate the KEK first", version).WithType("kek_version_in_use")
	}
	use, useRev, err := s.use(ctx, ring, rev)
	if err != nil {
		return err
	}
	done := ring.Versions()[version-1].State == "destroyed" // perhaps short of the root's part
	if !done {
		if err := s.checkUnused(ctx, ring, rev, version, use); err != nil {
			return err
		}
	}
	return s.Audited(ctx, "kek.destroy", kekID, map[string]any{"kek_version": version}, func() error {
		if !done {
			if err := s.commitDestroyed(ctx, ring, rev, version, use, useRev); err != nil {
				return err
			}
		}
		// Here the version is destroyed, whatever comes: no row holds its material.
		return ring.DestroyIn(ctx, s.root, version)
	})
}

// checkUnused fails unless nothing needs the version any more. It is no primary,
// so that what it counts cannot grow (see commitDEKs), nor what it was told change.
func (s *Service) checkUnused(ctx context.Context, ring *keyring.Keyring, rev store.Revision, version uint32, use keyring.Use) error {
	switch ring.ID() {
	case kmsapi.ThreadsKEK:
		return s.checkNoDEKs(ctx, ring, rev, version)
	case cmekKEK:
		return s.checkNoCMEK(ctx, version)
	case auditKEK:
		row, _, err := s.auditRow(ctx)
		if err == nil && row.KEKVersion == version {
			err = inUse("the audit's key lies under it; rotate the KEK again")
		}
		return err
	}
	if version >= use.Released {
		return inUse("the server may hold secrets under it; run its rewrap of this vault to the end first")
	}
	return nil
}

func (s *Service) checkNoDEKs(ctx context.Context, ring *keyring.Keyring, rev store.Revision, version uint32) error {
	counts, bad, err := s.countDEKs(ctx, ring, rev)
	switch {
	case err != nil:
		return err
	case counts[version] > 0:
		return inUse("%d DEKs of threads lie under it; rotate the KEK, or wait for the job that rewraps them", counts[version])
	case bad.n > 0:
		return inUse("%d stored DEKs do not open, and may lie under it: restore them from a backup or shred them; the first are %s",
			bad.n, strings.Join(bad.first, ", "))
	}
	return nil
}

func inUse(format string, args ...any) error {
	return fault.New(fault.Conflict, "this version of the KEK is in use: "+format, args...).WithType("kek_version_in_use")
}

// unopened is DEKs whose rows do not open.
type unopened struct {
	n     int
	first []string // key IDs, at most 10
}

// countDEKs reads every DEK's row and counts, by version of ring, those that
// open under it. ring was read at rev.
func (s *Service) countDEKs(ctx context.Context, ring *keyring.Keyring, rev store.Revision) (map[uint32]int, unopened, error) {
	counts, bad := map[uint32]int{}, unopened{}
	for row, err := range store.All(ctx, s.store, store.Prefix(layout.DEK(""))) {
		if err != nil {
			return nil, bad, err
		}
		keyID := strings.TrimPrefix(row.Key, layout.DEK(""))
		rec, err := parseRow(row.Value)
		if err == nil && rec.KEKVersion > ring.Primary() && s.forgetIfStale(ctx, ring.ID(), rev) {
			return nil, bad, store.ErrConflict
		}
		if err == nil {
			key, openErr := openRow(ring, keyID, rec, row.Value)
			if err = openErr; err == nil {
				key.Wipe()
			} else if f := damagedDEK(err); errors.Is(f, fault.Unavailable) {
				return nil, bad, f
			}
		}
		if err == nil {
			counts[rec.KEKVersion]++
			continue
		}
		if bad.n++; len(bad.first) < 10 {
			bad.first = append(bad.first, keyID)
		}
	}
	return counts, bad, nil
}

// commitDestroyed commits a keyring without the material of version, and what
// is counted of the KEK sealed by the primary: it may have been by version.
func (s *Service) commitDestroyed(ctx context.Context, ring *keyring.Keyring, rev store.Revision, version uint32, use keyring.Use, useRev store.Revision) error {
	next, err := ring.Destroy(ctx, s.root, version)
	if err != nil {
		return err
	}
	defer next.Wipe()
	row, err := next.MarshalUse(use.Add(next.Primary(), 1))
	if err != nil {
		return err
	}
	var b store.Batch
	b.RequireRevision(layout.KEK(ring.ID()), rev)
	b.Put(layout.KEK(ring.ID()), next.Marshal())
	b.RequireRevision(layout.KEKUse(ring.ID()), useRev)
	b.Put(layout.KEKUse(ring.ID()), row)
	_, err = s.store.Commit(ctx, &b)
	s.keks.drop(ring.ID()) // whatever the error: the row may have been written
	return err
}
