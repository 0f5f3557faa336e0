package store

import (
	"context"
	"slices"
	"sync"
)

// Known remembers, under names, the keys of records that were read one after the other, so
// that whoever begins with the same name again reads them together. It holds nothing of
// what the records say: they are read each time, and who then needs others than were
// guessed has lost a little time. For an engine whose Gets cost next to nothing it does
// nothing.
type Known struct {
	s     Store
	mu    sync.RWMutex
	names map[string][]string
}

// maxKnown is of how many names the keys are remembered, at some 400 bytes each, and 2 kB of
// secrets with the longest paths. One more and all are forgotten.
const maxKnown = 10_000

// NewKnown is for records of s.
func NewKnown(s Store) *Known { return &Known{s: s, names: map[string][]string{}} }

// Ahead is [Ahead] of the keys that were remembered last under name, which it returns:
// none when nothing is known.
func (k *Known) Ahead(ctx context.Context, name string) (context.Context, []string) {
	k.mu.RLock()
	keys := k.names[name]
	k.mu.RUnlock()
	if keys == nil {
		return ctx, nil
	}
	return Ahead(ctx, k.s, keys...), keys
}

// Remember is called once it is clear which keys were needed.
func (k *Known) Remember(name string, keys ...string) {
	if _, does := As[aheader](k.s); !does {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.names) == maxKnown {
		clear(k.names)
	}
	k.names[name] = slices.Clone(keys)
}
