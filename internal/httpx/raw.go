package httpx

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
)

// ContentType is a media type as a header's value, made once and shared by all
// answers.
type ContentType []string

// JSON is the type of most answers.
var JSON = ContentType{"application/json"}

// Bytes is the body as it came, nil when none came. It is wiped when the
// handler has returned.
func (c *Call) Bytes() []byte {
	if c.body == nil {
		return nil
	}
	return c.body.Bytes()
}

// Room returns an empty slice with a capacity of n bytes or more, once in a
// call, for an answer that is appended to it and then sent. Both are wiped when
// the handler has returned. Copies that append left behind when it outgrew n
// are not, so n must be enough for what is secret.
func (c *Call) Room(n int) []byte {
	c.room = getBuffer()
	c.room.Grow(n)
	return c.room.AvailableBuffer()
}

// freeRoom wipes what Room gave, and what was sent if that is longer.
func (c *Call) freeRoom() {
	if c.room == nil {
		return
	}
	room := c.room.AvailableBuffer()
	if cap(c.sent) == 0 || &c.sent[:1][0] != &room[:1][0] {
		clear(room[:cap(room)])
	}
	clear(c.sent)
	putBuffer(c.room)
}

// Send sends the whole answer. A client that is gone gets nothing, and there
// is nobody to tell. A large one of a GET needs room as a large body does, or
// clients who do not read would fill the memory: where there is none it is 503.
func (c *Call) Send(status int, contentType ContentType, body []byte) {
	if c.held != nil {
		c.held.Status, c.held.contentType, c.held.Body = status, contentType, bytes.Clone(body)
		return
	}
	if c.readsMuch(len(body)) {
		give, err := c.roomFor(int64(len(body)))
		if err != nil {
			c.fail(err)
			return
		}
		defer give()
	}
	c.status, c.sent = status, body
	h := c.w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body)
}

// readsMuch reports whether an answer of n bytes is for a caller who did nothing
// but read what is his. What is everybody's is in the memory once.
func (c *Call) readsMuch(n int) bool {
	return n > smallBody && c.r.Method == http.MethodGet && (c.row.Who != Public || c.row.Optional)
}

// streamPace is how long a client may take to accept one write of a stream.
const streamPace = time.Minute

// Stream makes a handler whose answer goes out, with status 200, while it is
// written. An error before the first write is a problem; one after it ends the
// connection, so that nobody takes a part for the whole. The row's Timeout
// bounds the call, and no write waits longer than a minute for its client.
func Stream(contentType ContentType, call func(ctx context.Context, c *Call, w io.Writer) error) Handler {
	return func(ctx context.Context, c *Call) error {
		s := &stream{c, contentType}
		if err := call(ctx, c, s); err != nil {
			return err
		}
		s.begin()
		c.cut = false
		return nil
	}
}

type stream struct {
	call        *Call
	contentType ContentType
}

// begin sends the head of the answer; from then on it counts as cut off.
func (s *stream) begin() {
	if s.call.status != 0 {
		return
	}
	s.call.status, s.call.cut = http.StatusOK, true
	s.call.w.Header()["Content-Type"] = s.contentType
	s.call.w.WriteHeader(http.StatusOK)
}

func (s *stream) Write(p []byte) (int, error) {
	s.begin()
	_ = http.NewResponseController(s.call.w).SetWriteDeadline(time.Now().Add(streamPace)) // a writer without deadlines is a test's
	n, err := s.call.w.Write(p)
	if err != nil {
		return n, fault.Wrap(fault.Timeout, err, "the client did not take the answer")
	}
	return n, nil
}
