package job

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// stopStore is a store as a process sees it that stops at one of its commits, for so
// long: its calls from then on wait.
type stopStore struct {
	store.Store
	at      int64
	during  time.Duration
	commits atomic.Int64
	stopped atomic.Bool
}

func (s *stopStore) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	if s.commits.Add(1) == s.at {
		s.stopped.Store(true)
		time.Sleep(s.during)
		return s.Store.Commit(context.WithoutCancel(ctx), b) // what was sent before the stop arrives after it
	}
	return s.Store.Commit(ctx, b)
}

// With what is the default a job is gone on with by another process within 18 seconds
// of the last commit of one that stopped, and when that one wakes up, whatever it was
// about to commit is refused: each batch, each end and each undoing counts once.
func TestAJobOfAHolderThatStoppedIsTakenUpWithin18SecondsAndItsLateCommitIsRefused(t *testing.T) {
	for _, ahead := range []bool{false, true} {
		for _, during := range []time.Duration{10 * time.Second, 25 * time.Second, 60 * time.Second, time.Hour} {
			for at := int64(2); at <= 7; at++ { // 1 is the start's
				synctest.Test(t, func(t *testing.T) { takeOver(t, ahead, during, at) })
			}
		}
	}
}

func takeOver(t *testing.T, ahead bool, during time.Duration, at int64) {
	w := newWorld(t, 12)
	w.ahead = ahead
	stopping := &stopStore{Store: w.mem, at: at, during: during}
	var took atomic.Int64 // when the other one's first commit came
	other := watched{Store: w.mem, commit: func() { took.CompareAndSwap(0, time.Now().UnixNano()) }}
	one := New(Config{Store: stopping, Kinds: []Kind{w.kind(stopping)}})
	two := New(Config{Store: other, Kinds: []Kind{w.kind(other)}})
	if err := two.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(8 * time.Second) // the two do not look at the same times
	began := time.Now()
	j := w.start(one)
	j, err := two.Wait(t.Context(), j.ID)
	if err != nil {
		t.Fatal(err)
	}
	w.whole(j)
	stopped := stopping.stopped.Load()
	late := time.Duration(0)
	if took.Load() != 0 {
		late = time.Duration(took.Load() - began.UnixNano())
	}
	if during > 18*time.Second && stopped != (late > 0) || late > 18*time.Second {
		t.Errorf("stopped at commit %d for %v (ahead %v): taken up after %v", at, during, ahead, late)
	}
	synctest.Wait()
	time.Sleep(during) // it wakes up
	synctest.Wait()
	w.once(w.units)
	if after, err := two.Get(t.Context(), j.ID); err != nil || after.Status != Completed || after.Updated != j.Updated {
		t.Errorf("after it woke up the job is %+v, %v", after, err)
	}
	one.Close()
	two.Close()
}

// watched tells of each commit of a job's row.
type watched struct {
	store.Store
	commit func()
}

func (s watched) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	for _, w := range b.Writes {
		if strings.HasPrefix(w.Key, layout.Job("")) {
			s.commit()
		}
	}
	return s.Store.Commit(ctx, b)
}

// A holder that stopped in the commit that ends a job, cancelled by another meanwhile,
// or that was about to cancel it itself, undoes nothing a second time.
func TestAnUndoThatComesLateIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := memstore.New()
		kind := func(undone *atomic.Int64) Kind {
			return Kind{
				Name: "k",
				Step: func(ctx context.Context, _ Job) (Step, error) { return Step{}, ErrCancelled },
				Undo: func(context.Context, Job) (b store.Batch, err error) {
					n := undone.Add(1)
					b.Put("undone", []byte{byte(n)})
					return b, nil
				},
			}
		}
		var here, there atomic.Int64
		stopping := &stopStore{Store: mem, at: 2, during: time.Minute}
		one := New(Config{Store: stopping, Kinds: []Kind{kind(&here)}})
		there.Store(10)
		two := New(Config{Store: mem, Kinds: []Kind{kind(&there)}})
		if err := two.Resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		j, err := one.Start(t.Context(), "k", nil)
		if err != nil {
			t.Fatal(err)
		}
		if j, err = two.Wait(t.Context(), j.ID); err != nil || j.Status != Cancelled {
			t.Fatalf("%+v, %v", j, err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if rec, err := mem.Get(t.Context(), "undone"); err != nil || here.Load() != 1 || rec.Value[0] != 11 {
			t.Errorf("undone by %v, %v; the late one tried %d times", rec.Value, err, here.Load())
		}
		one.Close()
		two.Close()
	})
}

func TestTwoProcessesAreNotOneHolder(t *testing.T) {
	mem := memstore.New()
	one, two := New(Config{Store: mem}), New(Config{Store: mem})
	if one.holder == two.holder || one.holder == "" {
		t.Errorf("both are %q", one.holder)
	}
}
