package client

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/keyfold/keyfold/api"
)

const (
	maxTries   = 4
	firstPause = 100 * time.Millisecond // doubled before each further try
	maxPause   = 30 * time.Second       // a server that asks for more gets its error told to the caller
)

// waiter pauses for d, or less when ctx ends first, and returns ctx's error then.
type waiter func(ctx context.Context, d time.Duration) error

// send repeats once while that is safe: a read, or a write with an Idempotency-Key,
// which the server does once, after a failed connection, a 502, 503 or 504, or while an
// earlier try is under way; any call that was never sent, or that a rate limit refused.
// A read that counts is never sent again, nor a write that needs no credential.
func (c *Client) send(ctx context.Context, cl call, payload []byte) (*response, error) {
	for try := 1; ; try++ {
		r, err := c.once(ctx, cl, payload)
		if try == maxTries || ctx.Err() != nil || !again(cl, r, err) {
			return r, err
		}
		d := pause(try, r)
		if d > maxPause {
			return r, err
		}
		if c.wait(ctx, d) != nil {
			return r, err
		}
	}
}

func again(cl call, r *response, err error) bool {
	repeatable := cl.method == http.MethodGet && !cl.counts || cl.once
	switch {
	case err != nil:
		return neverSent(err) || repeatable && connectionLost(err)
	case r.status == http.StatusTooManyRequests:
		return true
	case r.status == http.StatusConflict:
		return cl.once && problem(r).Type == api.ProblemIdempotencyInProgress
	default:
		return away(r.status) && repeatable
	}
}

// away reports a status of a server that cannot be asked now, or of a proxy before it.
func away(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// neverSent reports a failure to connect.
func neverSent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// connectionLost reports a connection that ended before the whole answer came.
func connectionLost(err error) bool {
	_, ok := errors.AsType[*net.OpError](err)
	return ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// pause is what the server asks for, or a growing time with jitter, so that
// many clients do not return at once.
func pause(try int, r *response) time.Duration {
	if r != nil {
		if d := retryAfter(r.header); d > 0 {
			return d
		}
	}
	d := firstPause << (try - 1)
	return d/2 + rand.N(d)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
