package thread

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// newFleet is a world of threads, all of 3 messages, the second one deleted.
func newFleet(t testing.TB, n int) (x *shift, deks []string) {
	x = &shift{world: newWorld(t), t: t}
	for _, th := range x.fill(t, n) {
		x.thread = th.ID
		deks = append(deks, x.meta().KMS.KeyID)
	}
	return x, deks
}

func (x *shift) rotateAll(s store.Store, args RotateAllArgs) job.Job {
	x.t.Helper()
	_, jobs := x.process(s)
	defer jobs.Close()
	j, err := jobs.Start(x.t.Context(), RotateAllJob, args)
	x.must(err)
	j, _ = jobs.Wait(x.t.Context(), j.ID)
	return j
}

// allArrived fails unless every thread has arrived under a DEK that is not in deks.
func (x *shift) allArrived(deks []string) {
	x.t.Helper()
	for id, rec, err := x.threadAfter(x.t.Context(), ""); id != ""; id, rec, err = x.threadAfter(x.t.Context(), id) {
		x.must(err)
		x.thread = id
		if m := decodeAs[meta](x.t, rec.Value); m.Moving != nil || slices.Contains(deks, m.KMS.KeyID) || len(x.rows()[m.KMS.KeyID]) != 3 {
			x.t.Errorf("thread %s is %+v, %+v", id, m.KMS, m.Moving)
		}
	}
	for _, dek := range deks {
		if x.kms.has(dek) {
			x.t.Errorf("%s is still in the KMS", dek)
		}
	}
}

func TestTheRotationOfAllThreadsSurvivesEveryCommit(t *testing.T) {
	const threads = 4
	last := 0
	for at := 2; at == 2 || last == at-1; at++ {
		for _, takes := range []bool{false, true} {
			x, deks := newFleet(t, threads)
			dying := &storetest.DyingStore{Store: x.store, At: at, Takes: takes}
			x.rotateAll(dying, RotateAllArgs{})
			if dying.Dead() {
				last = at
			}
			_, jobs := x.process(x.store)
			x.must(jobs.Resume(t.Context()))
			all, err := jobs.List(t.Context())
			x.must(err)
			j := await(t, jobs, all[0].ID)
			jobs.Close()
			if x.completed(j); j.Processed != threads || j.Total != threads || x.kms.made > 2*threads+1 {
				t.Errorf("%+v, %d DEKs made", j, x.kms.made)
			}
			if x.allArrived(deks); t.Failed() {
				t.Fatalf("commit %d, took effect: %v", at, takes)
			}
		}
	}
	if last != 2*threads+2 { // of each thread the beginning and its rows; Start and the end
		t.Errorf("the job had %d commits", last)
	}
}

func TestTheRotationOfAllThreadsNamesThoseThatItCannotDo(t *testing.T) {
	x, deks := newFleet(t, 5)
	var ids []string
	for id, _, err := x.threadAfter(t.Context(), ""); id != ""; id, _, err = x.threadAfter(t.Context(), id) {
		x.must(err)
		ids = append(ids, id)
	}
	x.overwrite(t, layout.ThreadMeta(ids[0]), []byte("{"))
	x.thread = ids[2]
	row := x.rows()[deks[2]][1].key(ids[2])
	was := x.get(t, row)
	x.overwrite(t, row, was[1:])
	x.editMeta(t, ids[3], func(m *meta) { m.KMS = kmsMeta{} })
	j := x.rotateAll(x.store, RotateAllArgs{})
	if want := []string{"thread " + ids[0], "thread " + ids[2], "thread " + ids[3]}; j.Status != job.Completed || j.Processed != 5 || !slices.Equal(j.FailedOf, want) {
		t.Errorf("the job ended as %+v", j)
	}
	if x.kms.has(deks[1]) || x.kms.has(deks[4]) || !x.kms.has(deks[0]) || !x.kms.has(deks[2]) || !x.kms.has(deks[3]) {
		t.Errorf("shredded %v of %v", x.kms.shredded, deks)
	}
	x.overwrite(t, row, was)
	none := "0198ffff-0000-7000-8000-000000000000"
	j = x.rotateAll(x.store, RotateAllArgs{Threads: []string{none, ids[2], "no ID", ids[2]}})
	if want := []string{"thread " + none, "thread no ID"}; j.Status != job.Completed || j.Processed != 3 || !slices.Equal(j.FailedOf, want) {
		t.Errorf("the job of named threads ended as %+v", j)
	}
	x.arrived(deks[2])
	if !x.kms.has(deks[0]) {
		t.Error("it did another thread")
	}
}

