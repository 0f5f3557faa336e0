package job

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// commitHook calls before first.
type commitHook struct {
	store.Store
	before func()
}

func (c *commitHook) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	c.before()
	return c.Store.Commit(ctx, b)
}

// aheadOf is a world whose batches may be made ahead, with a note of each batch
// that is asked for.
func aheadOf(t *testing.T) (w *world, asked chan struct{}) {
	w, asked = newWorld(t, 10), make(chan struct{}, 100) // four batches
	w.ahead = true
	w.step = func(context.Context) error {
		asked <- struct{}{}
		return nil
	}
	return w, asked
}

func TestABatchIsMadeWhileTheOneBeforeIsCommitted(t *testing.T) {
	w, asked := aheadOf(t)
	commits := 0
	r := w.runner(&commitHook{w.mem, func() {
		switch commits++; commits {
		case 2: // of the first batch; commit 1 is Start's
			<-asked
			<-asked
		case 3, 4:
			<-asked
		}
	}})
	defer r.Close()
	w.whole(w.finish(r, w.start(r).ID))
}

func TestNoBatchIsMadeAheadWhereItMayNotOrOthersWait(t *testing.T) {
	for _, busy := range []bool{false, true} {
		w, asked := aheadOf(t)
		w.ahead = busy
		commits := 0
		r := w.runner(&commitHook{w.mem, func() {
			time.Sleep(10 * time.Millisecond) // in which one more may be asked for
			if commits++; len(asked) != min(commits-1, 4) {
				t.Errorf("busy %v: before commit %d, %d batches were asked for", busy, commits, len(asked))
			}
		}})
		r.busy, r.rest = func() bool { return busy }, func(time.Duration) {}
		w.whole(w.finish(r, w.start(r).ID))
		r.Close()
	}
}

// A batch that fails ahead of its time is made again in its time, and that counts.
func TestABatchThatFailsAheadIsMadeAgain(t *testing.T) {
	w, asked := aheadOf(t)
	inner := w.step
	w.step = func(ctx context.Context) error {
		if inner(ctx); len(asked) == 2 {
			return fault.New(fault.Invalid, "too early")
		}
		return nil
	}
	r := w.open()
	if w.whole(w.finish(r, w.start(r).ID)); len(asked) != 5 {
		t.Errorf("%d batches were asked for, want 5", len(asked))
	}
}

// What was made ahead of a commit that failed is dropped, since what it comes after
// did not come.
func TestABatchMadeAheadOfACommitThatFailsIsDropped(t *testing.T) {
	w, _ := aheadOf(t)
	var cursors []string
	made := make(chan struct{}, 100)
	k := w.kind(w.mem)
	step := k.Step
	k.Step = func(ctx context.Context, j Job) (Step, error) {
		cursors = append(cursors, j.Cursor)
		s, err := step(ctx, j)
		made <- struct{}{}
		return s, err
	}
	f := &faultStore{Store: w.mem, at: 3, err: errors.New("disk")}
	r := New(Config{Store: &commitHook{f, func() {
		if f.commits == 2 {
			for range 3 {
				<-made
			}
		}
	}}, Kinds: []Kind{k}, Now: w.now, Lease: lease})
	defer r.Close()
	w.whole(w.finish(r, w.start(r).ID))
	if want := []string{"", "3", "6", "3", "6", "9"}; !slices.Equal(cursors, want) {
		t.Errorf("batches were made at %q, want %q", cursors, want)
	}
}

// A batch may wait for the commit before it for as long as its lease is.
func TestABatchMadeAheadGetsAFreshLease(t *testing.T) {
	w, asked := aheadOf(t)
	commits := 0
	r := w.runner(&commitHook{w.mem, func() {
		if commits++; commits == 3 {
			<-asked
			<-asked
			<-asked
			w.advance(lease)
		}
		if commits == 5 {
			h := must(w.open().load(context.Background(), jobID(t, w)))
			if !w.now().Before(h.Until) {
				t.Error("the lease that a batch made ahead got has run out")
			}
		}
	}})
	defer r.Close()
	w.whole(w.finish(r, w.start(r).ID))
}

// A batch that is made ahead and waits for others is waited for no longer than it may
// be of use.
func TestABatchAheadIsGivenUpWhenItsCommitFailsAndWhenTheRunnerCloses(t *testing.T) {
	for _, closes := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 10)
			w.ahead = true
			steps, waits := 0, make(chan struct{})
			w.step = func(ctx context.Context) error {
				if steps++; steps != 2 {
					return nil
				}
				close(waits)
				<-ctx.Done()
				return fault.New(fault.Unavailable, "given up")
			}
			f := &faultStore{Store: w.mem, at: 2, err: errors.New("disk")}
			if closes {
				f.at = 0
			}
			commits, closed := 0, make(chan struct{})
			var r *Runner
			r = w.runner(&commitHook{f, func() {
				if commits++; commits != 2 {
					return
				}
				<-waits
				if closes {
					go func() { r.Close(); close(closed) }()
				}
			}})
			began := time.Now()
			j := w.start(r)
			if closes {
				<-closed
				r = w.open()
			}
			w.whole(w.finish(r, j.ID))
			if took := time.Since(began); took >= lease/2 {
				t.Errorf("closes %v: it took %v", closes, took)
			}
			r.Close()
		})
	}
}

func TestABatchMadeAheadIsNotCommittedOnceTheRunnerCloses(t *testing.T) {
	w, _ := aheadOf(t)
	made := make(chan struct{}, 100)
	k := w.kind(w.mem)
	step := k.Step
	k.Step = func(ctx context.Context, j Job) (Step, error) {
		s, err := step(ctx, j)
		made <- struct{}{}
		return s, err
	}
	f := &faultStore{Store: w.mem}
	var r *Runner
	r = New(Config{Store: &commitHook{f, func() {
		if f.commits == 1 {
			<-made
			<-made
			r.stop() // as Close does
		}
	}}, Kinds: []Kind{k}, Now: w.now, Lease: lease})
	stopped := r.changed
	j := w.start(r)
	<-stopped
	r.Close()
	w.once(3)
	w.whole(w.finish(w.open(), j.ID)) // the clock stood still
}

// The last batch says that the next may be made ahead, and there is none.
func TestDoneIsNotCalledBeforeTheLastBatchIsCommitted(t *testing.T) {
	w, _ := aheadOf(t)
	r := w.runner(&faultStore{Store: w.mem, at: 5, dead: true, err: store.ErrClosed})
	r.Wait(t.Context(), w.start(r).ID)
	r.Close()
	w.once(9)
	if w.done.Load() != 0 {
		t.Error("Done was called")
	}
}

func jobID(t *testing.T, w *world) string {
	t.Helper()
	jobs, err := w.open().List(t.Context())
	if err != nil || len(jobs) != 1 {
		t.Fatalf("%v, %v", jobs, err)
	}
	return jobs[0].ID
}
