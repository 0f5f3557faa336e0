package job

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// A job whose batch is over the limit ends; while that cannot be committed it waits
// longer and longer.
func TestAJobThatCannotEndAfterABatchOverTheLimitWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		undos := 0
		r := New(Config{Store: memstore.New(), Kinds: []Kind{{
			Name: "large",
			Step: func(context.Context, Job) (s Step, err error) {
				s.Batch.Put("k", make([]byte, store.MaxValue+1))
				return s, nil
			},
			Undo: func(context.Context, Job) (b store.Batch, err error) {
				if undos++; undos < 10 {
					err = fault.New(fault.Unavailable, "not now")
				}
				return b, err
			},
		}}})
		defer r.Close()
		began := time.Now()
		if j := wait(t, r, must(r.Start(t.Context(), "large", nil)).ID, Failed); j.Error == "" {
			t.Errorf("it ended as %+v", j)
		}
		if took := time.Since(began); took < time.Second/2 {
			t.Errorf("%d tries to end in %v", undos, took)
		}
	})
}

// Of two calls of Again, one lets the job go on; the other may not work on it too.
func TestAgainThatAnotherWasFasterThanWorksOnNothing(t *testing.T) {
	l := newLamp(memstore.New(), "second")
	first := l.runner(t)
	j := wait(t, first, l.light(t, first, "first").ID, Interrupted)
	first.Close()
	there := Kind{Name: "lamp", Step: func(ctx context.Context, _ Job) (Step, error) {
		<-ctx.Done() // it has the job, and works long
		return Step{}, ctx.Err()
	}}
	other := New(Config{Store: l.store, Kinds: []Kind{there}})
	t.Cleanup(other.Close)
	faster := true
	r := New(Config{Kinds: []Kind{l.kind()}, Store: &commitHook{l.store, func() {
		if faster {
			faster = false
			must(other.Again(t.Context(), j.ID, lampArgs{"second"}))
		}
	}}})
	t.Cleanup(r.Close)
	if got := must(r.Again(t.Context(), j.ID, lampArgs{"second"})); got.Status != Running || faster {
		t.Errorf("Again: %+v", got)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.working) != 0 {
		t.Error("it works on a job that another process holds")
	}
}
