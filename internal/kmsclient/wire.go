package kmsclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// repeat says what may be done when an answer was lost.
type repeat int

const (
	once  repeat = iota // never sent twice once a byte may have left
	spare               // done twice it leaves behind what nobody knows: sent again to another address alone
	again               // has no lasting effect that doing it twice would change
)

// maxSends is how often a request whose answer was lost is sent in all, for each
// address that there is.
const maxSends = 3

// Pauses between two tries, growing.
const (
	firstPause = 5 * time.Millisecond
	maxPause   = 100 * time.Millisecond
)

// request is one call of HTTP.
type request struct {
	method, path, query, kind string
	body                      [][]byte
	size                      int
	repeat                    repeat
	at                        *place  // nil: wherever the KMS answers
	by                        **place // unless nil: gets the place that answered
}

// The messages of calls that came to nothing. None names the endpoint: they go
// on to callers who need not know it. The log has it.
var (
	errClosed = fault.New(fault.Unavailable, "the KMS client is closed")
	errShape  = fault.New(fault.Internal, "what the KMS answered is no answer to its request; check that both are of the same version")
)

func unreachable(cause error) error {
	if bad, ok := errors.AsType[x509.CertificateInvalidError](cause); ok && bad.Reason == x509.Expired {
		return fault.Wrap(fault.Unavailable, cause, "the certificate of the KMS has expired or is not valid yet: it is for %s to %s; replace it, then try again",
			bad.Cert.NotBefore.UTC().Format(time.RFC3339), bad.Cert.NotAfter.UTC().Format(time.RFC3339))
	}
	return fault.Wrap(fault.Unavailable, cause, "the KMS does not answer; start it or wait for it, then try again")
}

func lost(cause error) error {
	return fault.Wrap(fault.Unavailable, cause, "the KMS went away before it answered; it may or may not have done what it was asked to: look, then try again")
}

func gaveUp(ctx context.Context) error {
	return fault.Wrap(fault.Unavailable, ctx.Err(), "the KMS did not answer in the time that there was; try again")
}

