package job

import (
	"context"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

var errClosed = fault.New(fault.Unavailable, "this process is stopping; ask again once it is back")

// Get returns a job. fault.NotFound when there is none, or none any more.
func (r *Runner) Get(ctx context.Context, id string) (Job, error) {
	h, err := r.load(ctx, id)
	return h.Job, store.Fault(err)
}

// List returns all jobs, the newest first: those that have not ended, and the
// last 1000 or so that have.
func (r *Runner) List(ctx context.Context) ([]Job, error) {
	recs, err := r.rows(ctx)
	if err != nil {
		return nil, store.Fault(err)
	}
	jobs := make([]Job, len(recs))
	for i, rec := range recs {
		h, err := parse(rec)
		if err != nil {
			return nil, err
		}
		jobs[i] = h.Job
	}
	return jobs, nil
}

// Cancel ends a job: once it answers, no further batch of it is committed, by
// nobody. What was committed stays, but for what its Kind undoes. A job that
// ended before is answered as it is. fault.NotFound as for Get.
func (r *Runner) Cancel(ctx context.Context, id string) (Job, error) {
	var h held
	err := store.Retry(ctx, func() (err error) {
		if h, err = r.load(ctx, id); err != nil || h.Status.ended() {
			return err
		}
		next := ends(h.row, Cancelled, "")
		b, err := r.undo(ctx, next.Job)
		if err != nil {
			return err
		}
		// Its holder's next commit requires the row as it was, and is refused.
		return r.save(ctx, &h, b, next)
	})
	if err != nil {
		return Job{}, store.Fault(err)
	}
	return h.Job, nil
}

// Forget adds to b that a job is gone, whoever works on it: its holder's next
// commit requires its row, and is refused. It needs no condition.
func Forget(b *store.Batch, id string) { b.Delete(layout.Job(id)) }

// undo is what a Kind commits with an end of j that is not Completed.
func (r *Runner) undo(ctx context.Context, j Job) (store.Batch, error) {
	if undo := r.kinds[j.Kind].Undo; undo != nil {
		return undo(ctx, j)
	}
	return store.Batch{}, nil
}

// Wait returns a job once it runs no more. It fails when ctx is done or the Runner closes.
func (r *Runner) Wait(ctx context.Context, id string) (Job, error) {
	for {
		r.mu.Lock()
		changed := r.changed // before the look, so that no change is missed
		r.mu.Unlock()
		j, err := r.Get(ctx, id)
		if err != nil || j.Status != Running {
			return j, err
		}
		select {
		case <-ctx.Done():
			return j, store.Fault(ctx.Err())
		case <-r.ctx.Done():
			return j, errClosed
		case <-changed:
		case <-time.After(r.look):
		}
	}
}
