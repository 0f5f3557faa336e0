package kmsclient

import (
	"cmp"
	"errors"
	"slices"
	"sync"

	"github.com/keyfold/keyfold/internal/fault"
)

// maxHomes is how many homes are remembered; then all are forgotten.
const maxHomes = 4096

// homes remembers which place has what lives in the memory of one key process:
// sessions of CMEK rotations and one-time keys for them. What it does not know, as
// after a start, is searched for.
type homes struct {
	mu sync.Mutex // guards of
	of map[string]*place
}

func (h *homes) get(id string) *place {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.of[id]
}

func (h *homes) put(id string, p *place) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil || len(h.of) >= maxHomes {
		h.of = map[string]*place{}
	}
	h.of[id] = p
}

func (h *homes) forget(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.of, id)
}

// search calls do with the place that has id, or, where that is not known, with
// each until has says that it was the one. Its error is the last one's, or
// fault.Unavailable of one that could have been it and did not answer.
func (c *Client) search(id string, do func(at *place) (has bool, err error)) error {
	if len(c.places) == 1 {
		_, err := do(nil)
		return err
	}
	if p := c.homes.get(id); p != nil {
		_, err := do(p)
		return err
	}
	var away, last error
	for _, p := range c.livingFirst() {
		has, err := do(p)
		switch {
		case has:
			c.homes.put(id, p)
			return err
		case errors.Is(err, fault.Unavailable):
			away = err
		default:
			last = err
		}
	}
	return cmp.Or(away, last)
}

func (c *Client) livingFirst() []*place {
	c.state.Lock()
	defer c.state.Unlock()
	return slices.SortedStableFunc(slices.Values(c.places), func(a, b *place) int {
		switch {
		case a.alive == b.alive:
			return 0
		case a.alive:
			return -1
		}
		return 1
	})
}
