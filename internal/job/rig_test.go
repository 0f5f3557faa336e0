package job

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const lease = 30 * time.Second

// tb is what testing.T and rapid.T have in common.
type tb interface {
	Helper()
	Cleanup(func())
	Context() context.Context
	Errorf(string, ...any)
	Fatalf(string, ...any)
	Fatal(...any)
}

// world is a store with units to be done, each once, and a clock.
type world struct {
	t     tb
	mem   store.Store
	units int
	clock atomic.Int64
	done  atomic.Int64 // calls of Kind.Done
	step  func(context.Context) error
	ahead bool // Step.Ahead
}

func newWorld(t tb, units int) *world {
	w := &world{t: t, mem: memstore.New(), units: units}
	w.clock.Store(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	return w
}

func (w *world) now() time.Time          { return time.Unix(0, w.clock.Load()) }
func (w *world) advance(d time.Duration) { w.clock.Add(int64(d)) }

// runner works on w through s.
func (w *world) runner(s store.Store) *Runner {
	return New(Config{Store: s, Kinds: []Kind{w.kind(s)}, Now: w.now, Lease: lease})
}

// open is runner over w's store, closed with the test.
func (w *world) open() *Runner {
	r := w.runner(w.mem)
	w.t.Cleanup(r.Close)
	return r
}

// kind adds 1 to the row of each unit, three units a batch. Unit 4 fails.
func (w *world) kind(s store.Store) Kind {
	return Kind{
		Name:  "add",
		Count: func(context.Context, Job) (int, error) { return w.units, nil },
		Step: func(ctx context.Context, j Job) (Step, error) {
			if w.step != nil {
				if err := w.step(ctx); err != nil {
					return Step{}, err
				}
			}
			return w.batch(ctx, s, j)
		},
		Done: func(context.Context, Job) error { w.done.Add(1); return nil },
	}
}

func (w *world) batch(ctx context.Context, s store.Store, j Job) (out Step, err error) {
	from, _ := strconv.Atoi(j.Cursor)
	to := min(from+3, w.units)
	for n := from; n < to; n++ {
		rec, err := s.Get(ctx, unit(n))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return out, store.Fault(err)
		}
		if n == 4 {
			out.Failed = append(out.Failed, unit(n))
			continue
		}
		out.Batch.Put(unit(n), append(rec.Value, '+'))
	}
	out.Cursor, out.Processed, out.Done, out.Ahead = strconv.Itoa(to), to-from, to == w.units, w.ahead
	return out, nil
}

func unit(n int) string { return fmt.Sprintf("unit:%03d", n) }

// start starts the job.
func (w *world) start(r *Runner) Job {
	w.t.Helper()
	j, err := r.Start(w.t.Context(), "add", map[string]int{"units": w.units})
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

// once fails unless every unit up to n was done exactly once, and none after.
func (w *world) once(n int) {
	w.t.Helper()
	for i := range w.units {
		want := "+"
		if i == 4 || i >= n {
			want = ""
		}
		rec, err := w.mem.Get(context.Background(), unit(i))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			w.t.Fatal(err)
		}
		if string(rec.Value) != want {
			w.t.Errorf("unit %d was done %d times, want %d", i, len(rec.Value), len(want))
		}
	}
}

// finish waits for the job's end with a Runner that resumes what there is.
func (w *world) finish(r *Runner, id string) Job {
	w.t.Helper()
	if err := r.Resume(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	j, err := r.Wait(ctx, id)
	if err != nil {
		w.t.Fatalf("Wait: %v: %+v", err, j)
	}
	return j
}

// whole fails unless j ended with all units done and the failed one named.
func (w *world) whole(j Job) {
	w.t.Helper()
	w.once(w.units)
	failed := 0
	if w.units > 4 {
		failed = 1
	}
	if j.Status != Completed || j.Processed != w.units || j.Total != w.units || j.Failed != failed || len(j.FailedOf) != failed || j.Error != "" {
		w.t.Errorf("the job ended as %+v", j)
	}
}

// faultStore fails the commit number at, before or after it took effect, and
// with dead everything from then on.
type faultStore struct {
	store.Store
	mu      sync.Mutex
	at      int
	takes   bool
	dead    bool
	err     error
	commits int
	over    bool
	hook    func(n int) // after commit n took effect
}

func (f *faultStore) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return 0, store.ErrClosed
	}
	f.commits++
	hit := f.commits == f.at
	f.over = hit && f.dead
	if hit && !f.takes {
		return 0, f.err
	}
	rev, err := f.Store.Commit(ctx, b)
	if hit {
		return 0, f.err
	}
	if f.hook != nil && err == nil {
		f.hook(f.commits)
	}
	return rev, err
}

func (f *faultStore) Get(ctx context.Context, key string) (store.Record, error) {
	if f.isOver() {
		return store.Record{}, store.ErrClosed
	}
	return f.Store.Get(ctx, key)
}

func (f *faultStore) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	if f.isOver() {
		return nil, store.ErrClosed
	}
	return f.Store.Scan(ctx, r, opt)
}

func (f *faultStore) isOver() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.over
}
