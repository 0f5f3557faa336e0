package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
)

// Event is a change of a thread.
type Event struct {
	ID   string // Follow goes on after it
	Kind string // created, edited, deleted, reactions, purged: it and all before it, or thread: of the thread itself
	api.MessageEvent
}

// Follow iterates over what changes in a thread, until ctx ends: from now on, or
// after the event with the ID after. It comes again when the connection fails or
// the server closes, with growing pauses, and loses and repeats nothing then.
// After an ID of an earlier iteration, events of up to ten seconds before it come
// once more.
//
// It ends at the first error that time does not mend, which it yields: who may not
// read the thread (any more), one that is deleted, an ID of more than 24 hours ago
// ([IsGone]: list the messages, then follow from now on), a server that was never
// there, the end of ctx.
func (c *Client) Follow(ctx context.Context, threadID, after string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		path, err := escape("threads", threadID, "events")
		if err != nil {
			yield(Event{}, err)
			return
		}
		f := follower{c: c, thread: threadID, path: path, last: after, seen: map[string]bool{after: true}, retry: time.Second}
		for {
			more, err := f.stream(ctx, yield)
			if !more {
				return
			}
			if err = f.pause(ctx, err); err != nil {
				yield(Event{}, err)
				return
			}
		}
	}
}

// follower is an iteration of Follow.
type follower struct {
	c      *Client
	thread string
	path   string

	last  string          // ID that the next stream goes on after
	seen  map[string]bool // IDs that may come again
	swept int             // how many seen held when it was last swept

	retry time.Duration // the server's wish
	tries int           // in vain, since a stream began
	begun bool          // there was a stream
}

// silence is how long a stream may say nothing: there is a comment every 15 s.
const silence = 45 * time.Second

// stream reads one stream to its end. more is false when yield wants no more.
func (f *follower) stream(ctx context.Context, yield func(Event, error) bool) (more bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, err := f.open(ctx)
	if err != nil {
		return true, err
	}
	defer body.Close()
	f.tries, f.begun = 0, true
	idle := time.AfterFunc(silence, cancel)
	defer idle.Stop()
	in := eventReader{in: bufio.NewReader(body), max: f.c.maxAnswer, heard: func() { idle.Reset(silence) }}
	for {
		b, err := in.next()
		if err != nil {
			return true, err
		}
		f.note(b)
		if b.kind == "" || f.seen[b.id] {
			continue
		}
		f.see(b.id)
		e := Event{ID: b.id, Kind: b.kind}
		if json.Unmarshal(b.data, &e.MessageEvent) != nil { // the cause could quote a message
			err = fmt.Errorf("client: %s sent an event that is not Keyfold's; is it a Keyfold server?", f.c.base)
		} else if e.Message != nil {
			err = f.c.openMessages(ctx, f.thread, e.Message)
		}
		if !yield(e, err) || err != nil {
			return false, nil
		}
	}
}

// note takes what a block says of the next stream.
func (f *follower) note(b block) {
	if b.id != "" {
		f.last = b.id
	}
	if b.retry > 0 {
		f.retry = b.retry
	}
}

// see remembers an ID, for longer than it can come again.
func (f *follower) see(id string) {
	f.seen[id] = true
	if len(f.seen) <= 2*f.swept+64 {
		return
	}
	ts, _, _ := strings.Cut(id, "-")
	nanos, _ := strconv.ParseInt(ts, 10, 64)
	old := fmt.Sprintf("%020d", max(0, nanos-time.Minute.Nanoseconds()))
	for id := range f.seen {
		if id < old {
			delete(f.seen, id)
		}
	}
	f.swept = len(f.seen)
}

// open begins a stream.
func (f *follower) open(ctx context.Context) (io.ReadCloser, error) {
	bearer, err := f.c.bearer(ctx)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.c.base+f.path, nil)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	f.c.setHeaders(req, bearer, false)
	req.Header.Set("Accept", "text/event-stream, application/problem+json")
	if f.last != "" {
		req.Header.Set("Last-Event-ID", f.last)
	}
	resp, err := f.c.http.Do(req)
	if err != nil {
		return nil, &lostError{fmt.Errorf("client: calling %s: %w", f.c.base, cause(err))}
	}
	if resp.StatusCode == http.StatusOK && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode < 300 {
		return nil, fmt.Errorf("client: %s answered GET %s with no stream of events; is it a Keyfold server?", f.c.base, f.path)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, &lostError{fmt.Errorf("client: reading the answer to GET %s: %w", f.path, err)}
	}
	return nil, problem(&response{resp.StatusCode, resp.Header, text})
}

// lostError is a connection that failed.
type lostError struct{ error }

func (e *lostError) Unwrap() error { return e.error }

// pause waits before the next stream. Its error is one that ends the iteration.
func (f *follower) pause(ctx context.Context, err error) error {
	d := f.retry
	if f.tries++; f.tries > 1 || !f.begun {
		d = max(pause(min(f.tries, 9), nil), f.asked(err))
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !f.mends(err):
		return err
	}
	return f.c.wait(ctx, d)
}

// asked is how long the server asks to wait.
func (f *follower) asked(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

// mends reports whether it may go better another time.
func (f *follower) mends(err error) bool {
	if _, lost := errors.AsType[*lostError](err); lost {
		return f.begun || f.tries < maxTries
	}
	status := statusOf(err)
	return (status == http.StatusTooManyRequests || away(status)) && (f.begun || f.tries < maxTries)
}

// block is what stands between two empty lines of a stream.
type block struct {
	id, kind string
	data     []byte
	retry    time.Duration
}

// eventReader reads a stream of server-sent events.
type eventReader struct {
	in    *bufio.Reader
	max   int64 // bytes of a block
	heard func()
}

// next reads a block. Its error is the end of the stream.
func (r *eventReader) next() (b block, err error) {
	for size := int64(0); ; {
		line, err := r.line(r.max - size)
		if err != nil {
			return b, err
		}
		if size += int64(len(line)); len(line) == 0 {
			return b, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		b.take(string(name), bytes.TrimPrefix(value, []byte(" ")))
	}
}

func (b *block) take(name string, value []byte) {
	switch name {
	case "id":
		b.id = string(value)
	case "event":
		b.kind = string(value)
	case "data":
		if b.data != nil {
			b.data = append(b.data, '\n')
		}
		b.data = append(b.data, value...)
	case "retry":
		if ms, err := strconv.Atoi(string(value)); err == nil && ms > 0 {
			b.retry = min(time.Duration(ms)*time.Millisecond, maxPause)
		}
	}
}

// line reads a line of at most limit bytes, without its end.
func (r *eventReader) line(limit int64) ([]byte, error) {
	var line []byte
	for {
		part, err := r.in.ReadSlice('\n')
		r.heard()
		line = append(line, part...)
		switch {
		case int64(len(line)) > limit+2:
			return nil, errTooLong
		case err == nil:
			return bytes.TrimRight(line, "\r\n"), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, &lostError{fmt.Errorf("client: reading events: %w", err)}
		}
	}
}
