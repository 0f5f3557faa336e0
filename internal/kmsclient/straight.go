package kmsclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// How many connections wait for their next request at most, and how long.
const (
	maxIdle  = 64
	idleTime = 90 * time.Second
)

// straight is a http.RoundTripper whose requests are written and whose answers
// are read by the goroutine that asks. The standard library's Transport has two
// goroutines for each connection; to wake them costs more than a small batch.
// Requests are written and answers parsed by the standard library all the same.
type straight struct {
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	tls         *tls.Config   // nil: none
	handshake   time.Duration // for the handshake

	mu     sync.Mutex // guards all below
	idle   []*line    // the one used last at the end
	closed bool       // nothing becomes idle any more
}

// line is a connection with one request at a time.
type line struct {
	conn  net.Conn // TLS, or raw
	raw   net.Conn
	r     *bufio.Reader
	w     *bufio.Writer
	since time.Time // idle since
}

// RoundTrip sends req and returns the head of its answer. It tells the trace of
// req's context which connection it got. The body of req is closed when it
// returns. The connection is free again when the answer's body was read to its
// end and closed; ctx ends it before.
func (s *straight) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	l, err := s.take(ctx)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	if t := httptrace.ContextClientTrace(ctx); t != nil && t.GotConn != nil {
		t.GotConn(httptrace.GotConnInfo{Conn: l.conn})
	}
	stop := context.AfterFunc(ctx, func() { l.raw.Close() })
	writeErr := errors.Join(req.Write(l.w), l.w.Flush())
	l.wipe(int(req.ContentLength))
	resp, err := http.ReadResponse(l.r, req) // after a failed write as well: the KMS may have refused early
	if err != nil {
		stop()
		l.raw.Close()
		if writeErr != nil {
			err = writeErr
		}
		return nil, err
	}
	resp.Body = &answerBody{Reader: resp.Body, left: resp.ContentLength, done: func(whole bool) {
		if stop() && whole && writeErr == nil && !resp.Close {
			s.put(l)
			return
		}
		l.raw.Close()
	}}
	return resp, nil
}

// maxHead is more than the head of a request has, in bytes.
const maxHead = 4 << 10

// wipe overwrites what the buffer of l has kept of a request with a body of n
// bytes.
func (l *line) wipe(n int) {
	l.w.Reset(l.conn)
	b := l.w.AvailableBuffer()
	clear(b[:min(maxHead+n, cap(b))])
}

// answerBody gives its connection back when it is closed.
type answerBody struct {
	io.Reader
	left int64 // bytes to come; less than 0: until the end
	once sync.Once
	done func(whole bool)
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	switch {
	case err == io.EOF:
		b.left = 0
	case b.left > 0:
		b.left -= int64(n)
	}
	return n, err
}

func (b *answerBody) Close() error {
	b.once.Do(func() { b.done(b.left == 0) })
	return nil
}

// take returns an idle connection that lives, or makes one.
func (s *straight) take(ctx context.Context) (*line, error) {
	for {
		l := s.pop()
		if l == nil {
			return s.dial(ctx)
		}
		if time.Since(l.since) < idleTime && l.r.Buffered() == 0 && alive(l.raw) {
			return l, nil
		}
		l.raw.Close()
	}
}

func (s *straight) pop() *line {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) == 0 {
		return nil
	}
	l := s.idle[len(s.idle)-1]
	s.idle = s.idle[:len(s.idle)-1]
	return l
}

func (s *straight) put(l *line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.idle) == maxIdle {
		l.raw.Close()
		return
	}
	l.since = time.Now()
	s.idle = append(s.idle, l)
}

func (s *straight) dial(ctx context.Context) (*line, error) {
	raw, err := s.DialContext(ctx, "", "")
	if err != nil {
		return nil, err
	}
	conn := raw
	if s.tls != nil {
		t := tls.Client(raw, s.tls)
		ctx, cancel := context.WithTimeout(ctx, s.handshake)
		defer cancel()
		if err := t.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
		conn = t
	}
	return &line{conn: conn, raw: raw, r: bufio.NewReaderSize(conn, wireBuffer), w: bufio.NewWriterSize(conn, wireBuffer)}, nil
}

// CloseIdleConnections ends what is idle; what is in use ends after its answer.
func (s *straight) CloseIdleConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, l := range s.idle {
		l.raw.Close()
	}
	s.idle = nil
}
