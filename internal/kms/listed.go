package kms

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// ListKEKs returns a page of KEKs from the plain part of their rows. It asks the
// root key whether it can be used, and uses neither that nor any KEK, so that a page
// costs a token nothing. fault.Invalid: After or Limit.
func (s *Service) ListKEKs(ctx context.Context, q kmsapi.ListQuery) (kmsapi.KEKList, error) {
	if q.Limit < 0 || q.Limit > kmsapi.MaxBatch || q.After != "" && !validID(q.After) {
		return kmsapi.KEKList{}, fault.New(fault.Invalid, "a page has 1 to %d KEKs and begins after an ID", kmsapi.MaxBatch)
	}
	recs, next, err := s.page(ctx, layout.KEK(""), kmsapi.KeysQuery{After: q.After, Limit: defaulted(q.Limit, 100)})
	if err != nil {
		return kmsapi.KEKList{}, asFault(err)
	}
	list := kmsapi.KEKList{Root: s.root.Kind(), Locked: s.root.Check(ctx) != nil, WrapLimit: s.maxSeals, KEKs: []kmsapi.ListedKEK{}, Next: next}
	for _, rec := range recs {
		k, err := s.listKEK(ctx, rec, q.Count)
		if err != nil {
			return kmsapi.KEKList{}, asFault(err)
		}
		list.KEKs = append(list.KEKs, k)
	}
	return list, nil
}

// listKEK describes the KEK of a row. A row that cannot be read is no error: the
// others are listed with it.
func (s *Service) listKEK(ctx context.Context, rec store.Record, count bool) (k kmsapi.ListedKEK, err error) {
	k.ID = strings.TrimPrefix(rec.Key, layout.KEK(""))
	k.Versions = []kmsapi.KEKVersion{}
	versions, broken := keyring.Describe(rec.Value)
	row, err := s.store.Get(ctx, layout.KEKUse(k.ID))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return k, err
	}
	use, brokenUse := keyring.DescribeUse(row.Value)
	if k.Damaged = broken != nil || brokenUse != nil; k.Damaged {
		return k, nil
	}
	var deks map[uint32]int
	if count = count && k.ID == kmsapi.ThreadsKEK; count {
		if deks, err = s.countedDEKs(ctx); err != nil {
			return k, err
		}
	}
	for _, v := range versions {
		listed := describedVersion(v, use)
		if count {
			n := deks[v.Version]
			listed.DEKs = &n
		}
		k.Versions = append(k.Versions, listed)
	}
	return k, nil
}

// describedVersion is a version with what is counted of it.
func describedVersion(v keyring.VersionInfo, use keyring.Use) kmsapi.KEKVersion {
	return kmsapi.KEKVersion{
		Version: v.Version, State: v.State, Created: v.Created, Imported: v.Imported,
		Wraps: use.Wraps[v.Version], Released: v.Version < use.Released, Lost: v.Lost,
	}
}

// ListDEKs returns threads' DEKs from the plain part of their rows. It opens none.
// fault.TooLarge: more than MaxBatch key IDs; fault.Invalid: one that can be none.
func (s *Service) ListDEKs(ctx context.Context, keyIDs []string) (kmsapi.DEKList, error) {
	if err := checkBatch(len(keyIDs)); err != nil {
		return kmsapi.DEKList{}, err
	}
	list := kmsapi.DEKList{SealLimit: s.maxSeals, DEKs: []kmsapi.ListedDEK{}}
	for _, id := range keyIDs {
		if !validID(id) {
			return kmsapi.DEKList{}, fault.New(fault.Invalid, "key_ids holds what is no key ID")
		}
		row, err := s.store.Get(ctx, layout.DEK(id))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return kmsapi.DEKList{}, asFault(err)
		}
		list.DEKs = append(list.DEKs, listedDEK(id, row.Value))
	}
	return list, nil
}

func listedDEK(keyID string, row []byte) kmsapi.ListedDEK {
	rec, err := parseRow(row)
	if err != nil {
		return kmsapi.ListedDEK{DEK: kmsapi.DEK{KeyID: keyID}, Damaged: true}
	}
	return kmsapi.ListedDEK{DEK: rec.describe(keyID)}
}

// countAge is how old a count of DEKs may be that is answered again: whoever may
// list makes the key process read every row of a DEK no more often than this.
const countAge = time.Minute

// counted is the last count of threads' DEKs, by version of their KEK.
type counted struct {
	turn chan struct{} // holds a token while somebody counts or looks; guards all below
	at   time.Time
	deks map[uint32]int
}

// countedDEKs counts the rows of threads' DEKs by the version that they name, or
// returns a count of the last minute. It opens none.
func (s *Service) countedDEKs(ctx context.Context) (map[uint32]int, error) {
	c := &s.counted
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	began := s.now()
	if c.deks != nil && began.Sub(c.at) < countAge {
		return c.deks, nil
	}
	deks := map[uint32]int{}
	for row, err := range store.All(ctx, s.store, store.Prefix(layout.DEK(""))) {
		if err != nil {
			return nil, err
		}
		if rec, err := parseRow(row.Value); err == nil {
			deks[rec.KEKVersion]++
		}
	}
	c.deks, c.at = deks, began
	return deks, nil
}
