package pebblestore

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// compactions are those that Pebble has under way, by the number of their job.
type compactions struct {
	mu  sync.Mutex
	now map[int]chan struct{} // closed when it ends
}

// listener keeps c as Pebble's compactions begin and end.
func (c *compactions) listener() pebble.EventListener {
	return pebble.EventListener{
		CompactionBegin: func(i pebble.CompactionInfo) { c.begin(i.JobID) },
		CompactionEnd:   func(i pebble.CompactionInfo) { c.end(i.JobID) },
	}
}

func (c *compactions) begin(job int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil {
		c.now = map[int]chan struct{}{}
	}
	c.now[job] = make(chan struct{})
}

func (c *compactions) end(job int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ended, ok := c.now[job]; ok {
		delete(c.now, job)
		close(ended)
	}
}

// ended waits until those that are under way now have ended.
func (c *compactions) ended(ctx context.Context) error {
	c.mu.Lock()
	running := slices.Collect(maps.Values(c.now))
	c.mu.Unlock()
	for _, ended := range running {
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
