package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

func TestAJobIsDoneOnceAndCountsWhatItDid(t *testing.T) {
	for _, units := range []int{0, 1, 3, 10} {
		w := newWorld(t, units)
		r := w.open()
		j := w.start(r)
		if j.Status != Running || !strings.Contains(string(j.Args), `"units":`) {
			t.Errorf("Start answered %+v", j)
		}
		w.whole(w.finish(r, j.ID))
		if w.done.Load() != 1 {
			t.Errorf("Done was called %d times", w.done.Load())
		}
	}
}

func TestAJobRunsOnPebble(t *testing.T) {
	w, dir := newWorld(t, 10), t.TempDir()
	open := func() store.Store {
		s, err := pebblestore.Open(dir, pebblestore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	f := &faultStore{Store: s, at: 3, dead: true, takes: true, err: store.ErrClosed}
	r := w.runner(f)
	j := w.start(r)
	r.Wait(t.Context(), j.ID) // until the store is gone
	r.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	w.mem = open()
	defer w.mem.Close()
	w.advance(lease)
	second := w.runner(w.mem)
	defer second.Close()
	w.whole(w.finish(second, j.ID))
}

// TestEveryCommitMayFailOrCrash visits every commit of a job: it fails, with
// its effect and without, and the process goes on or is gone.
func TestEveryCommitMayFailOrCrash(t *testing.T) {
	const units = 10
	reached := 0
	for at := 2; at < 10; at++ { // commit 1 is Start's
		for _, f := range []*faultStore{
			{err: store.ErrConflict}, {err: errors.New("disk")}, {err: errors.New("disk"), takes: true},
			{err: store.ErrClosed, dead: true}, {err: store.ErrClosed, takes: true, dead: true},
		} {
			if reached = max(reached, everyCommit(t, units, at, f)); t.Failed() {
				t.Fatalf("commit %d, took effect %v, crash %v, %v", at, f.takes, f.dead, f.err)
			}
		}
	}
	if reached != 6 { // Start, four batches, the end
		t.Errorf("the last commit was number %d, want 6", reached)
	}
}

// everyCommit returns the number of the commit at which f failed, if it came so far.
func everyCommit(t *testing.T, units, at int, fails *faultStore) (reached int) {
	for _, ahead := range []bool{false, true} {
		w := newWorld(t, units)
		w.ahead = ahead
		f := &faultStore{Store: w.mem, at: at, takes: fails.takes, dead: fails.dead, err: fails.err}
		r := w.runner(f)
		j := w.start(r)
		if _, err := r.Wait(t.Context(), j.ID); err == nil {
			w.once(units)
		}
		r.Close()
		if f.commits >= at {
			reached = max(reached, at)
		}
		w.advance(lease)
		w.whole(w.finish(w.open(), j.ID))
	}
	return reached
}

// TestTwoRunnersNeverDoABatchTwice lets leases run out at any moment, so that
// two holders meet in the same batch.
func TestTwoRunnersNeverDoABatchTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.IntRange(0, 30).Draw(t, "units"))
		w.ahead = rapid.Bool().Draw(t, "ahead")
		skips := rapid.SliceOfN(rapid.IntRange(0, 40), 40, 40).Draw(t, "seconds")
		var steps atomic.Int64
		one, two := w.runner(w.mem), w.runner(w.mem)
		two.look = time.Millisecond
		defer one.Close()
		defer two.Close()
		w.step = func(context.Context) error {
			if n := steps.Add(1); int(n) < len(skips) {
				w.advance(time.Duration(skips[n]) * time.Second)
				one.resume(context.Background())
				two.resume(context.Background())
			}
			return nil
		}
		j := w.start(one)
		w.whole(w.finish(two, j.ID))
	})
}

func TestOneHolderAtATimeUntilItsLeaseRanOut(t *testing.T) {
	w := newWorld(t, 10)
	var steps atomic.Int64
	inStep := [3]chan struct{}{1: make(chan struct{}), 2: make(chan struct{})}
	goOn := [3]chan struct{}{1: make(chan struct{}), 2: make(chan struct{})}
	w.step = func(context.Context) error {
		if n := steps.Add(1); n <= 2 {
			close(inStep[n])
			<-goOn[n]
		}
		return nil
	}
	one, two := w.open(), w.open()
	stopped := one.changed
	j := w.start(one)
	<-inStep[1]
	w.advance(lease - 1)
	if err := two.Resume(t.Context()); err != nil || len(two.working) != 0 {
		t.Fatalf("another took the job up under a live lease (%v)", err)
	}
	w.advance(1)
	if err := two.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-inStep[2]
	close(goOn[1]) // the slow one's batch is refused, and it lets go
	<-stopped
	w.once(0)
	close(goOn[2])
	w.whole(w.finish(two, j.ID))
}

