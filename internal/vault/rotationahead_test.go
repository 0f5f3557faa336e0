package vault

import (
	"testing"

	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/store"
)

// What was made ahead for another cursor or with another session is not of this
// drain, or not under these keys.
func TestABatchMadeAheadIsUsedOnceAtItsCursorAndWithItsSession(t *testing.T) {
	x := newSpin(t)
	x.fill(3)
	a := &ahead{batches: map[string]*batchAhead{}}
	w := reencrypting{Service: x.turn.Service, args: rotationArgs{Vault: x.id, Old: x.fresh.Fingerprint(), Session: "s"}}
	w.ID = "j"
	at := func(cursor, session string) reencrypting {
		w := w
		w.Cursor, w.args.Session = cursor, session
		return w
	}
	for what, c := range map[string]struct {
		w    reencrypting
		used bool
	}{
		"as it was made":  {at("c", "s"), true},
		"another cursor":  {at("d", "s"), false},
		"another session": {at("c", "r"), false},
	} {
		a.make(w, "c")
		if got := a.take(t.Context(), c.w); (got != nil) != c.used || c.used && !got.end {
			t.Errorf("%s: %+v", what, got)
		}
		if a.take(t.Context(), at("c", "s")) != nil {
			t.Errorf("%s: it is there once more", what)
		}
	}
	a.make(w, "c")
	a.forget(w.ID)
	if a.take(t.Context(), at("c", "s")) != nil {
		t.Error("it is there after its job")
	}
	x.hooks.Store.Close()
	a.make(w, "c")
	if a.take(t.Context(), at("c", "s")) != nil {
		t.Error("one that failed is used")
	}
}

// A row that was replaced since its batch was made ahead is not written over: the
// client re-encrypts it while the batch before is committed.
func TestABatchMadeAheadReplacesNothingThatWasWrittenSince(t *testing.T) {
	x := newSpin(t)
	x.fill(230)
	r, jobs := x.serve()
	batches := 0
	x.hooks.beforeCommit = func(b *store.Batch) error {
		if len(b.Writes) > 50 {
			if batches++; batches == 1 {
				x.rewrapped() // all rows, those of the next batch too
			}
		}
		return nil
	}
	j := x.begun(r, false)
	x.completed(x.end(r, jobs, j.ID), 230)
	if under := x.under(); under[1] != 0 {
		t.Errorf("under %v", under)
	}
	if done, err := jobs.Get(t.Context(), j.ID); err != nil || done.Status != job.Completed {
		t.Errorf("%+v, %v", done, err)
	}
	x.twin.destroy(t)
	x.opens()
}
