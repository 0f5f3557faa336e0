package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// lamp is a Kind whose jobs mark a row while they go on, and need a key that each
// process has or has not.
type lamp struct {
	store store.Store
	key   atomic.Value // the argument that works
	stop  func(n int) error
	ended chan Job
}

type lampArgs struct{ Key string }

func newLamp(s store.Store, key string) *lamp {
	l := &lamp{store: s, ended: make(chan Job, 10)}
	l.key.Store(key)
	return l
}

func (l *lamp) kind() Kind {
	return Kind{
		Name: "lamp",
		Step: func(ctx context.Context, j Job) (s Step, err error) {
			var a lampArgs
			n := 0
			if err := j.Decode(&a, &n); err != nil {
				return s, err
			}
			if l.stop != nil {
				if err := l.stop(n); err != nil {
					return s, err
				}
			}
			if a.Key != l.key.Load() {
				return s, fmt.Errorf("%w: %w", ErrInterrupted, fault.New(fault.NotFound, "no key"))
			}
			s.Processed = 1
			if s.Done = n == 2; s.Done {
				s.Batch.Delete("lamp")
			}
			return s.At(n + 1)
		},
		Undo: func(ctx context.Context, j Job) (b store.Batch, err error) {
			rec, err := l.store.Get(ctx, "lamp")
			b.RequireRevision("lamp", rec.Revision)
			b.Put("undone", []byte(j.Status))
			b.Delete("lamp")
			return b, err
		},
		Ended: func(j Job) { l.ended <- j },
	}
}

func (l *lamp) runner(t *testing.T) *Runner {
	r := New(Config{Store: l.store, Kinds: []Kind{l.kind()}, Holder: "test"})
	t.Cleanup(r.Close)
	return r
}

