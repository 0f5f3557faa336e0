package kms

import (
	"context"
	"strings"
	"time"

	"github.com/keyfold/keyfold/internal/cachestat"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// How many rows KeyAges reads at most. There is a KEK per vault; IDs of DEKs are
// random, and so the first ones are a sample of all.
const (
	agedKEKs = 100_000
	agedDEKs = 1000
)

// serverKEK is the ID of the KEK over the server's own secrets.
const serverKEK = "server"

// KeyAges returns of each kind of key since when the oldest of it is in use: of KEKs
// their primaries ("threads", "server", "audit", "vault" and of threads' DEKs
// ("thread_dek") a sample. "root" is when the root key made the first version of the
// threads' KEK. It uses no key, and so proves nothing; rows that cannot be read are
// left out. A kind of which there is none is missing.
func (s *Service) KeyAges(ctx context.Context) (map[string]time.Time, error) {
	oldest := map[string]time.Time{}
	note := func(kind string, t time.Time) {
		if was, ok := oldest[kind]; !ok || t.Before(was) {
			oldest[kind] = t
		}
	}
	n := 0
	for rec, err := range store.All(ctx, s.store, store.Prefix(layout.KEK(""))) {
		if err != nil {
			return nil, asFault(err)
		}
		id := strings.TrimPrefix(rec.Key, layout.KEK(""))
		versions, err := keyring.Describe(rec.Value)
		if err == nil && len(versions) > 0 {
			note(kekKind(id), versions[len(versions)-1].Created)
			if id == kmsapi.ThreadsKEK {
				note("root", versions[0].Created)
			}
		}
		if n++; n == agedKEKs {
			break
		}
	}
	recs, err := s.store.Scan(ctx, store.Prefix(layout.DEK("")), store.ScanOptions{Limit: agedDEKs})
	if err != nil {
		return nil, asFault(err)
	}
	for _, rec := range recs {
		if row, err := parseRow(rec.Value); err == nil {
			note("thread_dek", row.Created)
		}
	}
	return oldest, nil
}

func kekKind(id string) string {
	switch id {
	case kmsapi.ThreadsKEK, serverKEK:
		return id
	case auditKEK:
		return "audit"
	}
	return "vault"
}

// Caches tells how the caches of keys do.
func (s *Service) Caches() cachestat.Collector {
	return cachestat.Collector{"keks": s.keks.stats, "deks": s.deks.stats, "cmek_keys": s.cmeks.stats}
}
