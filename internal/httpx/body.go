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

// Bounds of pooled buffers, in bytes. A buffer grows with what has arrived,
// not with what a Content-Length promises.
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

// readBody reads the body into c.body, within the row's size and time.
func (c *Call) readBody() error {
	if c.row.MaxBody == 0 || c.r.ContentLength == 0 {
		return nil
	}
	if enc := c.r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return fault.New(fault.Invalid, "send the body without a Content-Encoding")
	}
	if c.r.ContentLength > c.row.MaxBody {
		c.closeAfter()
		return c.tooLarge()
	}
	deadline := http.NewResponseController(c.w)
	// A writer that knows no deadlines is a test's; there the body has arrived.
	_ = deadline.SetReadDeadline(time.Now().Add(c.row.timeout()))
	c.body = getBuffer()
	if _, err := c.body.ReadFrom(http.MaxBytesReader(c.w, c.r.Body, c.row.MaxBody)); err != nil {
		c.freeBody()
		c.closeAfter()
		return c.bodyError(err)
	}
	_ = deadline.SetReadDeadline(time.Time{}) // or it would cancel the handler
	return nil
}

// bodyError says what went wrong while the body arrived.
func (c *Call) bodyError(err error) error {
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case tooLarge:
		return c.tooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fault.New(fault.Timeout, "the body did not arrive within %v; send it faster", c.row.timeout())
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fault.New(fault.Invalid, "the body was cut off; send all bytes that Content-Length announces")
	}
	return fault.New(fault.Invalid, "the body could not be read; check its Content-Length or chunks")
}

func (c *Call) tooLarge() error {
	return fault.New(fault.TooLarge, "the body is over the limit of %d bytes for this call; send less", c.row.MaxBody)
}

// closeAfter ends the connection with this answer: the rest of the body may
// still be on its way and must not be read as a request.
func (c *Call) closeAfter() { c.w.Header()["Connection"] = []string{"close"} }

func (c *Call) freeBody() {
	if c.body != nil {
		putBuffer(c.body)
		c.body = nil
	}
}
