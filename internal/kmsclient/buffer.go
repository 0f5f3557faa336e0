package kmsclient

import (
	"io"
	"sync"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// buffer is memory that is wiped when it is put back.
type buffer struct{ b []byte }

const (
	firstBuffer = 2 << 10
	maxPooled   = 1 << 20
)

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// getBuffer returns an empty buffer with room for n bytes.
func getBuffer(n int) *buffer {
	b := buffers.Get().(*buffer)
	if cap(b.b) < n {
		b.b = make([]byte, 0, max(n, firstBuffer))
	}
	return b
}

func putBuffer(b *buffer) {
	clear(b.b)
	b.b = b.b[:0]
	if cap(b.b) <= maxPooled {
		buffers.Put(b)
	}
}

var errTooLong = fault.New(fault.Internal, "the KMS answered with more than %d bytes", kmsapi.MaxBody)

// readAll reads r to its end. size is a guess. No copy stays behind.
func readAll(r io.Reader, size int64) (*buffer, error) {
	if size > kmsapi.MaxBody {
		return nil, errTooLong
	}
	b := getBuffer(int(max(size, 0)) + 1) // one more to see the end
	for {
		if len(b.b) == cap(b.b) {
			b = b.doubled()
		}
		n, err := r.Read(b.b[len(b.b):cap(b.b)])
		b.b = b.b[:len(b.b)+n]
		switch {
		case len(b.b) > kmsapi.MaxBody:
			putBuffer(b)
			return nil, errTooLong
		case err == io.EOF:
			return b, nil
		case err != nil:
			putBuffer(b)
			return nil, err
		}
	}
}

func (b *buffer) doubled() *buffer {
	twice := getBuffer(2 * cap(b.b))
	twice.b = append(twice.b, b.b...)
	putBuffer(b)
	return twice
}
