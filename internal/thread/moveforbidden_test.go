package thread

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// shredless is a KMS that lets this server destroy no DEK.
type shredless struct{ *twinKMS }

func (shredless) ShredDEK(context.Context, string) error {
	return fault.New(fault.Forbidden, "your entry has not the role")
}

// shredless is process with a key process that lets it destroy no DEK.
func (x *shift) shredless(s store.Store) (*Service, *job.Runner) {
	threads, jobs := x.process(s)
	threads.kms = shredless{x.kms}
	return threads, jobs
}

// owes fails unless all rows are under the DEK that the thread names, and what it
// owes are deks, which the KMS still has.
func (x *shift) owes(deks ...string) {
	x.t.Helper()
	m := x.meta()
	if rows := x.rows(); m.Moving != nil || len(rows) != 1 || len(rows[m.KMS.KeyID]) == 0 || !slices.Equal(slices.Sorted(slices.Values(m.Owed)), slices.Sorted(slices.Values(deks))) {
		x.t.Errorf("the thread is %+v, want owed %v", m, deks)
	}
	for _, dek := range deks {
		if !x.kms.has(dek) {
			x.t.Errorf("%s is not in the KMS any more", dek)
		}
	}
}

func TestARotationThatMayNotDestroyTheOldDEKEndsAndTheNextDestroysBoth(t *testing.T) {
	x := newShift(t, 45)
	before := x.everything(x.Service)
	var old []string
	for range 2 {
		old = append(old, x.meta().KMS.KeyID)
		s, jobs := x.shredless(x.store)
		_, j, err := s.RotateDEK(t.Context(), jobs, x.thread)
		x.must(err)
		j = await(t, jobs, j.ID)
		jobs.Close()
		if j.Status != job.Failed || j.Processed != j.Total || j.Failed != 0 || !strings.Contains(j.Error, "all rows are under the new DEK") || !strings.Contains(j.Error, giveShred) {
			t.Errorf("the job ended as %+v", j)
		}
		x.owes(old...)
		x.same(before)
	}
	old = append(old, x.meta().KMS.KeyID)
	x.completed(x.rotate())
	x.arrived(old[2])
	x.namesItsDEKs("once it may")
	if m := x.meta(); len(m.Owed) > 0 {
		t.Errorf("it still owes %v", m.Owed)
	}
	x.same(before)
}

// Whatever commit is the last of the process, a DEK that is in the KMS is one that the
// thread's record or a job that goes on names.
func TestADEKThatIsOwedIsNotForgotten(t *testing.T) {
	for at := 2; ; at++ {
		for _, takes := range []bool{false, true} {
			x := newShift(t, 25)
			old := x.meta().KMS.KeyID
			dying := &storetest.DyingStore{Store: x.store, At: at, Takes: takes}
			s, jobs := x.shredless(dying)
			if _, j, err := s.RotateDEK(t.Context(), jobs, x.thread); err == nil {
				jobs.Wait(t.Context(), j.ID)
			}
			jobs.Close()
			_, jobs = x.shredless(x.store)
			x.must(jobs.Resume(t.Context()))
			all, err := jobs.List(t.Context())
			x.must(err)
			if j := await(t, jobs, all[0].ID); j.Status != job.Failed {
				t.Errorf("the job ended as %+v", j)
			}
			jobs.Close()
			if x.owes(old); t.Failed() {
				t.Fatalf("commit %d, took effect: %v", at, takes)
			}
			if !dying.Dead() {
				return
			}
		}
	}
}

func TestACancelledRotationNotesTheDEKThatItMayNotDestroy(t *testing.T) {
	x := newShift(t, 5)
	old := x.meta().KMS.KeyID
	dying := &storetest.DyingStore{Store: x.store, At: 2, Takes: true} // the flip
	s, jobs := x.shredless(dying)
	_, j, err := s.RotateDEK(t.Context(), jobs, x.thread)
	x.must(err)
	jobs.Wait(t.Context(), j.ID)
	jobs.Close()
	_, jobs = x.shredless(x.store)
	defer jobs.Close()
	if j, err = jobs.Cancel(t.Context(), j.ID); err != nil || j.Status != job.Cancelled {
		t.Errorf("%+v, %v", j, err)
	}
	x.owes(old)
}

