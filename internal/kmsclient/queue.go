package kmsclient

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/tracing"
)

// maxBytes is when a batch is full, in bytes of its request. One item may be
// greater; it then goes alone.
const maxBytes = 4 << 20

// bigBatch is how many bytes must be on their way before another batch may
// leave beside them. After small ones it is soon its turn, and two small batches
// cost more than one of both.
const bigBatch = 256 << 10

// queue coalesces the calls of one method.
type queue[In, Out any] struct {
	c      *Client
	call   kmsapi.Call[In, Out]
	repeat repeat
	fits   func(*In, *Out) bool // whether a result that is no failure can be the answer to an item

	mu      sync.Mutex // owns what follows, and batch and live of every waiter and batch
	waiting []*waiter[Out]
	sending int // batches on their way
	bytes   int // of their requests
}

// waiter is one call of a caller, or a part of a big one.
type waiter[Out any] struct {
	deadline time.Time // zero: none
	n        int       // items
	from     tracing.Origin
	request  *buffer // of its items alone; requests can be joined. The batch's, once it is in one
	done     chan struct{}
	results  []Out // with err, written before done
	err      error
	batch    *batch[Out] // nil while it waits
	left     atomic.Bool // its caller waits no more
}

// batch is one call on the wire.
type batch[Out any] struct {
	waiters []*waiter[Out]
	n, size int                // items, bytes
	live    int                // waiters whose callers still wait
	giveUp  context.CancelFunc // called when there is none
}

func newQueue[In, Out any](c *Client, call kmsapi.Call[In, Out], r repeat, fits func(*In, *Out) bool) *queue[In, Out] {
	return &queue[In, Out]{c: c, call: call, repeat: r, fits: fits}
}

// do calls with items, in parts when they are too many or too big for one batch.
// Of several parts, one that fails as a whole fails its own items.
func (q *queue[In, Out]) do(ctx context.Context, items []In) ([]Out, error) {
	if len(items) == 0 {
		return []Out{}, nil
	}
	parts := split(q.call, items)
	if len(parts) == 1 {
		return q.await(ctx, q.enqueue(ctx, items), items)
	}
	waiters := make([]*waiter[Out], len(parts))
	for i, part := range parts {
		waiters[i] = q.enqueue(ctx, part)
	}
	out := make([]Out, 0, len(items))
	for i, w := range waiters {
		results, err := q.await(ctx, w, parts[i])
		if err != nil {
			results = slices.Repeat([]Out{q.call.Fail(err)}, len(parts[i]))
		}
		out = append(out, results...)
	}
	return out, nil
}

// split cuts items into parts of at most MaxBatch items and about maxBytes.
func split[In, Out any](call kmsapi.Call[In, Out], items []In) [][]In {
	if len(items) <= kmsapi.MaxBatch && (len(items) == 1 || call.RequestSize(items) <= maxBytes) {
		return [][]In{items}
	}
	var parts [][]In
	from, size := 0, 0
	for i := range items {
		s := call.RequestSize(items[i : i+1])
		if i > from && (i-from == kmsapi.MaxBatch || size+s > maxBytes) {
			parts = append(parts, items[from:i])
			from, size = i, 0
		}
		size += s
	}
	return append(parts, items[from:])
}

// enqueue lets items wait for a batch, and starts one when there is room on the wire.
func (q *queue[In, Out]) enqueue(ctx context.Context, items []In) *waiter[Out] {
	w := &waiter[Out]{n: len(items), from: tracing.OriginOf(ctx), done: make(chan struct{}, 1)}
	size := q.call.RequestSize(items)
	switch {
	case ctx.Err() != nil:
		return w.failed(gaveUp(ctx))
	case size > kmsapi.MaxBody: // then it is one item
		w.results = []Out{q.call.Fail(errItemTooLarge)}
		return w.failed(nil)
	}
	w.deadline, _ = ctx.Deadline()
	w.request = getBuffer(size)
	w.request.b = q.call.AppendRequest(w.request.b, items)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sending == 0 || q.sending < q.c.inFlight && q.bytes >= bigBatch {
		if !q.c.goRun(q.run) {
			putBuffer(w.request)
			return w.failed(errClosed)
		}
		q.sending++
	}
	q.waiting = append(q.waiting, w)
	return w
}

var errItemTooLarge = fault.New(fault.TooLarge, "an item of a KMS call may have at most %d bytes", kmsapi.MaxBody)

// failed returns w as done before it came to the wire.
func (w *waiter[Out]) failed(err error) *waiter[Out] {
	w.err = err
	w.done <- struct{}{}
	return w
}

// run sends batches until nobody waits.
func (q *queue[In, Out]) run() {
	for b := q.next(0); b != nil; b = q.next(b.size) {
		q.send(b)
		runtime.Gosched() // those who just got their results may have more for the next batch
	}
}

