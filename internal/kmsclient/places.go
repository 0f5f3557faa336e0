package kmsclient

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
)

// A client of several key processes on one store speaks with the first of its list
// that answers. It asks each whether it lives every pingEvery. One that does not
// say so within pingIn is silent: calls that are on their way to it, and may be
// sent again, go to another. It gets calls again once it has answered comeback
// times in a row, or at once when there is no other.
//
// Whether it can work (its root key, its store) it is asked apart, and less often:
// who cannot gets calls only while nobody can.
const (
	pingEvery  = 250 * time.Millisecond
	pingIn     = 300 * time.Millisecond
	connectIn  = time.Second // to be connected before; a far one's handshakes take three times what its answers do
	comeback   = 4
	readyEvery = time.Second
	readyIn    = 2 * time.Second
)

// place is one address of the KMS.
type place struct {
	name  string // for the log
	base  url.URL
	wires wires

	// Guarded by Client.state. Of the only place of a client all stays as it began.
	alive bool
	ready bool
	good  int // pings answered in a row
	life  context.Context
	end   context.CancelFunc // of life: calls under way are of no use
}

// newPlaces returns the places of a list of addresses, in its order.
func newPlaces(c *Client, list string, files *TLS) (places []*place, err error) {
	for _, address := range Endpoints(list) {
		p := &place{name: address, alive: true, ready: true}
		if err := p.connectTo(c, address, files); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(places, func(o *place) bool { return o.name == p.name }) {
			return nil, fault.New(fault.Invalid, "the KMS endpoint %q is named twice", address)
		}
		places = append(places, p)
	}
	return places, nil
}

// Endpoints returns the addresses of a list: separated by commas, each with a
// scheme. A comma before what has none belongs to the path of a socket.
func Endpoints(list string) (addresses []string) {
	for _, part := range strings.Split(list, ",") {
		if n := len(addresses); n > 0 && part != "" && !strings.Contains(part, "://") {
			addresses[n-1] += "," + part
			continue
		}
		addresses = append(addresses, strings.TrimSpace(part))
	}
	return addresses
}

// pick returns the place for the next try: the first that lives and can work, else
// the first that lives, else, of a call's n-th try, each in turn, beginning with those
// that said last that they can work: they may only be too slow with a ping.
func (c *Client) pick(n int) *place {
	if len(c.places) == 1 {
		return c.places[0]
	}
	c.state.Lock()
	defer c.state.Unlock()
	for _, p := range c.places {
		if p.alive && p.ready {
			return p
		}
	}
	if p := c.living(); p != nil {
		return p
	}
	n %= len(c.places)
	for _, ready := range []bool{true, false} {
		for _, p := range c.places {
			if p.ready != ready {
				continue
			}
			if n == 0 {
				return p
			}
			n--
		}
	}
	panic("each place is ready or not")
}

// living returns the first place that lives, or nil. c.state is held.
func (c *Client) living() *place {
	for _, p := range c.places {
		if p.alive {
			return p
		}
	}
	return nil
}

// Answering returns how many of the client's addresses answer and can work, and
// how many there are. Of one alone nothing is known without a call.
func (c *Client) Answering() (n, of int) {
	c.state.Lock()
	defer c.state.Unlock()
	for _, p := range c.places {
		if p.alive && p.ready {
			n++
		}
	}
	return n, len(c.places)
}

// lose notes that a call to p broke, and reports whether another place lives.
func (c *Client) lose(p *place, cause error) bool {
	if len(c.places) == 1 {
		return false
	}
	c.judge(p, false, cause)
	c.state.Lock()
	defer c.state.Unlock()
	return c.living() != nil
}

// judge notes whether p answered. Calls on their way to who is silent end once
// there is another to go to.
func (c *Client) judge(p *place, answered bool, cause error) {
	c.state.Lock()
	defer c.state.Unlock()
	if p.good++; !answered {
		p.good = 0
	}
	switch {
	case p.alive && !answered:
		p.alive = false
		c.log.Error("a key process does not answer", "endpoint", p.name, "error", cause)
	case !p.alive && answered && (p.good >= comeback || c.living() == nil):
		p.live()
		c.log.Info("a key process answers again", "endpoint", p.name)
	}
	if c.living() == nil {
		return
	}
	for _, q := range c.places {
		if !q.alive {
			q.end()
		}
	}
}

// live begins p's life, which calls are part of. Client.state is held, or nobody
// knows p yet.
func (p *place) live() {
	p.alive = true
	if p.life == nil || p.life.Err() != nil {
		p.life, p.end = context.WithCancel(context.Background())
	}
}

// during is ctx, which ends with p's life as well. The caller ends it.
func (c *Client) during(ctx context.Context, p *place) (context.Context, func()) {
	c.state.Lock()
	life := p.life
	c.state.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(life, cancel)
	return ctx, func() { stop(); cancel() }
}

// watch asks p until Close whether it lives.
func (c *Client) watch(p *place) {
	c.every(pingEvery, func() {
		_, err := c.ask(p, "/livez", c.pingIn)
		if c.ctx.Err() != nil {
			return
		}
		if c.judge(p, err == nil, err); err == nil {
			c.answered()
		}
	})
}

// watchReady asks p until Close whether it can work.
func (c *Client) watchReady(p *place) {
	c.every(readyEvery, func() {
		status, err := c.ask(p, "/healthz", readyIn)
		ready := err == nil && status == http.StatusOK
		if err == nil {
			c.answered()
		}
		c.state.Lock()
		defer c.state.Unlock()
		if p.ready != ready && err == nil {
			c.log.Warn("a key process can work, or cannot", "endpoint", p.name, "can", ready, "status", status)
		}
		p.ready = ready
	})
}

func (c *Client) every(d time.Duration, do func()) {
	for tick := time.NewTicker(d); ; {
		do()
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			tick.Stop()
			return
		}
	}
}

// ask gets path of p. Any answer is one, if it comes within in of when there is a
// connection; to make one may take connectIn before.
func (c *Client) ask(p *place, path string, in time.Duration) (status int, err error) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	over := time.AfterFunc(max(in, connectIn), cancel)
	defer over.Stop()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { over.Reset(in) }})
	status, answer, _, err := c.try(ctx, p, get(path, nil))
	if err != nil {
		return 0, safe(err)
	}
	putBuffer(answer)
	return status, nil
}
