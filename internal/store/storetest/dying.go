package storetest

import (
	"context"
	"sync"

	"github.com/keyfold/keyfold/internal/store"
)

// DyingStore is a store of a process that is killed at a commit, which takes
// effect or does not: whatever is asked of it from then on fails with
// store.ErrClosed. What is under it lives on for the next process.
type DyingStore struct {
	store.Store
	At    int           // the commit, counted from 1
	Takes bool          // it takes effect, and its answer is lost
	Died  chan struct{} // nil, or closed then

	mu      sync.Mutex // guards what is below
	commits int
}

// Dead reports whether commit At was asked for.
func (d *DyingStore) Dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.commits >= d.At
}

// Get fails once the store is dead.
func (d *DyingStore) Get(ctx context.Context, key string) (store.Record, error) {
	if d.Dead() {
		return store.Record{}, store.ErrClosed
	}
	return d.Store.Get(ctx, key)
}

// Scan fails once the store is dead.
func (d *DyingStore) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	if d.Dead() {
		return nil, store.ErrClosed
	}
	return d.Store.Scan(ctx, r, opt)
}

// Commit fails from commit At on.
func (d *DyingStore) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.commits++
	if d.commits < d.At {
		return d.Store.Commit(ctx, b)
	}
	if d.commits == d.At {
		if d.Takes {
			d.Store.Commit(ctx, b)
		}
		if d.Died != nil {
			close(d.Died)
		}
	}
	return 0, store.ErrClosed
}
