package store

import (
	"context"
	"slices"
	"sync"

	"github.com/keyfold/keyfold/internal/recent"
)

// Known remembers, under names, the keys of records that were read one after the other, so
// that whoever begins with the same name again reads them together. It holds nothing of
// what the records say: they are read each time, and who then needs others than were
// guessed has lost a little time. For an engine whose Gets cost next to nothing it does
// nothing.
type Known struct {
	s     Store
	mu    sync.Mutex // guards names
	names recent.Map[string, []string]
}

// maxKnown is of how many names the keys are remembered, at some 400 bytes each, and 2 kB of
// secrets with the longest paths; of names that are used in turn, one after another, of none
// if there are more.
const maxKnown = 40_000

// NewKnown is for records of s.
func NewKnown(s Store) *Known {
	return &Known{s: s, names: recent.NewMap[string, []string](maxKnown)}
}

// Ahead is [Ahead] of the keys that were remembered last under name, which it returns, not
// to be changed: none when nothing is known.
func (k *Known) Ahead(ctx context.Context, name string) (context.Context, []string) {
	k.mu.Lock()
	keys, ok := k.names.Get(name)
	k.mu.Unlock()
	if !ok {
		return ctx, nil
	}
	return Ahead(ctx, k.s, keys...), keys
}

// Remember is called once the records of keys were read, and it is clear that they were needed.
// Without keys, nothing is known under name any more.
func (k *Known) Remember(name string, keys ...string) {
	if _, does := As[aheader](k.s); !does {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(keys) == 0 {
		k.names.Delete(name)
		return
	}
	k.names.Put(name, slices.Clone(keys))
}
