package kms

import (
	"context"
	"errors"
	"strings"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Keys returns a page of KEKs or of threads' DEKs, and proves on the way that
// they open. A KEK that does not is fault.Damaged; a DEK whose row does not is
// listed by its key ID alone. fault.Invalid: After or Limit.
func (s *Service) Keys(ctx context.Context, q kmsapi.KeysQuery) (kmsapi.Keys, error) {
	if q.Limit < 0 || q.Limit > kmsapi.MaxBatch || q.After != "" && !validID(q.After) {
		return kmsapi.Keys{}, fault.New(fault.Invalid, "a page has 1 to %d keys and begins after an ID", kmsapi.MaxBatch)
	}
	list := s.listKEKs
	if q.DEKs {
		list = s.listDEKs
	}
	q.Limit = defaulted(q.Limit, 100)
	keys, err := list(ctx, q)
	return keys, asFault(err)
}

// page returns the rows of a page, and where the next one begins.
func (s *Service) page(ctx context.Context, prefix string, q kmsapi.KeysQuery) (recs []store.Record, next string, err error) {
	cursor := ""
	if q.After != "" {
		cursor = prefix + q.After
	}
	recs, err = s.after(ctx, prefix, cursor, q.Limit+1)
	if len(recs) > q.Limit {
		recs = recs[:q.Limit]
		next = strings.TrimPrefix(recs[q.Limit-1].Key, prefix)
	}
	return recs, next, err
}

func (s *Service) listKEKs(ctx context.Context, q kmsapi.KeysQuery) (keys kmsapi.Keys, err error) {
	recs, next, err := s.page(ctx, layout.KEK(""), q)
	if err != nil {
		return keys, err
	}
	keys.Next = next
	for _, rec := range recs {
		id := strings.TrimPrefix(rec.Key, layout.KEK(""))
		var described kmsapi.KEK
		err := store.Retry(ctx, func() (err error) {
			described, err = s.describeKEK(ctx, id, q.Count)
			return err
		})
		if err != nil {
			return kmsapi.Keys{}, err
		}
		keys.KEKs = append(keys.KEKs, described)
	}
	return keys, nil
}

func (s *Service) describeKEK(ctx context.Context, id string, count bool) (kmsapi.KEK, error) {
	ring, rev, err := s.readKEK(ctx, id)
	if err != nil {
		return kmsapi.KEK{}, err
	}
	defer ring.Wipe()
	use, _, err := s.use(ctx, ring, rev)
	if err != nil {
		return kmsapi.KEK{}, err
	}
	var deks map[uint32]int
	if count && id == kmsapi.ThreadsKEK {
		if deks, _, err = s.countDEKs(ctx, ring, rev); err != nil {
			return kmsapi.KEK{}, err
		}
	}
	k := kmsapi.KEK{ID: id}
	for _, v := range ring.Versions() {
		described := describedVersion(v, use)
		if count {
			n := deks[v.Version]
			described.DEKs = &n
		}
		k.Versions = append(k.Versions, described)
	}
	return k, nil
}

func (s *Service) listDEKs(ctx context.Context, q kmsapi.KeysQuery) (keys kmsapi.Keys, err error) {
	recs, next, err := s.page(ctx, layout.DEK(""), q)
	if err != nil {
		return keys, err
	}
	keys.Next = next
	for _, row := range recs {
		described, err := s.describeDEK(ctx, strings.TrimPrefix(row.Key, layout.DEK("")), row)
		if err != nil {
			return kmsapi.Keys{}, err
		}
		keys.DEKs = append(keys.DEKs, described)
	}
	return keys, nil
}

func (s *Service) describeDEK(ctx context.Context, keyID string, row store.Record) (kmsapi.DEK, error) {
	rec, err := parseRow(row.Value)
	if err != nil {
		return kmsapi.DEK{KeyID: keyID}, nil
	}
	key, err := s.unwrap(ctx, keyID, rec, row)
	if err != nil {
		if f := damagedDEK(err); errors.Is(f, fault.Unavailable) {
			return kmsapi.DEK{}, f
		}
		return kmsapi.DEK{KeyID: keyID}, nil
	}
	key.Wipe()
	return rec.describe(keyID), nil
}

// describe is what is told of a DEK by its row.
func (rec record) describe(keyID string) kmsapi.DEK {
	return kmsapi.DEK{KeyID: keyID, ThreadID: rec.ThreadID, KEKID: rec.KEKID, KEKVersion: rec.KEKVersion, Version: rec.Version, Created: rec.Created, Seals: rec.Seals}
}
