package kmsclient

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
)

// A client of several key processes on one store speaks with the first of its list
// that answers. It asks each whether it lives every pingEvery, whether the last
// ping was answered or not. One is silent when it did so missesAlive times in a row
// and nothing came from there meanwhile, to whatever it was asked; one late answer
// makes nobody silent. Who breaks a connection, or takes none, is at once. Calls that
// are on their way to who is silent, and may be sent again, go to another. It gets
// calls again once it was heard comeback times in a row, or where there is no other.
//
// Whether it can work (its root key, its store, and it is not about to end) it is asked
// apart, every readyEvery.
// One that says that it cannot, or missesReady times nothing within readyIn, gets calls
// only while nobody can, and those on their way to it that may be sent again go to one
// that can. It can again once it has said so comeback times in a row, or at once when
// nobody else can.
const (
	pingEvery  = 200 * time.Millisecond
	pingIn     = 500 * time.Millisecond // then a ping is given up; nothing is judged by that of who ever answered
	connectIn  = time.Second            // to be connected before; a far one's handshakes take three times what its answers do
	comeback   = 5
	readyEvery = 250 * time.Millisecond
	readyIn    = 500 * time.Millisecond

	missesAlive = 2
	missesReady = 2
)

// place is one address of the KMS.
type place struct {
	name  string // for the log
	base  url.URL
	wires wires

	answers atomic.Int64 // that came from it, to whatever

	// Guarded by Client.state. Of the only place of a client all stays as it began.
	alive bool
	ready bool
	good  int // times in a row that it was heard when it was asked whether it lives
	mute  int // times in a row that it was not
	well  int // times in a row that it said that it can work
	ill   int // times in a row that it said nothing of that
	life  context.Context
	end   context.CancelFunc // of life: calls under way are of no use
	use   context.Context    // of life, for calls that may go to another place
	drop  context.CancelFunc // of use: another can do them
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
	if p := c.best(); p != nil {
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

// best returns the first place that lives and can work, else the first that lives, or
// nil. c.state is held.
func (c *Client) best() *place {
	if p := c.able(); p != nil {
		return p
	}
	return c.living()
}

// able returns the first place that lives and can work, or nil. c.state is held.
func (c *Client) able() *place {
	for _, p := range c.places {
		if p.alive && p.ready {
			return p
		}
	}
	return nil
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

// lose notes that a call to p broke, unless it was taken away from there, and returns
// the place that is known to live and has the next one, or nil.
func (c *Client) lose(p *place, cause error) (next *place) {
	if len(c.places) == 1 {
		return nil
	}
	if cause != errTaken {
		c.gone(p, cause)
	}
	c.state.Lock()
	defer c.state.Unlock()
	return c.best()
}

// errSilent is why a place is not used that breaks nothing and says nothing.
var errSilent = errors.New("nothing came from there for a while")

// judge notes whether p was heard since it was last asked whether it lives.
func (c *Client) judge(p *place, heard bool) {
	c.state.Lock()
	defer c.state.Unlock()
	if heard {
		p.good, p.mute = p.good+1, 0
	} else {
		p.good, p.mute = 0, p.mute+1
	}
	switch {
	case p.mute >= c.missesAlive && p.answers.Load() > 0:
		c.dies(p, errSilent)
	case !p.alive && heard && (p.good >= comeback || c.living() == nil):
		p.live()
		c.log.Info("a key process answers again", "endpoint", p.name)
	}
	c.settle()
}

// gone notes that p broke a connection, took none, or never was heard at all.
func (c *Client) gone(p *place, cause error) {
	c.state.Lock()
	defer c.state.Unlock()
	p.good = 0
	c.dies(p, cause)
	c.settle()
}

// dies ends p's life, but for its calls: settle does. c.state is held.
func (c *Client) dies(p *place, cause error) {
	if p.alive {
		p.alive = false
		c.log.Error("a key process does not answer", "endpoint", p.name, "error", cause)
	}
}

// judgeReady notes what p said of whether it can work: with err, nothing.
func (c *Client) judgeReady(p *place, status int, err error) {
	c.state.Lock()
	defer c.state.Unlock()
	was := p.ready
	switch {
	case err != nil:
		if p.well, p.ill = 0, p.ill+1; p.ill >= missesReady {
			p.ready = false
		}
	case status != http.StatusOK:
		p.well, p.ill, p.ready = 0, 0, false
	default:
		p.well, p.ill = p.well+1, 0
		p.ready = p.ready || p.well >= comeback || c.able() == nil
	}
	switch {
	case p.ready == was || err != nil:
	case p.ready:
		c.log.Info("a key process can work again", "endpoint", p.name)
	default:
		c.log.Warn("a key process cannot work", "endpoint", p.name, "status", status)
	}
	c.settle()
}

// settle ends the calls on their way to who is silent while another lives, and takes
// those that may be sent again from who cannot work while another can. While nobody
// lives calls look for each. c.state is held.
func (c *Client) settle() {
	living, able := c.living() != nil, c.able() != nil
	for _, p := range c.places {
		switch {
		case !living:
			p.renew() // calls may look for it
		case !p.alive:
			p.end()
		case !p.ready && able:
			p.drop()
			p.renew()
		}
	}
}

// live begins p's life, which calls are part of. Client.state is held, or nobody
// knows p yet.
func (p *place) live() {
	p.alive = true
	p.renew()
}

// renew begins what has ended of p's life and use.
func (p *place) renew() {
	if p.life == nil || p.life.Err() != nil {
		p.life, p.end = context.WithCancel(context.Background())
	}
	if p.use == nil || p.use.Err() != nil {
		p.use, p.drop = context.WithCancel(p.life)
	}
}

// errTaken is why a call ends that another place is to do.
var errTaken = errors.New("the call was taken away from its key process")

// during is ctx, which ends with p's life as well, or, of a call that may go to another
// place, with p's use: for errTaken. The caller ends it.
func (c *Client) during(ctx context.Context, p *place, elsewhere bool) (context.Context, func()) {
	c.state.Lock()
	life := p.life
	if elsewhere {
		life = p.use
	}
	c.state.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(life, func() { cancel(errTaken) })
	return ctx, func() { stop(); cancel(nil) }
}

// watch asks p until Close whether it lives. Who is late with one answer is asked
// again meanwhile, on another connection.
func (c *Client) watch(p *place) {
	for last := int64(0); c.goRun(func() { c.ping(p) }); {
		select {
		case <-time.After(pingEvery): // no ticker: after a pause of ours each answer has its time
		case <-c.ctx.Done():
			return
		}
		answers := p.answers.Load()
		c.judge(p, answers != last)
		last = answers
	}
}

// ping asks p whether it lives. That nothing came is for watch to judge, but of a
// place that never was heard, which may be far, and slow to connect to.
func (c *Client) ping(p *place) {
	switch _, err := c.ask(p, "/livez", pingIn); {
	case c.ctx.Err() != nil:
	case err == nil:
		c.answered()
	case !errors.Is(err, errSilent) || p.answers.Load() == 0:
		c.gone(p, err)
	}
}

// watchReady asks p until Close whether it can work.
func (c *Client) watchReady(p *place) {
	c.every(readyEvery, func() {
		status, err := c.ask(p, "/readyz", readyIn)
		if c.ctx.Err() != nil {
			return
		}
		if c.judgeReady(p, status, err); err == nil {
			c.answered()
		}
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
// connection; to make one may take connectIn before. errSilent: none came in that time.
func (c *Client) ask(p *place, path string, in time.Duration) (status int, err error) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	over := time.AfterFunc(max(in, connectIn), cancel)
	defer over.Stop()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { over.Reset(in) }})
	status, answer, _, err := c.try(ctx, p, get(path, nil))
	switch {
	case err != nil && ctx.Err() != nil:
		return 0, errSilent
	case err != nil:
		return 0, safe(err)
	}
	putBuffer(answer)
	return status, nil
}
