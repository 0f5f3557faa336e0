package storetest

import (
	"context"
	"slices"
	"sync"

	"github.com/keyfold/keyfold/internal/store"
)

// Reads is a store that reads ahead, as soon as it may, and notes what it is told to read
// ahead, what is asked for, and what it read at once. It is for tests of one goroutine.
type Reads struct {
	store.Store
	Told, Got []string
	Read      [][]string
}

// aheadOf is the key of a context under which what a Reads was told is.
type aheadOf struct{ *Reads }

// ahead is what was told at once.
type ahead struct {
	mu    sync.Mutex
	keys  []string
	found map[string]store.Record // of keys, once one was asked for
}

// Ahead is what [store.Ahead] does here.
func (r *Reads) Ahead(ctx context.Context, keys ...string) context.Context {
	r.Told = append(r.Told, keys...)
	a, ok := ctx.Value(aheadOf{r}).(*ahead)
	if !ok || !a.join(keys) {
		a = new(ahead)
		a.join(keys)
		ctx = context.WithValue(ctx, aheadOf{r}, a)
	}
	return ctx
}

// join adds keys, if none of a's was asked for, which it reports.
func (a *ahead) join(keys []string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.found != nil {
		return false
	}
	for _, k := range keys {
		if !slices.Contains(a.keys, k) {
			a.keys = append(a.keys, k)
		}
	}
	return true
}

// Get is [store.Store].Get.
func (r *Reads) Get(ctx context.Context, key string) (store.Record, error) {
	r.Got = append(r.Got, key)
	a, _ := ctx.Value(aheadOf{r}).(*ahead)
	if a == nil {
		return r.alone(ctx, key)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.Index(a.keys, key)
	if i < 0 {
		return r.alone(ctx, key)
	}
	if a.found == nil {
		r.Read = append(r.Read, slices.Clone(a.keys))
		a.found = map[string]store.Record{}
		for _, k := range a.keys {
			if rec, err := r.Store.Get(ctx, k); err == nil {
				a.found[k] = rec
			}
		}
	}
	a.keys = slices.Delete(a.keys, i, i+1)
	if rec, ok := a.found[key]; ok {
		return rec, nil
	}
	return store.Record{}, store.ErrNotFound
}

func (r *Reads) alone(ctx context.Context, key string) (store.Record, error) {
	r.Read = append(r.Read, []string{key})
	return r.Store.Get(ctx, key)
}
