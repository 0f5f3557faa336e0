package kmsserver

import (
	"container/list"
	"net"
	"sync"
)

// How many connections there may be: fresh ones, which have not yet sent a
// request of a listed caller (the TLS handshake included), and known ones.
const (
	maxFresh = 256
	maxKnown = 1024
)

// conns bounds connections. One too many ends the oldest of the peer who has
// the most of them: it is never refused, and whoever has few loses none.
type conns struct {
	mu    sync.Mutex // guards both pools, and pool, peer and place of every conn
	fresh pool
	known pool
}

// pool is connections of one kind by their peer, the oldest first.
type pool struct {
	max, n, ended int
	of            map[string]*list.List // of *conn
}

// conn is one connection of a listener.
type conn struct {
	net.Conn
	uid    *uint32 // of the other end; nil on TCP
	caller *known  // nil until a request showed who it is; belongs to the goroutine that serves

	conns *conns
	pool  *pool // nil: closed
	peer  string
	place *list.Element
}

func newConns(fresh, known int) *conns {
	return &conns{
		fresh: pool{max: fresh, of: map[string]*list.List{}},
		known: pool{max: known, of: map[string]*list.List{}},
	}
}

// add takes up a new connection of peer.
func (cs *conns) add(c *conn, peer string) {
	c.conns = cs
	cs.mu.Lock()
	ended := cs.fresh.put(c, peer)
	cs.mu.Unlock()
	ended.end()
}

// promote moves c, which is fresh, to the known connections of peer.
func (cs *conns) promote(c *conn, peer string) {
	cs.mu.Lock()
	var ended *conn
	if c.pool != nil {
		c.pool.remove(c)
		ended = cs.known.put(c, peer)
	}
	cs.mu.Unlock()
	ended.end()
}

// counts are of the connections there are, and of those that were ended because
// there were too many.
type counts struct{ fresh, known, freshEnded, knownEnded int }

func (cs *conns) counts() counts {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return counts{cs.fresh.n, cs.known.n, cs.fresh.ended, cs.known.ended}
}

// put adds c and returns the connection that must end for it, or nil.
func (p *pool) put(c *conn, peer string) (ended *conn) {
	if p.of[peer] == nil {
		p.of[peer] = list.New()
	}
	c.pool, c.peer, c.place = p, peer, p.of[peer].PushBack(c)
	if p.n++; p.n <= p.max {
		return nil
	}
	ended = p.oldest()
	p.remove(ended)
	p.ended++
	return ended
}

// oldest returns the oldest connection of the peer who has the most.
func (p *pool) oldest() *conn {
	var most *list.List
	for _, l := range p.of {
		if most == nil || l.Len() > most.Len() {
			most = l
		}
	}
	return most.Front().Value.(*conn)
}

func (p *pool) remove(c *conn) {
	l := p.of[c.peer]
	l.Remove(c.place)
	if l.Len() == 0 {
		delete(p.of, c.peer)
	}
	p.n--
	c.pool = nil
}

// end closes the connection below; the goroutine that serves it sees that.
func (c *conn) end() {
	if c != nil {
		c.Conn.Close()
	}
}

// Close forgets the connection and closes it.
func (c *conn) Close() error {
	c.conns.mu.Lock()
	if c.pool != nil {
		c.pool.remove(c)
	}
	c.conns.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite lets net/http end an answer before it cuts off what the client
// still sends.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}
