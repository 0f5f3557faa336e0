package httpx

import (
	"context"
	"sync"
	"time"

	"github.com/keyfold/keyfold/internal/tracing"
)

// deadline is a context as context.WithDeadline makes it, but that its timer
// starts when somebody asks for Done: most calls end before anybody waits.
type deadline struct {
	context.Context // the request's
	at              time.Time
	requestID       string

	mu     sync.Mutex // guards all below
	ended  bool
	timed  context.Context // nil until Done
	cancel context.CancelFunc
}

func (d *deadline) Deadline() (time.Time, bool) {
	if at, ok := d.Context.Deadline(); ok && at.Before(d.at) {
		return at, true
	}
	return d.at, true
}

// Value is the request's, and its ID under tracing.RequestIDKey.
func (d *deadline) Value(key any) any {
	if _, ok := key.(tracing.RequestIDKey); ok {
		return d.requestID
	}
	return d.Context.Value(key)
}

func (d *deadline) Done() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timed == nil {
		d.timed, d.cancel = context.WithDeadline(d.Context, d.at)
		if d.ended {
			d.cancel()
		}
	}
	return d.timed.Done()
}

func (d *deadline) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.timed != nil:
		return d.timed.Err()
	case d.Context.Err() != nil:
		return d.Context.Err()
	case !time.Now().Before(d.at):
		return context.DeadlineExceeded
	case d.ended:
		return context.Canceled
	}
	return nil
}

// end cancels d and frees its timer.
func (d *deadline) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	if d.cancel != nil {
		d.cancel()
	}
}