func TestAProcessTakesUpItsOwnAtOnce(t *testing.T) {
	w := newWorld(t, 10)
	open := func(s store.Store) *Runner {
		return New(Config{Store: s, Kinds: []Kind{w.kind(s)}, Now: w.now, Lease: lease, Holder: "node-1"})
	}
	one := open(&faultStore{Store: w.mem, at: 3, dead: true, err: store.ErrClosed})
	j := w.start(one)
	one.Wait(t.Context(), j.ID)
	one.Close()
	two := open(w.mem)
	defer two.Close()
	w.whole(w.finish(two, j.ID))
}

func TestCloseStopsBetweenBatchesAndGivesTheLeaseBack(t *testing.T) {
	for at := 1; at < 16; at++ {
		w := newWorld(t, 10)
		w.ahead = at >= 8
		f := &faultStore{Store: w.mem}
		r := w.runner(f)
		f.hook = func(n int) {
			if n == at%8 {
				r.stop() // as Close does
			}
		}
		j, err := r.Start(t.Context(), "add", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Wait(t.Context(), j.ID)
		r.Close()
		w.whole(w.finish(w.open(), j.ID)) // the clock stood still
	}
}

func TestAClosedRunnerStartsNothing(t *testing.T) {
	w := newWorld(t, 1)
	r := w.runner(w.mem)
	r.Close()
	if _, err := r.Start(t.Context(), "add", nil); !errors.Is(err, fault.Unavailable) {
		t.Errorf("Start after Close: %v", err)
	}
	if _, err := w.open().Start(t.Context(), "other", nil); !errors.Is(err, fault.Invalid) {
		t.Errorf("Start of an unknown kind: %v", err)
	}
}

// TestNoBatchFollowsACancel cancels after every commit.
func TestNoBatchFollowsACancel(t *testing.T) {
	const units = 10
	for i := range 12 {
		at := i%6 + 1
		w := newWorld(t, units)
		w.ahead = i >= 6
		f := &faultStore{Store: w.mem}
		r, other := w.runner(f), w.open()
		reached, goOn := make(chan struct{}), make(chan struct{})
		f.hook = func(n int) {
			if n == at {
				close(reached)
				<-goOn
			}
		}
		started := make(chan Job, 1)
		go func() { started <- w.start(r) }()
		<-reached
		jobs, err := other.List(t.Context())
		if err != nil || len(jobs) != 1 {
			t.Fatalf("List: %v, %v", jobs, err)
		}
		j, err := other.Cancel(t.Context(), jobs[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		close(goOn)
		<-started
		w.advance(lease)
		if got := w.finish(r, j.ID); got.Status != j.Status || got.Processed != j.Processed {
			t.Errorf("cancelled after commit %d as %+v, and then it was %+v", at, j, got)
		}
		r.Close()
		if wantStatus := map[bool]Status{true: Completed, false: Cancelled}[at == 6]; j.Status != wantStatus {
			t.Errorf("cancelled after commit %d: %s", at, j.Status)
		}
		w.once(j.Processed)
	}
}

func TestUnavailableIsWaitedOutAndSaid(t *testing.T) {
	w := newWorld(t, 10)
	var away atomic.Int64
	w.step = func(context.Context) error {
		if n := away.Add(1); n > 2 && n < 8 {
			return fault.New(fault.Unavailable, "the key process is away")
		}
		return nil
	}
	f := &faultStore{Store: w.mem}
	r := w.runner(f)
	defer r.Close()
	said := false
	f.hook = func(int) {
		for _, rec := range must(w.mem.Scan(context.Background(), store.Prefix("job:"), store.ScanOptions{})) {
			h, err := parse(rec)
			said = said || err == nil && h.Status == Running && strings.Contains(h.Error, "the key process is away")
		}
	}
	j := w.start(r)
	w.whole(w.finish(r, j.ID))
	if !said {
		t.Error("the job never said what it waited for")
	}
}

func TestAnotherErrorFailsTheJobWithoutItsCause(t *testing.T) {
	w := newWorld(t, 10)
	w.step = func(context.Context) error {
		return fault.Wrap(fault.Damaged, errors.New("canary"), "the row is damaged")
	}
	r := w.open()
	j := w.finish(r, w.start(r).ID)
	if j.Status != Failed || j.Error != "the row is damaged" {
		t.Errorf("the job ended as %+v", j)
	}
	w.step = func(context.Context) error { return errors.New("canary") }
	if j = w.finish(r, w.start(r).ID); j.Status != Failed || strings.Contains(j.Error, "canary") {
		t.Errorf("the job ended as %+v", j)
	}
}

func TestAnEstimateThatTakesLongIsDoneWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		kind := w.kind(w.mem)
		kind.Count = func(ctx context.Context, _ Job) (int, error) { <-ctx.Done(); return 5, ctx.Err() }
		r := New(Config{Store: w.mem, Kinds: []Kind{kind}, Now: w.now, Lease: 60 * time.Millisecond})
		defer r.Close()
		if j := w.finish(r, w.start(r).ID); j.Status != Completed || j.Total != 0 || j.Processed != 10 {
			t.Errorf("the job ended as %+v", j)
		}
	})
}

