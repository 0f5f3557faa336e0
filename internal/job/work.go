package job

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/tracing"
)

// maxPause is the longest wait between two tries, in which the lease runs on.
const maxPause = 5 * time.Second

// work works on h, and lets its Kind know when h runs no more.
func (r *Runner) work(h held) {
	r.run(&h)
	if ended := r.kinds[h.Kind].Ended; ended != nil && h.Status != Running {
		ended(h.Job)
	}
}

// prepared is what comes next of a job, short of its commit.
type prepared struct {
	batch store.Batch
	next  row
	ahead bool // Step.Ahead
	err   error
}

// run takes h from batch to batch until it has ended, is somebody else's or
// the Runner closes. What stands at each return is said in the comments.
func (r *Runner) run(h *held) {
	var p prepared
	for tries, made := 0, false; ; {
		began := time.Now()
		if !made {
			p = r.prepare(r.ctx, h.row)
		}
		if r.ctx.Err() != nil {
			r.release(*h) // nothing of the batch counts; the job is anybody's
			return
		}
		moves := p.err == nil
		if !moves {
			p.batch, p.next = r.stuck(h.row, p.err)
		}
		var err error
		p, made, err = r.commitAhead(h, p)
		if errors.Is(err, store.ErrLimit) {
			b, next := r.stuck(h.row, store.Fault(err))
			moves, err = false, r.commit(h, b, next)
		}
		if err != nil && !r.reload(h, err) {
			return // somebody else's, ended, or for the next Resume
		}
		if h.Status != Running {
			return // its end is on stable storage
		}
		if tries++; moves && err == nil {
			tries = 0
			if r.busy() {
				r.rest(min(3*time.Since(began), maxPause, r.lease/3))
			}
			continue
		}
		r.pause(tries)
	}
}

// commitAhead commits p, and prepares what comes after it meanwhile where that
// may be. It reports whether there is such a thing: not after a commit that
// failed, nor when nothing could be prepared yet.
func (r *Runner) commitAhead(h *held, p prepared) (after prepared, made bool, err error) {
	if !p.ahead || r.busy() {
		return p, false, r.commit(h, p.batch, p.next)
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	var preparing sync.WaitGroup
	preparing.Go(func() { after = r.prepare(ctx, p.next) })
	if err = r.commit(h, p.batch, p.next); err != nil {
		cancel()
	}
	preparing.Wait()
	return after, err == nil && after.err == nil, err
}

// prepare does what comes next of w, short of its commit.
func (r *Runner) prepare(ctx context.Context, w row) (p prepared) {
	kind := r.kinds[w.Kind]
	ctx, cancel := context.WithTimeout(ctx, r.lease)
	defer cancel()
	ctx, span := r.tracer.Start(ctx, "job batch", tracing.JobKind(w.Kind))
	defer func() { span.End(p.err) }()
	if w.Ended {
		return prepared{next: ends(w, Completed, ""), err: kind.Done(ctx, w.Job)}
	}
	if err := r.count(ctx, kind, &w.Job); err != nil {
		return prepared{err: err}
	}
	s, err := kind.Step(ctx, w.Job)
	if err != nil {
		return prepared{err: err}
	}
	w.Job, w.Ended = w.after(s), s.Done
	p = prepared{batch: s.Batch, next: w, ahead: s.Ahead && !s.Done}
	if s.Done && kind.Done == nil {
		p.next = ends(w, Completed, "")
	}
	return p
}

// count fills in j's Total before the first batch. An estimate that takes long
// is done without.
func (r *Runner) count(ctx context.Context, kind Kind, j *Job) (err error) {
	if kind.Count == nil || j.Cursor != "" || j.Processed > 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.lease/3)
	defer cancel()
	if j.Total, err = kind.Count(ctx, *j); ctx.Err() != nil {
		j.Total, err = 0, nil
	}
	return err
}

// stuck returns w after err: waiting, interrupted, or ended, with what is to be
// committed with that.
func (r *Runner) stuck(w row, err error) (store.Batch, row) {
	said := w.Error
	w = r.after(w, err)
	if w.Error != said {
		r.log.Warn("a batch of a job was not made", "job", w.ID, "kind", w.Kind, "error", err, "cause", errors.Unwrap(err))
	}
	if !w.Status.ended() {
		return store.Batch{}, w
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.lease)
	defer cancel()
	b, err := r.undo(ctx, w.Job)
	if err != nil {
		w.Status, w.Error = Running, "it ends, waits and tries again: "+fault.Of(err).Message
		return store.Batch{}, r.mine(w)
	}
	return b, w
}

func (r *Runner) after(w row, err error) row {
	switch {
	case errors.Is(err, ErrInterrupted):
		return ends(w, Interrupted, fault.Of(err).Message)
	case errors.Is(err, ErrCancelled):
		return ends(w, Cancelled, fault.Of(err).Message)
	case errors.Is(err, store.ErrConflict):
		w.Error = "it met another change and tries again"
	case errors.Is(err, fault.Unavailable):
		w.Error = "it waits and tries again: " + fault.Of(err).Message
	case errors.Is(err, context.DeadlineExceeded):
		w.Error = "it waits and tries again: a batch took longer than the lease"
	default:
		return ends(w, Failed, fault.Of(err).Message)
	}
	return w
}

// commit is save, which Close does not cut off. A job that it leaves to r has a
// fresh lease.
func (r *Runner) commit(h *held, b store.Batch, next row) error {
	if next.Holder != "" {
		next = r.mine(next)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), r.lease)
	defer cancel()
	return r.save(ctx, h, b, next)
}

// reload reads h anew after a commit that failed with cause and of which it is
// not known whether it took effect; if it did, the row says so. It tries until
// the store answers, and reports whether h is still running and r's. Of a job that
// is gone the status is none.
func (r *Runner) reload(h *held, cause error) bool {
	if !errors.Is(cause, store.ErrConflict) {
		r.log.Warn("the commit of a job failed", "job", h.ID, "error", cause)
	}
	for tries := 1; ; tries++ {
		now, err := r.load(r.ctx, h.ID)
		switch {
		case err == nil:
			*h = now
			return now.Holder == r.holder && now.Status == Running
		case errors.Is(err, fault.NotFound):
			h.Status = ""
			return false
		case errors.Is(err, store.ErrClosed), errors.Is(err, fault.Damaged), r.ctx.Err() != nil:
			return false
		}
		r.pause(tries)
	}
}

// release gives h back. When it fails, the lease runs out.
func (r *Runner) release(h held) {
	if err := r.commit(&h, store.Batch{}, free(h.row)); err != nil {
		r.log.Warn("the lease of a job was not given back and runs out by itself", "job", h.ID, "error", err)
	}
}

// pause waits a random time that doubles with tries, from a millisecond on.
func (r *Runner) pause(tries int) {
	longest := min(time.Millisecond<<min(tries, 20), maxPause, r.lease/3)
	r.rest(longest/2 + rand.N(longest/2+1))
}

// wait waits, or until r closes.
func (r *Runner) wait(d time.Duration) {
	select {
	case <-r.ctx.Done():
	case <-time.After(d):
	}
}
