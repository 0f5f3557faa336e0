package kms

import (
	"container/list"
	"errors"
	"sync"
)

var errClosed = errors.New("the KMS was closed")

// cache keeps the keys used last, at most max of them. A key that leaves it is
// wiped: at once when nobody uses it, else by the last who lets go of it. So an
// eviction never makes a call fail, and for that time there are more than max
// keys in memory.
type cache[K interface{ Wipe() }] struct {
	max int

	mu     sync.Mutex // guards all below, and users and gone of every slot
	slots  map[string]*list.Element
	recent *list.List // of *slot[K], the one used last at the front
	closed bool
	wiped  int // so many keys were wiped; for tests
}

// slot holds a key for those who took it.
type slot[K any] struct {
	id    string
	key   K
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
	return c.find(id)
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

// add puts key under id and takes it. If there is one already, that is taken
// and key is wiped. After close it wipes key and fails.
func (c *cache[K]) add(id string, key K) (*slot[K], error) {
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
	c.slots[id] = c.recent.PushFront(s)
	for len(c.slots) > c.max {
		c.evict(c.recent.Back())
	}
	return s, nil
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
