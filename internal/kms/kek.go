package kms

import (
	"context"
	"errors"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// CreateKEK makes a KEK under each of ids (1 to 128 of A-Z a-z 0-9 _ . -) that
// has none, all or nothing, and answers all of them. Callers who race for one
// ID get the same KEK.
func (s *Service) CreateKEK(ctx context.Context, ids []string) ([]kmsapi.KEKInfo, error) {
	if err := checkBatch(len(ids)); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if !validID(id) {
			return nil, fault.New(fault.Invalid, "a KEK ID is 1 to 128 letters, digits, '_', '.' and '-'")
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
	made := map[string]bool{}
	var b store.Batch
	for i, id := range ids {
		primary, err := s.primary(ctx, id)
		if errors.Is(err, fault.NotFound) {
			primary, err = 1, nil
			if !made[id] {
				made[id], err = true, s.makeKEK(ctx, id, &b)
			}
		}
		if err != nil {
			return nil, err
		}
		infos[i] = kmsapi.KEKInfo{KEKID: id, Version: primary}
	}
	if len(made) == 0 {
		return infos, nil
	}
	if _, err := s.store.Commit(ctx, &b); err != nil {
		return nil, err
	}
	return infos, nil
}

func (s *Service) makeKEK(ctx context.Context, id string, b *store.Batch) error {
	ring, err := keyring.New(ctx, s.root, id, s.now())
	if err != nil {
		return err
	}
	defer ring.Wipe()
	b.RequireAbsent(layout.KEK(id))
	b.Put(layout.KEK(id), ring.Marshal())
	return nil
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

// kek takes the keyring of a KEK, from the cache or the store. The caller
// releases it.
func (s *Service) kek(ctx context.Context, id string) (*slot[*keyring.Keyring], error) {
	if ring := s.keks.take(id); ring != nil {
		return ring, nil
	}
	if !validID(id) {
		return nil, fault.New(fault.NotFound, "there is no KEK of this ID")
	}
	rec, err := s.store.Get(ctx, layout.KEK(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault.New(fault.NotFound, "there is no KEK of this ID")
	} else if err != nil {
		return nil, asFault(err)
	}
	ring, err := keyring.Parse(ctx, s.root, id, rec.Value)
	if err != nil {
		return nil, err
	}
	return s.keks.add(id, ring)
}
