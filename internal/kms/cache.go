package kms

import (
	"container/list"
	"errors"
	"sync"
	"time"

	"github.com/keyfold/keyfold/internal/cachestat"
)

var errClosed = errors.New("the KMS was closed")

// cache keeps the keys used last, at most max of them. A key that leaves it is
// wiped: at once when nobody uses it, else by the last who lets go of it. So an
// eviction never makes a call fail, and for that time there are more than max
// keys in memory.
type cache[K interface{ Wipe() }] struct {
	max    int
	leaves func(id string, key K) // called before the wipe of a key that was in the cache; may be nil

	counts cachestat.Counts

	mu     sync.Mutex // guards all below, and users and gone of every slot
	drops  int        // so many keys were dropped; see epoch
	slots  map[string]*list.Element
	recent *list.List // of *slot[K], the one used last at the front
	closed bool
	wiped  int // so many keys were wiped; for tests
}

// slot holds a key for those who took it.
type slot[K any] struct {
	id    string
	key   K
	seen  seen
	users int
	gone  bool // no longer in the cache
}

func newCache[K interface{ Wipe() }](max int) *cache[K] {
	return &cache[K]{max: max, slots: map[string]*list.Element{}, recent: list.New()}
}

// take returns the key of id, or nil when it is not there. The caller releases it.
func (c *cache[K]) take(id string) *slot[K] {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.find(id)
	c.counts.Looked(s != nil)
	return s
}

// stats tells how the cache does.
func (c *cache[K]) stats() cachestat.Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts.Stats(len(c.slots))
}

// find is take with c.mu held.
func (c *cache[K]) find(id string) *slot[K] {
	e := c.slots[id]
	if e == nil {
		return nil
	}
	c.recent.MoveToFront(e)
	s := e.Value.(*slot[K])
	s.users++
	return s
}

// epoch is a moment: how many drops there were, and the time.
type epoch struct {
	drops int
	at    time.Time
}

// epoch is to be asked before a key is read from the store, and given to add.
func (c *cache[K]) epoch() epoch {
	c.mu.Lock()
	defer c.mu.Unlock()
	return epoch{c.drops, time.Now()}
}

// add puts key under id and takes it. If there is one already, that is taken
// and key is wiped. After a drop since then, key may be what was dropped: it
// is for this caller alone, and does not stay. After close add wipes key and
// fails.
func (c *cache[K]) add(id string, key K, since epoch) (*slot[K], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.find(id); s != nil {
		c.wipe(key)
		return s, nil
	}
	if c.closed {
		c.wipe(key)
		return nil, errClosed
	}
	s := &slot[K]{id: id, key: key, users: 1}
	s.seen.note(since.at)
	if c.drops != since.drops {
		s.gone = true
		return s, nil
	}
	c.slots[id] = c.recent.PushFront(s)
	for len(c.slots) > c.max {
		c.evict(c.recent.Back())
		c.counts.Evicted()
	}
	return s, nil
}

// drop takes the key of id out: its row in the store has changed. No call that
// begins after it uses that key.
func (c *cache[K]) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drops++
	if e := c.slots[id]; e != nil {
		c.evict(e)
	}
}

// each calls f with every key.
func (c *cache[K]) each(f func(id string, key K)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, e := range c.slots {
		f(id, e.Value.(*slot[K]).key)
	}
}

func (c *cache[K]) wipe(key K) {
	key.Wipe()
	c.wiped++
}

// evict takes e out. c.mu is held.
func (c *cache[K]) evict(e *list.Element) {
	s := c.recent.Remove(e).(*slot[K])
	delete(c.slots, s.id)
	s.gone = true
	c.wipeIfFree(s)
}

func (c *cache[K]) release(s *slot[K]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.users--
	c.wipeIfFree(s)
}

func (c *cache[K]) wipeIfFree(s *slot[K]) {
	if s.gone && s.users == 0 {
		if c.leaves != nil {
			c.leaves(s.id, s.key)
		}
		c.wipe(s.key)
	}
}

// close takes every key out and takes no more.
func (c *cache[K]) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for e := c.recent.Back(); e != nil; e = c.recent.Back() {
		c.evict(e)
	}
}
