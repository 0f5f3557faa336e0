package kms

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// kek is a KEK, ready for use. It counts the wraps of its primary.
type kek struct {
	*keyring.Keyring
	rev    store.Revision // of the row that it was read from
	wraps  allowance
	uses   uses
	look   sync.Mutex
	looked time.Time // when kekOf last looked for a newer row; guarded by look
}

// CreateKEK makes a KEK under each of ids (1 to 128 of A-Z a-z 0-9 _ . -) that
// has none, all or nothing, and answers all of them. Callers who race for one
// ID get the same KEK. "audit" and "cmek" are the KMS's own.
func (s *Service) CreateKEK(ctx context.Context, ids []string) ([]kmsapi.KEKInfo, error) {
	if err := checkBatch(len(ids)); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if !validID(id) {
			return nil, fault.New(fault.Invalid, "a KEK ID is 1 to 128 letters, digits, '_', '.' and '-'")
		}
		if id == auditKEK || id == cmekKEK {
			return nil, fault.New(fault.Invalid, "the KEK %q is the KMS's own; choose another ID", id)
		}
	}
	var infos []kmsapi.KEKInfo
	err := store.Retry(ctx, func() (err error) {
		infos, err = s.createKEKs(ctx, ids)
		return err
	})
	return infos, asFault(err)
}

// createKEKs is one try: store.ErrConflict means that another caller was faster.
func (s *Service) createKEKs(ctx context.Context, ids []string) ([]kmsapi.KEKInfo, error) {
	infos := make([]kmsapi.KEKInfo, len(ids))
	missing := map[string]bool{}
	var events []audit.Event
	for i, id := range ids {
		primary, err := s.primary(ctx, id)
		if errors.Is(err, fault.NotFound) {
			primary, err = 1, nil
			if !missing[id] {
				missing[id] = true
				events = append(events, audit.Event{Action: "kek.create", Target: id})
			}
		}
		if err != nil {
			return nil, err
		}
		infos[i] = kmsapi.KEKInfo{KEKID: id, Version: primary}
	}
	if err := s.audited(ctx, events, func() error { return s.makeKEKs(ctx, missing) }); err != nil {
		return nil, err
	}
	return infos, nil
}

func (s *Service) makeKEKs(ctx context.Context, ids map[string]bool) error {
	var b store.Batch
	var made []*keyring.Keyring
	defer func() {
		for _, ring := range made {
			ring.Wipe()
		}
	}()
	for id := range ids {
		ring, err := keyring.New(ctx, s.root, id, s.now())
		if err != nil {
			s.discard(ctx, made...)
			return err
		}
		made = append(made, ring)
		b.RequireAbsent(layout.KEK(id))
		b.Put(layout.KEK(id), ring.Marshal())
	}
	_, err := s.store.Commit(ctx, &b)
	if errors.Is(err, store.ErrConflict) {
		s.discard(ctx, made...)
	}
	return err
}

// discard takes out of the root the primaries of keyrings that were not stored
// and never will be. When that fails, objects that nobody uses stay in a token.
func (s *Service) discard(ctx context.Context, rings ...*keyring.Keyring) {
	for _, ring := range rings {
		if err := ring.DestroyIn(context.WithoutCancel(ctx), s.root, ring.Primary()); err != nil {
			s.log.Warn("the root keeps a KEK that is of no use", "kek_id", ring.ID(), "kek_version", ring.Primary(), "error", err)
		}
	}
}

// primary returns the number of the primary version of a KEK that is stored
// and opens.
func (s *Service) primary(ctx context.Context, id string) (uint32, error) {
	ring, err := s.kek(ctx, id)
	if err != nil {
		return 0, err
	}
	defer s.keks.release(ring)
	return ring.key.Primary(), nil
}

// kek takes a KEK, from the store or, once it was looked at in the last lookAge,
// from the cache. The caller releases it.
func (s *Service) kek(ctx context.Context, id string) (*slot[*kek], error) {
	k := s.keks.take(id)
	switch {
	case k == nil:
		return s.loadKEK(ctx, id)
	case k.seen.age() > lookAge:
		return s.looked(ctx, k)
	}
	return k, nil
}

// loadKEK is kek, past the cache.
func (s *Service) loadKEK(ctx context.Context, id string) (*slot[*kek], error) {
	epoch := s.keks.epoch()
	ring, rev, err := s.readKEK(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.keks.add(id, &kek{Keyring: ring, rev: rev}, epoch)
}

// readKEK reads a keyring from the store. The caller wipes it.
func (s *Service) readKEK(ctx context.Context, id string) (*keyring.Keyring, store.Revision, error) {
	if !validID(id) {
		return nil, 0, errNoKEK
	}
	rec, err := s.store.Get(ctx, layout.KEK(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, errNoKEK
	} else if err != nil {
		return nil, 0, asFault(err)
	}
	ring, err := keyring.Parse(ctx, s.root, id, rec.Value)
	return ring, rec.Revision, err
}

var errNoKEK = fault.New(fault.NotFound, "there is no KEK of this ID")

// freshKEK is kek, with what stands in the store now.
func (s *Service) freshKEK(ctx context.Context, id string) (*slot[*kek], error) {
	k, err := s.kek(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.looked(ctx, k)
}

// looked is k if it is what stands in the store now, else what does.
func (s *Service) looked(ctx context.Context, k *slot[*kek]) (*slot[*kek], error) {
	same, err := s.lookAtKEK(ctx, k)
	if same {
		return k, nil
	}
	s.keks.release(k)
	if err != nil {
		return nil, err
	}
	return s.loadKEK(ctx, k.id)
}

// lookPause is the shortest time between two looks for a version of one KEK
// that only the caller speaks of.
const lookPause = 100 * time.Millisecond

// kekOf is kek for what is under version. If the cached keyring does not know
// that version, another process may have rotated: it looks once. The version
// comes from a caller, who could name what never was, so that looks are bounded:
// between two of them the answer is what the cached keyring says.
func (s *Service) kekOf(ctx context.Context, id string, version uint32) (*slot[*kek], error) {
	k, err := s.kek(ctx, id)
	if err != nil || version <= k.key.Primary() {
		return k, err
	}
	defer s.keks.release(k)
	k.key.look.Lock()
	defer k.key.look.Unlock()
	if now := s.now(); now.Sub(k.key.looked) >= lookPause {
		k.key.looked = now
		return s.freshKEK(ctx, id)
	}
	return s.kek(ctx, id) // which somebody looked for, perhaps while we waited
}

func (s *Service) collectKEK(id string, k *kek) {
	if n, any := k.uses.take(); any {
		s.tally.add(layout.KEK(id), n)
	}
}
