// Package kms is the key process in process: it makes KEKs and DEKs and is the
// only one to use them. Its callers name keys and hand over plaintext or
// ciphertext, many items in one call; raw keys never leave it.
//
// It owns the rows kek:* and dek:* of its store. It trusts its root key and
// this process's memory, and not the store: a row that was edited, shortened or
// moved opens nothing. An older row put back whole does open, and a DEK's count
// of seals is then too low: the limit leaves room for a restored backup, not for
// an attacker who does it again and again.
//
// After a crash everything answered is there: a key is answered only when its
// row is on stable storage. What a crash loses is reserved seals (see dek).
package kms

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Limits of one item, in bytes.
const (
	MaxPlaintext = 32 << 20
	MaxAAD       = 64 << 10
)

// maxSeals is how many seals a DEK makes at most: half of the 2^32 at which
// random nonces under one key begin to be a risk. The other half is room for a
// store that was restored from a backup and so forgot some.
const maxSeals = 1 << 31

// Config is what a Service stands on. Zero numbers mean the stated default.
type Config struct {
	Store        store.Store      // stays the caller's to close, after the Service
	Root         keyring.Root     // stays the caller's to wipe
	CacheEntries int              // 10000; so many DEKs and so many KEKs are kept ready
	MaxSeals     int64            // 2^31, which is also the most; a DEK that has made so many must be rotated
	SealBlock    int64            // 4096, at least 2; so many seals are reserved by one write of the store
	Now          func() time.Time // time.Now
}

// Service is the KMS. It may be used by many goroutines, and many Services may
// share a store.
type Service struct {
	store    store.Store
	root     keyring.Root
	now      func() time.Time
	maxSeals int64
	block    int64
	keks     *cache[*keyring.Keyring]
	deks     *cache[*dek]
}

// New opens the KMS in cfg.Store. In an empty store it makes the KEK of the
// threads. When the root key does not open what is stored it fails with
// fault.Damaged and has changed nothing.
func New(ctx context.Context, cfg Config) (*Service, error) {
	s, err := fromConfig(cfg)
	if err != nil {
		return nil, err
	}
	used, err := s.storeIsUsed(ctx) // before the look for the KEK: another process may make it in between
	if err != nil {
		return nil, asFault(err)
	}
	_, err = s.primary(ctx, kmsapi.ThreadsKEK)
	switch {
	case errors.Is(err, fault.NotFound) && used:
		return nil, fault.New(fault.Damaged, "the key store holds keys but not the KEK %q; restore it from its backup", kmsapi.ThreadsKEK)
	case errors.Is(err, fault.NotFound):
		_, err = s.CreateKEK(ctx, []string{kmsapi.ThreadsKEK})
	}
	if err != nil {
		return nil, fmt.Errorf("open the KMS: %w", err)
	}
	return s, nil
}

func fromConfig(cfg Config) (*Service, error) {
	entries := defaulted(cfg.CacheEntries, 10_000)
	s := &Service{
		store: cfg.Store, root: cfg.Root, now: cfg.Now,
		maxSeals: defaulted(cfg.MaxSeals, maxSeals), block: defaulted(cfg.SealBlock, 4096),
		keks: newCache[*keyring.Keyring](entries), deks: newCache[*dek](entries),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if entries < 1 || s.block < 2 || s.maxSeals < s.block || s.maxSeals > maxSeals {
		return nil, fault.New(fault.Invalid, "KMS configuration: need CacheEntries >= 1 and 2 <= SealBlock <= MaxSeals <= 2^31")
	}
	return s, nil
}

func defaulted[N int | int64](n, def N) N {
	if n == 0 {
		return def
	}
	return n
}

// storeIsUsed reports whether there is any key in the store.
func (s *Service) storeIsUsed(ctx context.Context) (bool, error) {
	for _, prefix := range []string{layout.KEK(""), layout.DEK("")} {
		recs, err := s.store.Scan(ctx, store.Prefix(prefix), store.ScanOptions{Limit: 1})
		if err != nil || len(recs) > 0 {
			return err == nil, err
		}
	}
	return false, nil
}

// Close wipes every key. Calls that are running finish; later ones fail with
// fault.Unavailable.
func (s *Service) Close() {
	s.deks.close()
	s.keks.close()
}