// next takes those who wait, as many as fit into one batch, or ends the run.
// done is the size of the batch that the run has just sent.
func (q *queue[In, Out]) next(done int) *batch[Out] {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= done
	if len(q.waiting) == 0 {
		q.sending--
		return nil
	}
	n, size, k := 0, 0, 0
	for ; k < len(q.waiting); k++ {
		w := q.waiting[k]
		if k > 0 && (n+w.n > kmsapi.MaxBatch || size+len(w.request.b) > maxBytes) {
			break
		}
		n, size = n+w.n, size+len(w.request.b)
	}
	b := newBatch(slices.Clone(q.waiting[:k]))
	q.waiting = slices.Delete(q.waiting, 0, k)
	q.bytes += b.size
	return b
}

// newBatch makes a batch of waiters. The caller holds the queue's lock.
func newBatch[Out any](waiters []*waiter[Out]) *batch[Out] {
	b := &batch[Out]{waiters: waiters, live: len(waiters)}
	for _, w := range waiters {
		b.n += w.n
		b.size += len(w.request.b)
		w.batch = b
	}
	return b
}

// await waits for w. When ctx ends first, w leaves its batch to the others.
func (q *queue[In, Out]) await(ctx context.Context, w *waiter[Out], items []In) ([]Out, error) {
	select {
	case <-w.done:
	case <-ctx.Done():
		q.leave(w)
		return nil, gaveUp(ctx)
	}
	for i := range w.results {
		if r := &w.results[i]; q.call.Failed(r) == nil && !q.fits(&items[i], r) {
			q.call.WipeResults(w.results[i : i+1])
			*r = q.call.Fail(errShape)
		}
	}
	return w.results, w.err
}

// leave takes w out of the queue if it still waits there. A batch that nobody
// waits for any more is given up.
func (q *queue[In, Out]) leave(w *waiter[Out]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w.left.Store(true)
	if i := slices.Index(q.waiting, w); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
		putBuffer(w.request)
		return
	}
	if w.batch == nil { // it failed before it came to the wire
		return
	}
	w.batch.live--
	if w.batch.live == 0 && w.batch.giveUp != nil {
		w.batch.giveUp()
	}
}

// send makes the call and gives every waiter its results.
func (q *queue[In, Out]) send(b *batch[Out]) {
	answer, err := q.exchange(b)
	var results []Out
	if err == nil {
		defer putBuffer(answer)
		results, err = q.call.ParseAnswer(answer.b, b.n)
	}
	if len(b.waiters) > 1 && q.mayBeOneItem(err) {
		q.sendEach(b)
		return
	}
	at := 0
	for _, w := range b.waiters {
		if err == nil && !w.left.Load() {
			w.results = slices.Clone(results[at : at+w.n])
			q.call.Detach(w.results)
		}
		at += w.n
		w.err = err
		putBuffer(w.request)
		w.done <- struct{}{}
	}
}

// exchange sends the requests of b and returns the answer.
func (q *queue[In, Out]) exchange(b *batch[Out]) (*buffer, error) {
	bound := time.Now().Add(q.c.wait())
	ctx, cancel := context.WithDeadline(q.c.ctx, b.deadline(bound))
	defer cancel()
	q.mu.Lock()
	b.giveUp = cancel
	if b.live == 0 {
		cancel()
	}
	q.mu.Unlock()
	parts, origins := make([][]byte, len(b.waiters)), make([]tracing.Origin, len(b.waiters))
	for i, w := range b.waiters {
		parts[i], origins[i] = w.request.b, w.from
	}
	ctx, end := q.c.began(ctx, q.call.Path, b.n, origins)
	answer, err := q.c.do(ctx, request{
		method: http.MethodPost, path: q.call.Path, kind: kmsapi.ContentType, body: parts, size: b.size, repeat: q.repeat,
	})
	end(err)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && !time.Now().Before(bound) {
		q.c.silent(err)
	}
	return answer, err
}

// wait is how long an answer may take.
func (c *Client) wait() time.Duration {
	if c.down.Load() {
		return c.downWait
	}
	return c.maxWait
}

// deadline is the latest of the waiters', at most bound.
func (b *batch[Out]) deadline(bound time.Time) time.Time {
	var latest time.Time
	for _, w := range b.waiters {
		if w.deadline.IsZero() {
			return bound
		}
		if w.deadline.After(latest) {
			latest = w.deadline
		}
	}
	if latest.After(bound) {
		return bound
	}
	return latest
}

// mayBeOneItem reports whether err, of a whole call, may be the fault of one of
// its callers. A refused call has done nothing; one that ended in an internal
// error may have.
func (q *queue[In, Out]) mayBeOneItem(err error) bool {
	return errors.Is(err, fault.Invalid) || errors.Is(err, fault.TooLarge) || q.repeat == again && errors.Is(err, fault.Internal)
}

// sendEach sends the requests of b one by one.
func (q *queue[In, Out]) sendEach(b *batch[Out]) {
	for _, w := range b.waiters {
		if w.left.Load() {
			putBuffer(w.request)
			continue
		}
		q.mu.Lock()
		alone := newBatch([]*waiter[Out]{w})
		q.mu.Unlock()
		q.send(alone)
	}
}
