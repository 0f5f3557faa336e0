package httpx

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
)

// Bounds of pooled buffers, in bytes. A buffer above smallBody grows with what
// has arrived, not with what a Content-Length promises.
const (
	firstBuffer = 4 << 10
	maxPooled   = 1 << 20
)

var buffers = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, firstBuffer)) }}

func getBuffer() *bytes.Buffer { return buffers.Get().(*bytes.Buffer) }

// putBuffer wipes b, which held a request or an answer, and keeps it for another.
func putBuffer(b *bytes.Buffer) {
	clear(b.Bytes())
	if b.Cap() <= maxPooled {
		b.Reset()
		buffers.Put(b)
	}
}

// fill reads all of r into b. It returns the buffer that has it: a buffer that
// became too small is wiped and replaced, so that it leaves no copy behind.
func fill(b *bytes.Buffer, r io.Reader) (*bytes.Buffer, error) {
	for {
		if b.Available() == 0 {
			larger := bytes.NewBuffer(make([]byte, 0, 2*b.Cap()))
			larger.Write(b.Bytes())
			putBuffer(b)
			b = larger
		}
		room := b.AvailableBuffer()
		n, err := r.Read(room[:cap(room)])
		b.Write(room[:n]) // where it is already
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

// linger is how long the rest of a body that nobody reads may still arrive
// after the answer: a connection that is closed while its client sends can
// take the answer away with it.
const linger = time.Second

// leaveBody says, before anything is answered, that the connection ends with
// this answer, because its client announced a body that may never arrive.
// net/http would wait for the whole of it, with no limit of time, before it
// sent a small answer. readBody takes it back.
func (c *Call) leaveBody() {
	if c.r.ContentLength != 0 {
		c.unread = true
		c.w.Header()["Connection"] = []string{"close"}
	}
}

// boundRest bounds what net/http still reads of a body after the answer.
func (c *Call) boundRest() {
	if c.unread {
		c.setReadDeadline(time.Now().Add(linger))
	}
}

// setReadDeadline bounds reads from the client. A writer that knows no
// deadlines is a test's; there the body has arrived.
func (c *Call) setReadDeadline(t time.Time) {
	_ = http.NewResponseController(c.w).SetReadDeadline(t)
}

// readBody reads the body into c.body, within the row's size and time.
func (c *Call) readBody() error {
	if c.row.MaxBody == 0 || c.r.ContentLength == 0 {
		return nil
	}
	if enc := c.r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return fault.New(fault.Invalid, "send the body without a Content-Encoding")
	}
	if c.r.ContentLength > c.row.MaxBody {
		return c.tooLarge()
	}
	size := c.r.ContentLength
	if size < 0 { // chunked: nobody knows
		size = c.row.MaxBody
	}
	if err := c.takeRoom(size); err != nil {
		return err
	}
	c.setReadDeadline(time.Now().Add(c.arrival()))
	body := io.Reader(c.r.Body)
	c.body = getBuffer()
	if c.r.ContentLength < 0 {
		body = http.MaxBytesReader(c.w, c.r.Body, c.row.MaxBody)
	} else { // net/http reads no more than was announced
		c.body.Grow(int(min(c.r.ContentLength, smallBody)) + 1) // and the end shows with the last byte
	}
	var err error
	if c.body, err = fill(c.body, body); err != nil {
		c.freeBody()
		return c.bodyError(err)
	}
	c.setReadDeadline(time.Time{}) // or it would cancel the handler
	c.unread = false
	delete(c.w.Header(), "Connection")
	return nil
}

// publicArrival is how long a body may take to arrive that anybody may send.
const publicArrival = 5 * time.Second

// arrival is how long the body may take to arrive.
func (c *Call) arrival() time.Duration {
	if c.row.Who == Public {
		return min(publicArrival, c.row.timeout())
	}
	return c.row.timeout()
}

// bodyError says what went wrong while the body arrived.
func (c *Call) bodyError(err error) error {
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case tooLarge:
		return c.tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fault.New(fault.Timeout, "the body did not arrive within %v; send it faster", c.arrival())
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fault.New(fault.Invalid, "the body was cut off; send all bytes that Content-Length announces")
	}
	return fault.New(fault.Invalid, "the body could not be read; check its Content-Length or chunks")
}

func (c *Call) tooLarge() error {
	return fault.New(fault.TooLarge, "the body is over the limit of %d bytes for this call; send less", c.row.MaxBody)
}

func (c *Call) freeBody() {
	if c.body != nil {
		putBuffer(c.body)
		c.body = nil
		c.giveRoom()
	}
}