// light starts a job together with its row.
func (l *lamp) light(t *testing.T, r *Runner, key string) Job {
	t.Helper()
	j, err := r.StartWith(t.Context(), "lamp", lampArgs{key}, func(id string) (b store.Batch, err error) {
		b.RequireAbsent("lamp")
		b.Put("lamp", []byte(id))
		return b, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func (l *lamp) row(t *testing.T, key string) string {
	t.Helper()
	rec, err := l.store.Get(t.Context(), key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return string(rec.Value)
}

func wait(t *testing.T, r *Runner, id string, want Status) Job {
	t.Helper()
	j, err := r.Wait(t.Context(), id)
	if err != nil || j.Status != want {
		t.Fatalf("the job is %+v, %v, want %s", j, err, want)
	}
	return j
}

func TestRowsThatBeginWithAJobAreThereOrNeitherIs(t *testing.T) {
	l := newLamp(memstore.New(), "no")
	r := l.runner(t)
	j := l.light(t, r, "yes")
	if got := l.row(t, "lamp"); got != j.ID {
		t.Errorf("the row says %q, the job is %s", got, j.ID)
	}
	_, err := r.StartWith(t.Context(), "lamp", lampArgs{}, func(id string) (b store.Batch, err error) {
		b.RequireAbsent("lamp")
		return b, nil
	})
	if !errors.Is(err, store.ErrConflict) {
		t.Errorf("a start whose rows met others: %v", err)
	}
	failed := errors.New("no rows")
	if _, err := r.StartWith(t.Context(), "lamp", lampArgs{}, func(string) (b store.Batch, err error) { return b, failed }); !errors.Is(err, failed) {
		t.Errorf("a start without its rows: %v", err)
	}
	if jobs, err := r.List(t.Context()); err != nil || len(jobs) != 1 {
		t.Errorf("%d jobs, %v", len(jobs), err)
	}
}

func TestAnInterruptedJobWaitsForAgainAndGoesOnAtItsCursor(t *testing.T) {
	l := newLamp(memstore.New(), "first")
	r := l.runner(t)
	l.stop = func(n int) error {
		if n == 1 {
			l.key.Store("second")
		}
		return nil
	}
	j := wait(t, r, l.light(t, r, "first").ID, Interrupted)
	if j.Error != "no key" || j.Processed != 1 || l.row(t, "lamp") != j.ID || l.row(t, "undone") != "" {
		t.Errorf("it was interrupted as %+v", j)
	}
	if e := <-l.ended; e.Status != Interrupted {
		t.Errorf("the kind heard of %+v", e)
	}
	r.Close()
	l.stop = nil
	r = l.runner(t)
	if err := r.Resume(t.Context()); err != nil { // it is not for Resume
		t.Fatal(err)
	}
	wait(t, r, j.ID, Interrupted)
	if again, err := r.Again(t.Context(), j.ID, lampArgs{"second"}); err != nil || again.Status != Running || again.Error != "" || again.ID != j.ID {
		t.Errorf("Again: %+v, %v", again, err)
	}
	if j = wait(t, r, j.ID, Completed); j.Processed != 3 || l.row(t, "lamp") != "" {
		t.Errorf("it ended as %+v", j)
	}
	if _, err := r.Again(t.Context(), j.ID, lampArgs{}); !errors.Is(err, fault.Conflict) {
		t.Errorf("Again of a job that has ended: %v", err)
	}
	if _, err := r.Again(t.Context(), "x", lampArgs{}); !errors.Is(err, fault.NotFound) {
		t.Errorf("Again of no job: %v", err)
	}
}

// Again may come while the job's worker is about to leave it, or in a batch.
func TestAgainTakesNoJobFromItsWorkerAndLosesNone(t *testing.T) {
	for range 50 {
		l := newLamp(memstore.New(), "second")
		r := l.runner(t)
		j := l.light(t, r, "first")
		if _, err := r.Again(t.Context(), j.ID, lampArgs{"second"}); err != nil {
			t.Fatal(err)
		}
		wait(t, r, j.ID, Completed)
		r.Close()
	}
}

func TestAJobThatDoesNotCompleteIsUndoneInTheSameCommit(t *testing.T) {
	gone := fmt.Errorf("%w: %w", ErrCancelled, fault.New(fault.NotFound, "gone"))
	for want, end := range map[Status]func(*Runner, string) error{
		Failed:    func(*Runner, string) error { return fault.New(fault.Invalid, "wrong") },
		Cancelled: func(*Runner, string) error { return gone },
		"by hand": func(r *Runner, id string) error {
			if _, err := r.Cancel(context.Background(), id); err != nil {
				return err
			}
			return fault.New(fault.Unavailable, "and then nothing works")
		},
	} {
		l := newLamp(memstore.New(), "key")
		r := l.runner(t)
		started := make(chan string, 1)
		l.stop = func(n int) error {
			if n < 2 {
				return nil
			}
			id := <-started
			started <- id
			return end(r, id)
		}
		j := l.light(t, r, "key")
		started <- j.ID
		if want == "by hand" {
			want = Cancelled
		}
		wait(t, r, j.ID, want)
		if got := l.row(t, "undone"); got != string(want) || l.row(t, "lamp") != "" {
			t.Errorf("%s: undone says %q", want, got)
		}
		if e := <-l.ended; e.Status != want {
			t.Errorf("%s: the kind heard of %+v", want, e)
		}
	}
}

// An undo that meets another change, or a store that is away, is tried again.
func TestAnUndoThatFailsIsTriedAgain(t *testing.T) {
	l := newLamp(memstore.New(), "key")
	tries := 0
	k := l.kind()
	undo := k.Undo
	k.Undo = func(ctx context.Context, j Job) (store.Batch, error) {
		if tries++; tries < 3 {
			return store.Batch{}, fault.New(fault.Unavailable, "not now")
		}
		return undo(ctx, j)
	}
	l.stop = func(int) error { return fault.New(fault.Invalid, "wrong") }
	r := New(Config{Store: l.store, Kinds: []Kind{k}})
	t.Cleanup(r.Close)
	wait(t, r, l.light(t, r, "key").ID, Failed)
	if got := l.row(t, "undone"); got != "failed" || tries != 3 {
		t.Errorf("undone says %q after %d tries", got, tries)
	}
}

func TestAJobThatIsForgottenEndsAndItsKindHears(t *testing.T) {
	l := newLamp(memstore.New(), "key")
	reached, let := make(chan struct{}), make(chan struct{})
	l.stop = func(n int) error {
		if n == 1 {
			close(reached)
			<-let
		}
		return nil
	}
	r := l.runner(t)
	j := l.light(t, r, "key")
	<-reached
	var b store.Batch
	Forget(&b, j.ID)
	if _, err := l.store.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	close(let)
	if e := <-l.ended; e.ID != j.ID || e.Status != "" {
		t.Errorf("the kind heard of %+v", e)
	}
	if _, err := r.Get(t.Context(), j.ID); !errors.Is(err, fault.NotFound) {
		t.Errorf("Get: %v", err)
	}
	if _, err := l.store.Get(t.Context(), layout.Job(j.ID)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("its row is back: %v", err)
	}
}

// TestAnInterruptedJobIsKept: others that ended are pruned, it is not.
func TestAnInterruptedJobIsKept(t *testing.T) {
	l := newLamp(memstore.New(), "key")
	r := l.runner(t)
	j := wait(t, r, l.light(t, r, "another").ID, Interrupted)
	<-l.ended
	done := must(r.Start(t.Context(), "lamp", lampArgs{"key"}))
	wait(t, r, done.ID, Completed)
	row := l.row(t, layout.Job(done.ID))
	var b store.Batch
	for range keep {
		id := uuid.Must(uuid.NewV7()).String()
		b.Put(layout.Job(id), []byte(strings.ReplaceAll(row, done.ID, id)))
	}
	must(l.store.Commit(t.Context(), &b))
	wait(t, r, must(r.Start(t.Context(), "lamp", lampArgs{"key"})).ID, Completed)
	if _, err := r.Get(t.Context(), done.ID); !errors.Is(err, fault.NotFound) {
		t.Errorf("nothing was pruned: %v", err)
	}
	wait(t, r, j.ID, Interrupted)
}

// TestAJobIsUndoneOnceWhateverCommitIsTheLast kills the process at each commit of a
// job that fails.
func TestAJobIsUndoneOnceWhateverCommitIsTheLast(t *testing.T) {
	for at := 1; ; at++ {
		for _, takes := range []bool{false, true} {
			mem := memstore.New()
			dying := &storetest.DyingStore{Store: mem, At: at, Takes: takes}
			l := newLamp(dying, "key")
			fails := func(n int) error {
				if n == 2 {
					return fault.New(fault.Invalid, "wrong")
				}
				return nil
			}
			l.stop = fails
			r := New(Config{Store: dying, Kinds: []Kind{l.kind()}, Holder: "test"})
			j, err := r.StartWith(t.Context(), "lamp", lampArgs{"key"}, func(string) (b store.Batch, _ error) { b.Put("lamp", nil); return b, nil })
			if err == nil {
				r.Wait(t.Context(), j.ID)
			}
			r.Close()
			l = newLamp(mem, "key")
			l.stop = fails
			r = l.runner(t)
			if err := r.Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			jobs, err := r.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, j := range jobs {
				wait(t, r, j.ID, Failed)
			}
			if got := l.row(t, "undone"); got != "failed" && len(jobs) > 0 || len(jobs) == 0 && at > 1 {
				t.Errorf("commit %d, took effect %v: undone says %q", at, takes, got)
			}
			r.Close()
			if !dying.Dead() {
				return
			}
		}
	}
}

func TestFailuresAreForgottenAnew(t *testing.T) {
	j := Job{}.after(Step{Processed: 5, Failed: []string{"a", "b"}}).after(Step{Processed: 4, Failed: []string{"a"}, Anew: true})
	if j.Processed != 7 || j.Failed != 1 || len(j.FailedOf) != 1 {
		t.Errorf("%+v", j)
	}
}

// TestAgainWhileTheWorkerLeavesIsNotLost calls it in the worker's last moment.
func TestAgainWhileTheWorkerLeavesIsNotLost(t *testing.T) {
	l := newLamp(memstore.New(), "second")
	k := l.kind()
	var r *Runner
	k.Ended = func(j Job) {
		if j.Status == Interrupted {
			must(r.Again(context.Background(), j.ID, lampArgs{"second"}))
		}
	}
	r = New(Config{Store: l.store, Kinds: []Kind{k}})
	t.Cleanup(r.Close)
	j := l.light(t, r, "first")
	for {
		j, err := r.Wait(t.Context(), j.ID)
		if err != nil {
			t.Fatal(err)
		}
		if j.Status == Completed {
			return
		}
	}
}
