package httpx

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

// Streams of events are answers of the type text/event-stream (server-sent events,
// as the HTML standard has them) that go on until their client leaves, their caller
// may not have them any more, or the server closes. Each holds a connection and some
// 30 KB, so how many there are is bounded.
const (
	maxStreams = 5000 // of all callers; one org leaves to the others as many as it has
	maxOwn     = 128  // of one principal
)

// Heartbeat is how long a stream of events is silent at most.
const Heartbeat = 15 * time.Second

// StreamTimeout is the Timeout of a row of Events. A client goes on with another
// stream then.
const StreamTimeout = 24 * time.Hour

var eventStream = ContentType{"text/event-stream"}

// Events makes a handler that answers with a stream of events. An error of follow
// before the first write is a problem; after it the stream ends, and the client,
// which comes again, is told then. ctx ends with the stream.
func Events(follow func(ctx context.Context, c *Call, out *EventStream) error) Handler {
	return func(ctx context.Context, c *Call) error {
		own, cancel := context.WithCancel(ctx)
		defer cancel()
		out := &EventStream{call: c}
		if err := c.mux.streams.begin(out, c.Principal, cancel); err != nil {
			return err
		}
		defer c.mux.streams.end(out, c.Principal)
		err := follow(own, c, out)
		switch {
		case err == nil || own.Err() == nil:
			return err
		case c.status != 0: // it was ended, and did not fail
			return nil
		case ctx.Err() == nil:
			return errClosing
		}
		return err
	}
}

// EventStream is an answer that goes on. It belongs to one goroutine.
type EventStream struct {
	call *Call
	buf  bytes.Buffer
}

// begin sends the head of the answer, and how long the client waits before it comes
// again: not all at one time.
func (s *EventStream) begin() {
	if s.call.status != 0 {
		return
	}
	s.call.status = http.StatusOK
	h := s.call.w.Header()
	h["Content-Type"] = eventStream
	h["Cache-Control"] = []string{"no-store, no-transform"} // or a proxy might compress it, and hold it back
	h["X-Accel-Buffering"] = []string{"no"}
	s.call.w.WriteHeader(http.StatusOK)
	s.buf.WriteString(": events follow; the id of the last one, as Last-Event-ID, goes on after it\nretry: ")
	s.buf.WriteString(strconv.Itoa(1000 + rand.IntN(2000)))
	s.buf.WriteString("\n\n")
}

// Add adds an event to what Flush sends. id and kind hold no line break.
func (s *EventStream) Add(id, kind string, data []byte) {
	s.begin()
	s.field("id", id)
	s.field("event", kind)
	for len(data) > 0 {
		line := data
		if i := bytes.IndexAny(data, "\r\n"); i >= 0 { // between the tokens of JSON: inside of them there is none
			line, data = data[:i], data[i+1:]
		} else {
			data = nil
		}
		s.buf.WriteString("data: ")
		s.buf.Write(line)
		s.buf.WriteByte('\n')
	}
	s.buf.WriteByte('\n')
}

// Beat adds a comment, and an ID that is no event's and counts as the last one.
func (s *EventStream) Beat(id string) {
	s.begin()
	s.buf.WriteString(":\n")
	s.field("id", id)
	s.buf.WriteByte('\n')
}

func (s *EventStream) field(name, value string) {
	s.buf.WriteString(name)
	s.buf.WriteString(": ")
	s.buf.WriteString(value)
	s.buf.WriteByte('\n')
}

// Flush sends what was added. Its error is a client that does not take it, or that
// there is no room for more that clients have yet to take: this one comes again.
func (s *EventStream) Flush() error {
	s.begin()
	give, err := s.call.roomFor(int64(s.buf.Len()))
	if err != nil {
		return err
	}
	defer give()
	rc := http.NewResponseController(s.call.w)
	_ = rc.SetWriteDeadline(time.Now().Add(streamPace)) // a writer without deadlines is a test's
	_, err = s.call.w.Write(s.buf.Bytes())
	if err == nil {
		err = rc.Flush()
	}
	if s.buf.Reset(); s.buf.Cap() > firstBuffer {
		s.buf = bytes.Buffer{} // what waits holds no room
	}
	if err != nil {
		return fault.Wrap(fault.Timeout, err, "the client did not take the answer")
	}
	return nil
}

// Again finds out anew who calls: a credential that is no live one any more is
// Unauthenticated. It is not held to the limits.
func (c *Call) Again(ctx context.Context) (access.Principal, error) {
	c.ctx = c.r.Context() // in which nothing was read
	p, err := c.mux.caller(c)
	if err != nil || p.Kind != access.OrgKey || c.row.AsKey {
		return p, err
	}
	return c.endUser(ctx, p)
}

// streams are the streams of events under way.
type streams struct {
	mu     sync.Mutex // guards all
	closed bool
	all    map[*EventStream]context.CancelFunc
	of     map[who]int
	orgs   map[string]int
}

var (
	errManyOwn     = fault.New(fault.TooMany, "you follow %d streams of events; end one first", maxOwn)
	errManyStreams = fault.New(fault.Unavailable, "there are too many streams of events; try again later")
	errClosing     = fault.New(fault.Unavailable, "the server is closing; try again in a moment")
)

func (s *streams) begin(e *EventStream, p access.Principal, cancel context.CancelFunc) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errClosing
	case s.of[whoIs(p)] >= maxOwn:
		return errManyOwn.WithRetryAfter(Heartbeat)
	case s.orgs[p.OrgID] >= maxStreams-len(s.all):
		return errManyStreams.WithRetryAfter(Heartbeat)
	}
	if s.all == nil {
		s.all, s.of, s.orgs = map[*EventStream]context.CancelFunc{}, map[who]int{}, map[string]int{}
	}
	s.all[e] = cancel
	s.of[whoIs(p)]++
	s.orgs[p.OrgID]++
	return nil
}

func (s *streams) end(e *EventStream, p access.Principal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, e)
	less(s.of, whoIs(p))
	less(s.orgs, p.OrgID)
}

func less[K comparable](of map[K]int, key K) {
	if of[key]--; of[key] == 0 {
		delete(of, key)
	}
}

// Streams is how many streams of events are under way.
func (m *Mux) Streams() int {
	m.streams.mu.Lock()
	defer m.streams.mu.Unlock()
	return len(m.streams.all)
}

// EndStreams ends all streams of events, and lets no other begin: the server is
// closing, and would wait for them.
func (m *Mux) EndStreams() {
	m.streams.mu.Lock()
	defer m.streams.mu.Unlock()
	m.streams.closed = true
	for _, cancel := range m.streams.all {
		cancel()
	}
}