func TestABatchThatTakesLongerThanTheLeaseIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 10)
		var n atomic.Int64
		w.step = func(ctx context.Context) error {
			if n.Add(1) != 2 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		r := New(Config{Store: w.mem, Kinds: []Kind{w.kind(w.mem)}, Now: w.now, Lease: 60 * time.Millisecond})
		defer r.Close()
		w.whole(w.finish(r, w.start(r).ID))
	})
}

func TestABatchOverTheLimitFailsTheJob(t *testing.T) {
	w := newWorld(t, 1)
	r := New(Config{Store: w.mem, Now: w.now, Kinds: []Kind{{Name: "large", Step: func(context.Context, Job) (s Step, err error) {
		s.Batch.Put("k", make([]byte, store.MaxValue+1))
		return s, nil
	}}}})
	defer r.Close()
	j, err := r.Start(t.Context(), "large", nil)
	if err != nil {
		t.Fatal(err)
	}
	if j = w.finish(r, j.ID); j.Status != Failed || j.Error == "" {
		t.Errorf("the job ended as %+v", j)
	}
}

func TestOnlyTheFirstHundredFailuresAreNamed(t *testing.T) {
	var j Job
	for i := range 70 {
		j = j.after(Step{Failed: []string{fmt.Sprint("a", i), fmt.Sprint("b", i)}, Processed: 2})
	}
	if j.Failed != 140 || j.Processed != 140 || len(j.FailedOf) != maxFailedOf || j.FailedOf[99] != "b49" {
		t.Errorf("%d failed, %d names, the last %s", j.Failed, len(j.FailedOf), j.FailedOf[len(j.FailedOf)-1])
	}
}

func TestAListIsNewestFirstAndOldEndsArePruned(t *testing.T) {
	w := newWorld(t, 0)
	r := w.open()
	var b store.Batch
	for i := range keep + 5 {
		id := fmt.Sprintf("00000000-0000-7000-8000-%012d", i)
		status := `"completed"`
		if i == 0 {
			status = `"running"`
		}
		b.Put(layout.Job(id), fmt.Appendf(nil, `{"id":%q,"kind":"other","status":%s,"total":0,"processed":0,"failed":0,"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z"}`, id, status))
	}
	if _, err := w.mem.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	last := w.finish(r, w.start(r).ID)
	jobs, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(jobs) != 1+keep+1 || jobs[0].ID != last.ID || jobs[1+keep].Status != Running || !strings.HasSuffix(jobs[keep].ID, "000005") {
		t.Errorf("%d jobs, the first %+v, the last %+v", len(jobs), jobs[0], jobs[len(jobs)-1])
	}
}

func TestARowThatIsNotUnderstoodIsLeftAlone(t *testing.T) {
	w := newWorld(t, 1)
	id := "01900000-0000-7000-8000-000000000001"
	good := `{"id":"` + id + `","kind":"add","status":"running","total":0,"processed":0,"failed":0,"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z"}`
	r := w.open()
	for _, row := range []string{"", "{}", good[:len(good)-1] + `,"priority":1}`, strings.Replace(good, "000001", "000002", 1), good + "{}", strings.Replace(good, "running", "walking", 1)} {
		var b store.Batch
		b.Put(layout.Job(id), []byte(row))
		if _, err := w.mem.Commit(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		if err := r.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := r.Get(t.Context(), id)
		if _, lerr := r.List(t.Context()); !errors.Is(err, fault.Damaged) || !errors.Is(lerr, fault.Damaged) {
			t.Errorf("row %q: Get: %v, List: %v", row, err, lerr)
		}
		if got := must(w.mem.Get(t.Context(), layout.Job(id))); string(got.Value) != row {
			t.Errorf("row %q became %q", row, got.Value)
		}
	}
	for _, id := range []string{"", "x", "01900000-0000-7000-8000-000000000009", strings.Repeat("0", 5000)} {
		if _, err := r.Cancel(t.Context(), id); !errors.Is(err, fault.NotFound) {
			t.Errorf("Cancel(%q): %v", id, err)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