// A thread that was made since has a DEK that is younger than the job.
func TestTheRotationOfAllThreadsLeavesYoungerThreadsAlone(t *testing.T) {
	x, deks := newFleet(t, 2)
	x.clock.Store(time.Now().Add(time.Hour).UnixNano())
	x.thread = x.world.thread(t, owner, "younger").ID
	younger := x.meta().KMS.KeyID
	j := x.rotateAll(x.store, RotateAllArgs{})
	if x.completed(j); j.Processed != 3 || !x.kms.has(younger) || x.kms.has(deks[0]) || x.kms.has(deks[1]) {
		t.Errorf("%+v, shredded %v", j, x.kms.shredded)
	}
}

func TestAJobOfThreadsInClearLeavesTheOthersAlone(t *testing.T) {
	x, deks := newFleet(t, 3)
	x.plain = true
	th := x.world.thread(t, owner, "in clear")
	for range 3 {
		x.say(t, th.ID, canary)
	}
	if j := x.rotateAll(x.store, RotateAllArgs{Plain: true}); j.Status != job.Completed || j.Processed != 4 {
		t.Errorf("the job ended as %+v", j)
	}
	x.thread = th.ID
	x.arrived("")
	for _, dek := range deks {
		if !x.kms.has(dek) {
			t.Errorf("%s was shredded", dek)
		}
	}
}

// TestACancelledRotationLeavesNoDEKThatNobodyNames kills the server at every commit,
// which takes effect, and cancels the job before anybody resumes it: the DEK of a
// thread that arrived with that commit is destroyed by the cancel.
func TestACancelledRotationLeavesNoDEKThatNobodyNames(t *testing.T) {
	for name, rotate := range map[string]func(x *shift, at int){
		"of all": func(x *shift, at int) {
			x.rotateAll(&storetest.DyingStore{Store: x.store, At: at, Takes: true}, RotateAllArgs{})
		},
		"of one": func(x *shift, at int) { x.live(at, true) },
	} {
		for at := 2; at < 12; at++ {
			x, _ := newFleet(t, 4)
			rotate(x, at) // in a process that dies
			_, jobs := x.process(x.store)
			all, err := jobs.List(t.Context())
			x.must(err)
			x.must(second(jobs.Cancel(t.Context(), all[0].ID)))
			jobs.Close()
			x.namesItsDEKs(fmt.Sprint(name, ", commit ", at))
		}
	}
}

// namesItsDEKs fails unless the KMS has the DEKs that threads name, and no other.
func (x *shift) namesItsDEKs(when string) {
	x.t.Helper()
	named := map[string]bool{}
	for id, rec, err := x.threadAfter(x.t.Context(), ""); id != ""; id, rec, err = x.threadAfter(x.t.Context(), id) {
		x.must(err)
		for _, key := range decodeAs[meta](x.t, rec.Value).deks() {
			if named[key] = true; !x.kms.has(key) {
				x.t.Errorf("%s: thread %s has lost a DEK", when, id)
			}
		}
	}
	for key := range x.kms.keys {
		if !named[key] {
			x.t.Errorf("%s: nobody names %s", when, key)
		}
	}
}

func TestTheRateBoundsRowsPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, deks := newFleet(t, 10)
		began := time.Now()
		x.clock.Store(began.Add(-time.Hour).UnixNano())
		for _, rate := range []int{1, 10, 1000} {
			w := allMover{mover: mover{Service: x.Service, at: &moved{Rows: 7}}, all: RotateAllArgs{Rate: rate}}
			batch, pause := w.pace()
			if batch > x.moveBatch || pause > longestPause || time.Duration(batch)*time.Second/time.Duration(rate) > longestPause {
				t.Errorf("rate %d: batches of %d, a pause of %v", rate, batch, pause)
			}
		}
		x.ageAll(t)
		x.completed(x.rotateAll(x.store, RotateAllArgs{Rate: 3}))
		if took := time.Since(began); took < 9*time.Second {
			t.Errorf("30 rows at 3 per second took %v", took)
		}
		x.allArrived(deks)
	})
}

// ageAll makes all threads older than any job.
func (x *shift) ageAll(t testing.TB) {
	for id, _, err := x.threadAfter(context.Background(), ""); id != ""; id, _, err = x.threadAfter(context.Background(), id) {
		x.must(err)
		x.editMeta(t, id, func(m *meta) { m.CreatedTS = 1 })
	}
}
