package token

import (
	"sync"

	"github.com/keyfold/keyfold/internal/cachestat"
)

// verified is an access token whose signature and times were found good.
type verified struct {
	Claims
	kid     string // of the key that signed it
	revoked string // key of the row that is there when it is revoked
	size    int    // bytes that it takes, about
}

// digest is the SHA-256 of a token's text.
type digest = [32]byte

// cache holds verified tokens in two generations: what is found in the older
// one moves to the younger one, and when that is full the older one is dropped.
// So what is used stays, and no more than twice generationBytes is held. It
// knows nothing of time and revocation.
type cache struct {
	mu         sync.RWMutex
	young, old map[digest]*verified
	size       int // of young

	counts cachestat.Counts
}

// Cache tells how the cache of access tokens that were found good does.
func (s *Service) Cache() cachestat.Stats {
	c := &s.cache
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.counts.Stats(len(c.young) + len(c.old))
}

// Bounds, in bytes.
const (
	generationBytes = 16 << 20
	entryBytes      = 512 // of an entry, beside what its token's text is long
)

// get returns what was put under d, or nil.
func (c *cache) get(d digest) *verified {
	c.mu.RLock()
	v, ok := c.young[d]
	if !ok {
		v = c.old[d]
	}
	c.mu.RUnlock()
	c.counts.Looked(v != nil)
	if !ok && v != nil {
		c.put(d, v)
	}
	return v
}

func (c *cache) put(d digest, v *verified) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young == nil || c.size > generationBytes {
		c.young, c.old, c.size = map[digest]*verified{}, c.young, 0
	}
	if c.young[d] == nil {
		c.size += v.size
	}
	c.young[d] = v
}