// do makes a call and returns the body of an answer of status 2xx. It
// tries again while that is safe and Config.Retry is not over; while the KMS is
// known to be down it tries each address once. Where another address is known to answer it goes
// there at once.
func (c *Client) do(ctx context.Context, r request) (*buffer, error) {
	if c.ctx.Err() != nil { // ctx may not have heard yet
		return nil, errClosed
	}
	until, pause := time.Now().Add(c.retry), firstPause
	if c.down.Load() {
		until = time.Time{}
	}
	for tries, sends := 0, 0; ; tries++ {
		p := r.at
		if p == nil {
			p = c.pick(tries)
		}
		status, answer, sent, err := c.tryWhileAlive(ctx, p, r)
		if err == nil {
			c.answered()
			if r.by != nil {
				*r.by = p
			}
			return taken(status, answer)
		}
		if errors.Is(err, errTooLong) {
			return nil, errTooLong
		}
		if err != errTaken {
			err = safe(err)
		}
		if sent {
			sends++
		}
		switch {
		case c.ctx.Err() != nil:
			return nil, errClosed
		case ctx.Err() != nil:
			return nil, gaveUp(ctx)
		}
		next := c.lose(p, err)
		another := next != nil && r.at == nil
		switch {
		case sent && (r.repeat == once || r.repeat == spare && (!another || next == p) || sends == maxSends*len(c.places)):
			return nil, lost(err)
		case another && tries < maxSends*len(c.places):
			continue
		case r.at == nil && tries+1 < len(c.places):
			continue
		case time.Now().Add(pause).After(until):
			if r.at == nil {
				c.silent(err)
			}
			return nil, unreachable(err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, maxPause)
	}
}

// safe returns err, or only its type when it may quote what the KMS sent, as
// the errors of HTTP do.
func safe(err error) error {
	_, network := errors.AsType[*net.OpError](err)
	_, cert := errors.AsType[*tls.CertificateVerificationError](err)
	if network || cert || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return fmt.Errorf("the call broke with a %T", err)
}

// answered notes that the KMS is there.
func (c *Client) answered() {
	if c.down.Load() && c.down.Swap(false) {
		c.log.Info("the KMS answers again")
	}
}

// silent notes that it is not.
func (c *Client) silent(cause error) {
	if !c.down.Swap(true) {
		c.log.Error("the KMS does not answer", "error", cause)
	}
}

// taken takes the body of a call that went well, or the error of one that did not.
func taken(status int, answer *buffer) (*buffer, error) {
	if status/100 == 2 {
		return answer, nil
	}
	defer putBuffer(answer)
	return nil, kmsapi.ParseError(answer.b)
}

// tryWhileAlive is try, until p is found silent, or unable to do what another can, and
// r may be sent again: then it fails with errTaken.
func (c *Client) tryWhileAlive(ctx context.Context, p *place, r request) (status int, answer *buffer, sent bool, err error) {
	if len(c.places) > 1 && r.repeat != once {
		var end func()
		ctx, end = c.during(ctx, p, r.at == nil)
		defer end()
	}
	if status, answer, sent, err = c.try(ctx, p, r); err != nil && context.Cause(ctx) == errTaken {
		err = errTaken
	}
	return status, answer, sent, err
}

// try sends r to p once and reads the answer. When it fails, sent reports whether a
// byte of r may have left.
func (c *Client) try(ctx context.Context, p *place, r request) (status int, answer *buffer, sent bool, err error) {
	var on connection
	body := newParts(r.body)
	resp, err := p.wires.get(c).RoundTrip(p.httpRequest(httptrace.WithClientTrace(ctx, on.trace()), r, body))
	if err != nil {
		body.wait()
		return 0, nil, on.sent(), err
	}
	p.answers.Add(1)
	answer, err = readAll(resp.Body, resp.ContentLength)
	resp.Body.Close()
	body.wait()
	return resp.StatusCode, answer, true, err
}

func (p *place) httpRequest(ctx context.Context, r request, body *parts) *http.Request {
	u := p.base
	u.Path, u.RawQuery = r.path, r.query
	req := &http.Request{
		Method: r.method, URL: &u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"User-Agent": {"keyfold"}}, ContentLength: int64(r.size),
	}
	putOrigin(ctx, req.Header)
	if r.kind != "" {
		req.Header["Content-Type"] = []string{r.kind}
	}
	if r.size > 0 {
		req.Body = body
	} else {
		body.Close()
	}
	return req.WithContext(ctx)
}

// parts is the body of a request. Its memory is free again when it is closed,
// which may be after the answer.
type parts struct {
	left   [][]byte
	at     int
	once   sync.Once
	closed chan struct{}
}

func newParts(body [][]byte) *parts { return &parts{left: body, closed: make(chan struct{})} }

func (p *parts) Read(b []byte) (int, error) {
	n := 0
	for n < len(b) && len(p.left) > 0 {
		k := copy(b[n:], p.left[0][p.at:])
		n += k
		p.at += k
		if p.at == len(p.left[0]) {
			p.left, p.at = p.left[1:], 0
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (p *parts) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// wait waits until nobody reads p any more. net/http closes every body, at the
// latest when it has closed the connection.
func (p *parts) wait() { <-p.closed }

// countedConn counts what is written to it.
type countedConn struct {
	net.Conn
	written atomic.Int64
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n))
	return n, err
}

// connection is the one that a request got: net/http gives it to one request at
// a time, and ends its writing before it reports a failure.
type connection struct {
	mu   sync.Mutex
	conn *countedConn
	from int64 // written before
}

func (on *connection) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		conn := info.Conn
		if t, ok := conn.(*tls.Conn); ok {
			conn = t.NetConn()
		}
		on.mu.Lock()
		defer on.mu.Unlock()
		on.conn = conn.(*countedConn)
		on.from = on.conn.written.Load()
	}}
}

func (on *connection) sent() bool {
	on.mu.Lock()
	defer on.mu.Unlock()
	return on.conn != nil && on.conn.written.Load() != on.from
}
