package thread

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// The DEK goes first: while the KMS has not destroyed it no row is removed, and a
// run that waits for the KMS goes on by itself.
func TestNoRowOfAThreadIsRemovedBeforeItsDEKIsDestroyed(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.talk(t, th.ID)
	w.bulk(t, th.ID, 1, 2*purgeRows) // more than one batch
	w.drop(t, th.ID)
	w.keep(t, boss, 1, 0)
	w.pass(day + time.Second)
	w.purgeRowsAreThere(t, th.ID)
}

// purgeRowsAreThere runs a purge while the KMS is away, and then with it.
func (w *world) purgeRowsAreThere(t *testing.T, thread string) {
	t.Helper()
	rows := func() (out []string) {
		for _, key := range w.rowsOf(t, thread) {
			if strings.Contains(key, ":msg:") || strings.Contains(key, ":past:") || strings.Contains(key, ":meta") {
				out = append(out, key)
			}
		}
		return out
	}
	before := rows()
	asked := make(chan struct{})
	w.kms.fail = fault.New(fault.Unavailable, "away")
	tries := 0
	w.kms.before = func() {
		if tries++; tries == 3 {
			close(asked)
		}
	}
	threads, r := w.purging(w.store)
	defer r.Close()
	j, err := threads.StartPurge(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	<-asked
	r.Close()
	if got := rows(); !slices.Equal(got, before) {
		t.Errorf("rows were removed: %d of %d are left", len(got), len(before))
	}
	m := decodeAs[meta](t, w.get(t, layout.ThreadMeta(thread)))
	if m.Purge == nil || !m.KMS.plain() || len(m.KMS.WrappedDEK) != 0 {
		t.Errorf("the record is %+v", m)
	}
	if _, err := w.Hold(t.Context(), boss, thread, api.PutHold{}); !errors.Is(err, fault.NotFound) {
		t.Errorf("a hold on a thread that is being purged: %v", err)
	}
	// The policy is withdrawn, and what was begun is ended nevertheless.
	w.keep(t, boss, 0, 0)
	w.kms.fail, w.kms.before = nil, nil
	_, r = w.purging(w.store)
	defer r.Close()
	if _, err := r.Cancel(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	if w.purge(t); len(w.rowsOf(t, thread)) != 0 {
		t.Errorf("left are %q", w.rowsOf(t, thread))
	}
}

func TestAThreadThatIsReencryptedLosesBothItsDEKs(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.talk(t, th.ID)
	m, err := w.record(t.Context(), th.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.beginMoving(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	w.say(t, th.ID, "under the new one")
	w.drop(t, th.ID)
	w.keep(t, boss, 1, 0)
	w.pass(day + time.Second)
	if w.purge(t); len(w.kms.keys) != 0 || len(w.rowsOf(t, th.ID)) != 0 {
		t.Errorf("%d DEKs and %d rows are left", len(w.kms.keys), len(w.rowsOf(t, th.ID)))
	}
}

// A rewrap and a rotation of the DEK leave a thread alone that is being purged.
func TestAThreadThatIsPurgedIsNotRewrappedNorReencrypted(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.say(t, th.ID, "x")
	w.drop(t, th.ID)
	w.editMeta(t, th.ID, func(m *meta) { m.Purge, m.KMS = &purging{Since: 1, DEKs: m.deks()}, kmsMeta{} })
	before := w.get(t, layout.ThreadMeta(th.ID))
	if j := w.rewrap(t, true); j.Failed != 0 {
		t.Errorf("the rewrap says %+v", j)
	}
	if _, _, err := w.RotateDEK(t.Context(), nil, th.ID); !errors.Is(err, fault.NotFound) {
		t.Errorf("RotateDEK: %v", err)
	}
	if string(w.get(t, layout.ThreadMeta(th.ID))) != string(before) {
		t.Error("the record was changed")
	}
}

// TestAPurgeSurvivesEveryCommit stops the store at every commit of a run, with its
// effect and without, and the KMS keeps a DEK that has rows as long as they are
// not marked.
func TestAPurgeSurvivesEveryCommit(t *testing.T) {
	last := 0
	for at := 2; at == 2 || last == at-1; at++ {
		for _, takes := range []bool{false, true} {
			w := newWorld(t)
			gone, aged, held := w.thread(t, owner, "gone"), w.thread(t, owner, "aged"), w.thread(t, owner, "held")
			for _, th := range []api.Thread{gone, aged, held} {
				w.talk(t, th.ID)
				w.bulk(t, th.ID, 1, 400)
			}
			w.drop(t, gone.ID)
			w.drop(t, held.ID)
			if _, err := w.Hold(t.Context(), boss, held.ID, api.PutHold{}); err != nil {
				t.Fatal(err)
			}
			keys := len(w.kms.keys)
			w.keep(t, boss, 2, 2)
			w.pass(2*day + time.Second)
			young := w.say(t, aged.ID, "young")
			dead := &storetest.DyingStore{Store: w.store.Store, At: at, Takes: takes}
			threads, r := w.purging(dead)
			j, err := threads.StartPurge(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			r.Wait(t.Context(), j.ID) // until the end, or until the store is gone
			r.Close()
			if dead.Dead() {
				last = at
			}
			if at%2 == 0 { // the job goes on, or is forgotten and another takes its place
				var b store.Batch
				job.Forget(&b, j.ID)
				w.commitAll(t, b)
				w.purge(t)
			} else {
				_, r = w.purging(w.store)
				if err := r.Resume(t.Context()); err != nil {
					t.Fatal(err)
				}
				if j = await(t, r, j.ID); j.Status != job.Completed {
					t.Fatalf("commit %d: %+v", at, j)
				}
				r.Close()
			}
			if rows := w.rowsOf(t, gone.ID); len(rows) != 0 || len(w.kms.keys) != keys-1 {
				t.Fatalf("commit %d, took effect %v: left are %d rows, and of %d DEKs %d", at, takes, len(rows), keys, len(w.kms.keys))
			}
			if got := ids(w.list(t, owner, aged.ID, MessageQuery{IncludeDeleted: true}).Messages); !slices.Equal(got, []string{young}) {
				t.Fatalf("commit %d: of the old messages are left %d", at, len(got)-1)
			}
			if n := len(w.rowsOf(t, held.ID)); n < 3*400 {
				t.Fatalf("commit %d: of the held thread are left %d rows", at, n)
			}
			w.whole(t)
		}
	}
	if last < 12 {
		t.Errorf("the run had %d commits", last)
	}
}
