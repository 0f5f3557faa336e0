// Package memstore is the in-memory twin of the engines: the whole contract of
// package store except the disk. Nothing survives the process. It is meant for
// tests and for trying things out.
package memstore

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"github.com/keyfold/keyfold/internal/store"
)

// Store keeps records in memory. The zero value is an empty store, ready for
// use by any number of goroutines. It must not be copied.
type Store struct {
	mu      sync.RWMutex // guards all below
	keys    []string     // sorted; the keys of records
	records map[string]store.Record
	closed  bool
}

var _ store.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store { return new(Store) }

// Get is [store.Store].Get.
func (s *Store) Get(ctx context.Context, key string) (store.Record, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return store.Record{}, err
	}
	r, ok := s.records[key]
	if !ok {
		return store.Record{}, store.ErrNotFound
	}
	return clone(r), nil
}

// Scan is [store.Store].Scan.
func (s *Store) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	keys := s.within(r)
	out, size := make([]store.Record, 0, min(len(keys), opt.Max())), 0
	for i := range keys {
		if opt.Full(len(out), size) {
			break
		}
		k := keys[i]
		if opt.Reverse {
			k = keys[len(keys)-1-i]
		}
		out = append(out, clone(s.records[k]))
		size += len(out[i].Value)
	}
	return out, nil
}

// within returns the keys of r, sorted.
func (s *Store) within(r store.Range) []string {
	from, _ := slices.BinarySearch(s.keys, r.Start)
	to := len(s.keys)
	if r.End != "" {
		to, _ = slices.BinarySearch(s.keys, r.End)
	}
	return s.keys[from:max(from, to)]
}

// Commit is [store.Store].Commit.
func (s *Store) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	if err := b.Validate(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	for _, p := range b.Preconditions {
		if s.records[p.Key].Revision != p.Revision {
			return 0, store.ErrConflict
		}
	}
	if len(b.Writes) == 0 {
		return 0, nil
	}
	rev := store.NewRevision()
	for _, w := range b.Writes {
		if w.Delete {
			s.remove(w.Key)
		} else {
			s.put(store.Record{Key: w.Key, Value: bytes.Clone(w.Value), Revision: rev})
		}
	}
	return rev, nil
}

func (s *Store) put(r store.Record) {
	if i, found := slices.BinarySearch(s.keys, r.Key); !found {
		s.keys = slices.Insert(s.keys, i, r.Key)
	}
	if s.records == nil {
		s.records = make(map[string]store.Record)
	}
	s.records[r.Key] = r
}

func (s *Store) remove(key string) {
	if i, found := slices.BinarySearch(s.keys, key); found {
		s.keys = slices.Delete(s.keys, i, i+1)
		delete(s.records, key)
	}
}

// Close is [store.Store].Close. It forgets the records.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	s.closed, s.keys, s.records = true, nil, nil
	return nil
}

func (s *Store) usable(ctx context.Context) error {
	if s.closed {
		return store.ErrClosed
	}
	return ctx.Err()
}

func clone(r store.Record) store.Record {
	r.Value = bytes.Clone(r.Value)
	return r
}