func TestTheRotationOfAllThreadsGoesOnPastDEKsThatItMayNotDestroy(t *testing.T) {
	x, deks := newFleet(t, 4)
	s, jobs := x.process(x.store)
	s.kms = &forbidding{x.kms, deks[1]}
	j, err := jobs.Start(t.Context(), RotateAllJob, RotateAllArgs{})
	x.must(err)
	j = await(t, jobs, j.ID)
	jobs.Close()
	x.thread = x.threadOf(deks[1])
	if j.Status != job.Completed || j.Processed != 4 || j.Failed != 1 || !strings.HasPrefix(j.FailedOf[0], "thread "+x.thread+", ") || !strings.Contains(j.FailedOf[0], giveShred) {
		t.Errorf("the job ended as %+v", j)
	}
	for i, dek := range deks {
		if x.kms.has(dek) != (i == 1) {
			t.Errorf("DEK %d in the KMS: %v", i, x.kms.has(dek))
		}
	}
	x.owes(deks[1])
	x.completed(x.rotateAll(x.store, RotateAllArgs{}))
	x.allArrived(deks)
	x.namesItsDEKs("once it may")
}

// The role may be missing for all of them, and a server may die at each commit.
func TestTheRotationOfAllThreadsWithoutTheRoleSurvivesEveryCommit(t *testing.T) {
	const threads = 3
	for at := 2; ; at++ {
		for _, takes := range []bool{false, true} {
			x, deks := newFleet(t, threads)
			dying := &storetest.DyingStore{Store: x.store, At: at, Takes: takes}
			_, jobs := x.shredless(dying)
			j, err := jobs.Start(t.Context(), RotateAllJob, RotateAllArgs{})
			x.must(err)
			jobs.Wait(t.Context(), j.ID)
			jobs.Close()
			_, jobs = x.shredless(x.store)
			x.must(jobs.Resume(t.Context()))
			j = await(t, jobs, j.ID)
			jobs.Close()
			if j.Status != job.Completed || j.Processed != threads || j.Failed != threads {
				t.Errorf("the job ended as %+v", j)
			}
			for _, dek := range deks {
				x.thread = x.threadOf(dek)
				x.owes(dek)
			}
			if takes { // a DEK whose beginning is lost is nobody's
				x.namesItsDEKs(fmt.Sprint("commit ", at))
			}
			if t.Failed() {
				t.Fatalf("commit %d, took effect: %v", at, takes)
			}
			if !dying.Dead() {
				return
			}
		}
	}
}

func TestAPurgeDestroysTheDEKsThatItsThreadOwes(t *testing.T) {
	x := newShift(t, 5)
	old := x.meta().KMS.KeyID
	s, jobs := x.shredless(x.store)
	_, j, err := s.RotateDEK(t.Context(), jobs, x.thread)
	x.must(err)
	await(t, jobs, j.ID)
	jobs.Close()
	x.owes(old)
	x.drop(t, x.thread)
	x.keep(t, boss, 1, 0)
	x.pass(2 * day)
	r := job.New(job.Config{Store: x.store, Kinds: []job.Kind{x.PurgeKind()}, Holder: "test"})
	defer r.Close()
	j, err = x.StartPurge(t.Context(), r)
	x.must(err)
	if j = await(t, r, j.ID); j.Failed > 0 || len(x.kms.keys) > 0 || len(x.rowsOf(t, x.thread)) > 0 {
		t.Errorf("%+v; the KMS has %d keys", j, len(x.kms.keys))
	}
}

// A thread may be marked for a purge after the flip and before the note.
func TestADEKThatIsOwedByAThreadOnItsWayOutIsThePurges(t *testing.T) {
	x := newShift(t, 1)
	x.editMeta(t, x.thread, func(m *meta) { m.Purge, m.KMS = &purging{Since: 1, DEKs: []string{"new"}}, kmsMeta{} })
	w := mover{Service: x.Service, at: &moved{Thread: x.thread, Shred: []string{"old"}}}
	var b store.Batch
	x.must(w.owe(t.Context(), &b))
	x.must(second(x.store.Commit(t.Context(), &b)))
	if m := x.meta(); !slices.Equal(m.Purge.DEKs, []string{"new", "old"}) || len(m.Owed) > 0 {
		t.Errorf("it is %+v, %+v", m, m.Purge)
	}
}

// threadOf finds the thread that has, or owes, a DEK.
func (x *shift) threadOf(dek string) string {
	x.t.Helper()
	for id, rec, err := x.threadAfter(x.t.Context(), ""); id != ""; id, rec, err = x.threadAfter(x.t.Context(), id) {
		x.must(err)
		if slices.Contains(decodeAs[meta](x.t, rec.Value).deks(), dek) {
			return id
		}
	}
	x.t.Fatalf("no thread has %s", dek)
	return ""
}
