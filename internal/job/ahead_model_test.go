package job

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// relay is a Kind that writes into the row of each unit which arguments it was done
// with. Only the newest arguments work, and what goes wrong was drawn before.
type relay struct {
	t       *rapid.T
	store   *wildStore
	clock   atomic.Int64
	units   int
	steps   atomic.Int64
	plan    []int // of the n-th step: what goes wrong, and whether the next may be made ahead
	newest  atomic.Int64
	done    atomic.Int64
	runners []*Runner
}

type relayArgs struct{ N int64 }

func (l *relay) now() time.Time { return time.Unix(0, l.clock.Load()) }

func (l *relay) kind() Kind {
	return Kind{Name: "relay", Step: l.step,
		Done: func(context.Context, Job) error { l.done.Add(1); return nil },
		Undo: func(context.Context, Job) (b store.Batch, err error) {
			b.Put("undone", nil)
			return b, nil
		},
	}
}

func (l *relay) step(ctx context.Context, j Job) (s Step, err error) {
	var a relayArgs
	at := 0
	if err := j.Decode(&a, &at); err != nil {
		return s, err
	}
	if a.N < l.newest.Load() {
		return s, fmt.Errorf("%w: %w", ErrInterrupted, fault.New(fault.NotFound, "old arguments"))
	}
	do := l.plan[int(l.steps.Add(1))%len(l.plan)]
	switch do {
	case 0:
		return s, fault.New(fault.Unavailable, "not now")
	case 1:
		return s, store.ErrConflict
	}
	to := min(at+2, l.units)
	for n := at; n < to; n++ {
		rec, err := l.store.Get(ctx, unit(n))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return s, store.Fault(err)
		}
		s.Batch.Put(unit(n), fmt.Appendf(rec.Value, "%d;", a.N))
	}
	s.Processed, s.Done, s.Ahead = to-at, to == l.units, do > 3
	return s.At(to)
}

// wildStore makes one commit after the other, fails those that the plan says, and
// holds each batch of the job against the job's row as it was.
type wildStore struct {
	store.Store
	t    *rapid.T
	mu   sync.Mutex
	n    int
	plan []int
}

func (w *wildStore) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	do := w.plan[w.n%len(w.plan)]
	if do == 0 {
		return 0, errors.New("the disk is away")
	}
	before := w.row(b)
	rev, err := w.Store.Commit(ctx, b)
	if err != nil {
		return rev, err
	}
	w.check(before, b)
	if do == 1 {
		return 0, errors.New("the disk was away")
	}
	return rev, nil
}

// row is the job of which b writes the row, as it stands.
func (w *wildStore) row(b *store.Batch) (h held) {
	for _, write := range b.Writes {
		if rec, err := w.Store.Get(context.Background(), write.Key); err == nil && strings.HasPrefix(write.Key, layout.Job("")) {
			h = must(parse(rec))
		}
	}
	return h
}

// check holds what was committed against the job as it stood before.
func (w *wildStore) check(before held, b *store.Batch) {
	if before.Status.ended() && before.Status != "" {
		w.t.Errorf("a commit came after the end %+v", before)
	}
	var a relayArgs
	at := 0
	for _, write := range b.Writes {
		if !strings.HasPrefix(write.Key, "unit:") {
			continue
		}
		if err := before.Decode(&a, &at); err != nil {
			w.t.Fatal(err)
		}
		if n, err := strconv.Atoi(write.Key[5:]); err != nil || n < at || n >= at+2 || before.Status != Running || string(write.Value) != fmt.Sprintf("%d;", a.N) {
			w.t.Errorf("%s became %q while the job was %+v", write.Key, write.Value, before)
		}
	}
	if after := w.row(b); len(before.Args) > 0 && argsOf(after).N < argsOf(before).N {
		w.t.Errorf("the arguments %s are back, over %s", after.Args, before.Args)
	}
}

func argsOf(h held) (a relayArgs) {
	at := 0
	if err := h.Decode(&a, &at); err != nil {
		panic(err)
	}
	return a
}

func (l *relay) runner() *Runner {
	r := New(Config{Store: l.store, Kinds: []Kind{l.kind()}, Now: l.now, Lease: lease})
	r.look = time.Millisecond
	r.rest = func(d time.Duration) { r.wait(min(d, time.Millisecond)) } // what fails again and again is tried no later
	l.runners = append(l.runners, r)
	return r
}

// TestWhateverHappensEveryBatchIsOfItsArgumentsAndDoneOnce: batches are made ahead
// or not, commits fail with their effect and without, steps fail, two runners share
// the job, its arguments change at any time, it is cancelled, runners close.
func TestWhateverHappensEveryBatchIsOfItsArgumentsAndDoneOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := &relay{t: t, units: rapid.IntRange(1, 16).Draw(t, "units")}
		l.plan = rapid.SliceOfN(rapid.IntRange(0, 12), 20, 20).Draw(t, "steps")
		l.plan[0] = 12 // or nothing is ever done
		l.store = &wildStore{Store: memstore.New(), t: t, plan: rapid.SliceOfN(rapid.IntRange(0, 12), 20, 20).Draw(t, "commits")}
		l.store.plan[1], l.store.plan[2] = 12, 12
		l.clock.Store(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
		defer func() {
			for _, r := range l.runners {
				r.Close()
			}
		}()
		r := l.runner()
		j := must(r.Start(t.Context(), "relay", relayArgs{}))
		cancelled := false
		for _, do := range rapid.SliceOfN(rapid.IntRange(0, 9), 0, 8).Draw(t, "deeds") {
			switch do {
			case 0, 1, 2, 3, 4:
				l.again(r, j.ID)
			case 5:
				_, err := r.Cancel(t.Context(), j.ID)
				cancelled = true
				_ = err // perhaps it took effect
			case 6:
				r.Close()
				r = l.runner()
			case 7:
				r = l.runner()
			case 8:
				l.clock.Add(int64(lease))
			}
			_ = r.Resume(t.Context())
		}
		l.whole(l.finish(r, j.ID), cancelled)
	})
}

// again brings newer arguments, and makes the older ones useless.
func (l *relay) again(r *Runner, id string) {
	n := l.newest.Load() + 1
	if _, err := r.Again(context.Background(), id, relayArgs{n}); err == nil {
		l.newest.Store(n)
	}
}

// finish brings the job to its end.
func (l *relay) finish(r *Runner, id string) Job {
	l.clock.Add(int64(lease))
	for until := time.Now().Add(time.Minute); time.Now().Before(until); {
		_ = r.Resume(context.Background()) // which a failing commit may hinder
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		r.Wait(ctx, id)
		cancel()
		j := must(r.Get(context.Background(), id))
		switch {
		case j.Status.ended():
			return j
		case j.Status == Interrupted:
			l.again(r, id)
		}
	}
	l.t.Fatal("the job does not end")
	return Job{}
}

// whole fails unless each unit up to j's progress was done once, and none after.
func (l *relay) whole(j Job, cancelled bool) {
	for n := range l.units {
		rec, err := l.store.Get(context.Background(), unit(n))
		if times := strings.Count(string(rec.Value), ";"); times != map[bool]int{true: 1}[n < j.Processed] || times > 0 && err != nil {
			l.t.Errorf("unit %d says %q after %+v", n, rec.Value, j)
		}
	}
	_, err := l.store.Get(context.Background(), "undone")
	switch {
	case j.Status == Completed && j.Processed == l.units && l.done.Load() > 0 && err != nil:
	case j.Status == Cancelled && cancelled && err == nil:
	default:
		l.t.Errorf("it ended as %+v; undone: %v", j, err)
	}
}
