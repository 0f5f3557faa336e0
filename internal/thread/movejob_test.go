package thread

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

func TestARotationLeavesNothingUnderTheOldDEKAndChangesNoAnswer(t *testing.T) {
	for _, n := range []int{1, 19, 20, 21, 130} {
		x := newShift(t, n)
		before, old := x.everything(x.Service), x.meta()
		rows := x.rows()[old.KMS.KeyID]
		j := x.rotate()
		x.completed(j)
		if j.Total != len(rows) || j.Processed != len(rows) {
			t.Errorf("%d rows: the job says %d of %d", len(rows), j.Processed, j.Total)
		}
		x.arrived(old.KMS.KeyID)
		x.same(before)
		now := x.meta()
		now.KMS = old.KMS
		if now.UpdatedTS != old.UpdatedTS || now.Title != old.Title {
			t.Errorf("the record is %+v, was %+v", now, old)
		}
		if got := x.rows()[x.meta().KMS.KeyID]; !slices.Equal(got, rows) {
			t.Errorf("there are rows %v, there were %v", got, rows)
		}
	}
}

// Operators are told of both DEKs of a thread that moves, and which is in use.
func TestTheDEKsOfAThreadAreThoseThatItsRowsMayBeUnder(t *testing.T) {
	x := newShift(t, 3)
	told := func(want ...string) {
		t.Helper()
		deks, err := x.DEKs(t.Context(), []string{uuid.NewString(), x.thread})
		x.must(err)
		got := []string{}
		for _, d := range deks {
			if d.ThreadID != x.thread || d.CreatedAt.IsZero() || d.KEKVersion != 1 {
				t.Errorf("%+v", d)
			}
			got = append(got, d.KeyID+" "+d.State)
		}
		if !slices.Equal(got, want) {
			t.Errorf("it tells %v, want %v", got, want)
		}
	}
	old := x.meta().KMS.KeyID
	told(old + " enabled")
	m := x.begin()
	told(m.KMS.KeyID+" enabled", old+" decrypt-only")
	s, jobs := x.process(x.store)
	defer jobs.Close()
	j, err := jobs.Start(t.Context(), MoveJob, MoveArgs{Thread: x.thread})
	x.must(err)
	x.completed(await(t, jobs, j.ID))
	told(m.KMS.KeyID + " enabled")
	for _, id := range []string{"", "a:b", x.thread + "0", "../meta"} {
		if _, err := s.DEKs(t.Context(), []string{x.thread, id}); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestAThreadWithoutMessagesIsRotated(t *testing.T) {
	x := newShift(t, 0)
	old := x.meta().KMS.KeyID
	x.completed(x.rotate())
	if m := x.meta(); m.Moving != nil || m.KMS.KeyID == old || x.kms.has(old) {
		t.Errorf("it is %+v", m)
	}
}

// TestARotationSurvivesEveryCommit kills the server at every commit, with its
// effect and without, and each second life at every commit of its own.
func TestARotationSurvivesEveryCommit(t *testing.T) {
	full := newShift(t, 45)
	before, old := full.everything(full.Service), full.meta().KMS.KeyID
	last := 0
	for at := 1; at == 1 || last == at-1; at++ {
		for _, takes := range []bool{false, true} {
			x := full.clone(t)
			if x.live(at, takes) {
				last = at
			}
			x.same(before)
			for second := 1; ; second++ {
				y := x.clone(t)
				died := y.live(second, takes)
				y.same(before)
				if j := y.survives(old); j.Processed != j.Total {
					t.Errorf("%+v", j)
				}
				y.same(before)
				if t.Failed() {
					t.Fatalf("commit %d and then %d, took effect: %v", at, second, takes)
				}
				if !died {
					break
				}
			}
		}
	}
	if last < 6 { // start, four batches, end
		t.Errorf("the rotation had %d commits", last)
	}
}

// live resumes what there is and asks for the rotation, in a process that dies at
// commit at, and reports whether it did.
func (x *shift) live(at int, takes bool) bool {
	x.t.Helper()
	dying := &storetest.DyingStore{Store: x.store, At: at, Takes: takes}
	s, jobs := x.process(dying)
	defer jobs.Close()
	jobs.Resume(x.t.Context())
	if all, _ := jobs.List(x.t.Context()); len(all) > 0 {
		jobs.Wait(x.t.Context(), all[0].ID)
		return dying.Dead()
	}
	if _, j, err := s.RotateDEK(x.t.Context(), jobs, x.thread); err == nil {
		jobs.Wait(x.t.Context(), j.ID) // until the end, or until the store is gone
	}
	return dying.Dead()
}

// survives goes on with another process, and with the same request where that
// finds that nothing was begun.
func (x *shift) survives(old string) job.Job {
	x.t.Helper()
	s, jobs := x.process(x.store)
	defer jobs.Close()
	x.must(jobs.Resume(x.t.Context()))
	all, err := jobs.List(x.t.Context())
	x.must(err)
	if len(all) == 0 {
		_, j, err := s.RotateDEK(x.t.Context(), jobs, x.thread)
		x.must(err)
		all = append(all, j)
	}
	j := await(x.t, jobs, all[0].ID)
	x.completed(j)
	if len(all) != 1 {
		x.t.Errorf("%d jobs", len(all))
	}
	x.arrived(old)
	return j
}

// A lost answer of the KMS, or one that is away, is waited out.
func TestARotationWaitsForTheKMS(t *testing.T) {
	for n := 1; n < 14; n++ {
		x := newShift(t, 45)
		before, old := x.everything(x.Service), x.meta().KMS.KeyID
		calls := 0
		x.kms.before = func() {
			calls++
			x.kms.fail = nil
			if calls == n {
				x.kms.fail = fault.New(fault.Unavailable, "away")
			}
		}
		s, jobs := x.process(x.store)
		_, j, err := s.RotateDEK(t.Context(), jobs, x.thread)
		if err != nil {
			wantCode(t, err, fault.Unavailable)
			if x.meta().Moving != nil {
				t.Error("it was begun")
			}
			_, j, err = s.RotateDEK(t.Context(), jobs, x.thread)
		}
		x.must(err)
		x.completed(await(t, jobs, j.ID))
		jobs.Close()
		x.kms.before = nil
		x.arrived(old)
		x.same(before)
	}
}

func TestAShreddingWhoseAnswerIsLostIsDone(t *testing.T) {
	x := newShift(t, 5)
	old := x.meta().KMS.KeyID
	x.kms.lost = fault.New(fault.Unavailable, "the KMS was killed")
	x.completed(x.rotate())
	x.arrived(old)
	if !slices.Equal(x.kms.shredded, []string{old, old}) {
		t.Errorf("shredded %v", x.kms.shredded)
	}
}

// A row of which the KMS says nothing is asked for again, and not called failed.
func TestARowThatTheKMSCannotAnswerForIsAskedForAgain(t *testing.T) {
	x := newShift(t, 45)
	old := x.meta().KMS.KeyID
	s, jobs := x.process(x.store)
	defer jobs.Close()
	lame := &lameKMS{KMS: x.kms}
	s.kms = lame
	_, j, err := s.RotateDEK(t.Context(), jobs, x.thread)
	x.must(err)
	x.completed(await(t, jobs, j.ID))
	x.arrived(old)
	if lame.calls < 3 {
		t.Errorf("%d calls", lame.calls)
	}
}

// lameKMS does not open the first item of every other call.
type lameKMS struct {
	KMS
	calls int
}

func (k *lameKMS) Decrypt(ctx context.Context, items []kmsapi.DecryptItem) ([]kmsapi.DecryptResult, error) {
	out, err := k.KMS.Decrypt(ctx, items)
	if k.calls++; k.calls%2 == 1 && err == nil {
		out[0] = kmsapi.DecryptResult{Err: fault.New(fault.Unavailable, "not now")}
	}
	return out, err
}

func TestARowThatOpensUnderNeitherDEKKeepsTheOldOne(t *testing.T) {
	x := newShift(t, 60)
	before, old := x.everything(x.Service), x.meta().KMS.KeyID
	a, b := newestRow(x.ids[5]).key(x.thread), newestRow(x.ids[50]).key(x.thread)
	was := map[string][]byte{a: x.get(t, a), b: x.get(t, b)}
	x.overwrite(t, a, was[b]) // swapped
	x.overwrite(t, b, was[a])
	j := x.rotate()
	want := []string{"row msg:" + x.ids[5], "row msg:" + x.ids[50]}
	if j.Status != job.Failed || !strings.Contains(j.Error, "2 rows") || !strings.Contains(j.Error, "backup") || !slices.Equal(j.FailedOf, want) {
		t.Errorf("the job ended as %+v", j)
	}
	m := x.meta()
	if m.Moving == nil || m.Moving.Old.KeyID != old || len(x.kms.shredded) > 0 || !slices.Equal(x.rows()["none"], []rowName{newestRow(x.ids[5]), newestRow(x.ids[50])}) {
		t.Errorf("the thread is %+v, %+v; shredded %v", m, m.Moving, x.kms.shredded)
	}
	if string(x.get(t, a)) != string(was[b]) {
		t.Error("the row was changed")
	}
	if j := x.rotate(); j.Status != job.Failed || j.Failed != 2 {
		t.Errorf("the next job ended as %+v", j)
	}
	x.overwrite(t, a, was[a])
	x.overwrite(t, b, was[b])
	x.completed(x.rotate())
	x.arrived(old)
	x.same(before)
}

// A job that was cancelled leaves the thread as it is, under two DEKs; the next
// one goes on.
func TestAnotherJobGoesOnWhereOneWasCancelled(t *testing.T) {
	for at := 1; at < 8; at++ {
		x := newShift(t, 45)
		before, old := x.everything(x.Service), x.meta().KMS.KeyID
		s, jobs := x.process(x.store)
		x.atCommit(at+1, func() error {
			all, err := jobs.List(t.Context())
			x.must(err)
			return second(jobs.Cancel(t.Context(), all[0].ID))
		})
		key, first, err := s.RotateDEK(t.Context(), jobs, x.thread)
		x.must(err)
		j := await(t, jobs, first.ID)
		x.store.beforeCommit = nil
		x.same(before)
		if j.Status == job.Cancelled && x.meta().Moving != nil {
			x.overwrite(t, layout.ThreadRow(x.thread, cursorName), []byte("msg:"+x.ids[44])) // a lie: all is done
			x.same(before)
			x.overwrite(t, layout.ThreadRow(x.thread, cursorName), []byte("del:")) // and another: nothing is
			x.same(before)
			again, second, err := s.RotateDEK(t.Context(), jobs, x.thread)
			x.must(err)
			if again != key || second.ID == first.ID {
				t.Errorf("cancelled at %d: key %s and then %s, job %s and then %s", at, key, again, first.ID, second.ID)
			}
			x.completed(await(t, jobs, second.ID))
		}
		jobs.Close()
		x.arrived(old)
		x.same(before)
	}
}

func TestARotationThatIsUnderWayIsAnsweredAgain(t *testing.T) {
	x := newShift(t, 45)
	s, jobs := x.process(x.store)
	defer jobs.Close()
	asked := false
	var again job.Job
	var key string
	x.kms.before = func() {
		if m := x.meta(); m.Moving != nil && m.Moving.Job != "" && !asked {
			asked = true
			var err error
			key, again, err = s.RotateDEK(t.Context(), jobs, x.thread)
			x.must(err)
		}
	}
	first, j, err := s.RotateDEK(t.Context(), jobs, x.thread)
	x.must(err)
	x.completed(await(t, jobs, j.ID))
	if again.ID != j.ID || key != first {
		t.Errorf("job %s with key %s, and then %s with %s", j.ID, first, again.ID, key)
	}
}
