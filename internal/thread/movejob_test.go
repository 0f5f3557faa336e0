package thread

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
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

func TestTheNewKeyServesNewWritesAtOnce(t *testing.T) {
	x := newShift(t, 60)
	old := x.meta()
	m, err := x.load(t.Context(), x.thread)
	x.must(err)
	m, err = x.beginMoving(t.Context(), m)
	x.must(err)
	if m.KMS.KeyID == old.KMS.KeyID || m.rev == 0 {
		t.Fatalf("it is under %+v", m.KMS)
	}
	under := func() []rowName { return x.rows()[m.KMS.KeyID] }
	x.ids = append(x.ids, x.say(t, x.thread, "now"))
	x.ids = append(x.ids, x.post(t, owner, x.thread, api.PostMessage{Body: quoted("long ago"), TS: 5}).ID)
	x.edit(x.Service, 40, "anew")
	x.must(x.DeleteMessage(t.Context(), owner, x.thread, x.ids[41]))
	_, err = x.React(t.Context(), owner, x.thread, x.ids[42], api.Reaction{Reaction: "!"})
	x.must(err)
	if n := len(under()); n != 7 {
		t.Errorf("%d rows are under the new DEK: %v", n, under())
	}
	before := x.everything(x.Service)
	x.completed(x.rotate())
	x.arrived(old.KMS.KeyID)
	x.same(before)
}

// A message whose post has read the thread before the beginning, and is stored
// before it, is newer than Last and under the old DEK.
func TestAMessageStoredBetweenTheReadingOfLastAndTheBeginningIsMoved(t *testing.T) {
	x := newShift(t, 30)
	old := x.meta().KMS.KeyID
	posted := false
	x.kms.creating = func(*kmsapi.CreateDEKResult) {
		if !posted {
			posted = true
			x.ids = append(x.ids, x.say(t, x.thread, "between"))
			x.edit(x.Service, 30, "between, edited")
		}
	}
	m, err := x.load(t.Context(), x.thread)
	x.must(err)
	m, err = x.beginMoving(t.Context(), m)
	x.must(err)
	if m.Moving.Last >= x.ids[30] || !slices.Contains(x.rows()[old], newestRow(x.ids[30])) {
		t.Fatalf("Last is %s, the message %s", m.Moving.Last, x.ids[30])
	}
	before := x.everything(x.Service)
	x.completed(x.rotate())
	x.arrived(old)
	x.same(before)
}

// TestAReaderMayBeAsOldAsHeLikes lets a whole rotation, or two, come between any
// two calls of a reader.
func TestAReaderMayBeAsOldAsHeLikes(t *testing.T) {
	full := newShift(t, 45)
	before := full.everything(full.Service)
	for _, times := range []int{1, 2} {
		for n := 1; n < 12; n++ {
			x := full.clone(t)
			calls := &callsStore{Store: x.store}
			reader := New(Config{Store: calls, KMS: x.kms, Gate: new(accesstest.Gate), Now: x.now, Believe: true})
			between := func() {
				for range times {
					x.completed(x.rotate())
				}
			}
			for what, read := range map[string]func() string{
				"the list": func() string {
					raw, err := reader.ListMessages(t.Context(), owner, x.thread, MessageQuery{IncludeDeleted: true})
					x.must(err)
					return string(raw) + " <nil>"
				},
				"versions": func() string {
					raw, err := reader.ListVersions(t.Context(), owner, x.thread, x.ids[10], 0, "")
					x.must(err)
					return string(raw) + " <nil>"
				},
			} {
				want := before["list {Limit:0 Before: After: Anchor: IncludeDeleted:true}"]
				if what == "versions" {
					want = before["versions "+x.ids[10]]
				}
				calls.at(n, between)
				x.kms.before = func() { calls.hit() }
				got := read()
				x.kms.before = nil
				if got != want {
					t.Errorf("%s, a rotation before call %d: %s, want %s", what, n, got, want)
				}
			}
		}
	}
}

func TestAWriterWithAnOldRecordWritesNothingUnderTheOldDEK(t *testing.T) {
	for n := 1; n < 12; n++ {
		x := newShift(t, 45)
		calls := &callsStore{Store: x.store}
		writer := New(Config{Store: calls, KMS: x.kms, Gate: new(accesstest.Gate), Now: x.now, Believe: true})
		var olds []string
		between := func() {
			olds = append(olds, x.meta().KMS.KeyID)
			x.completed(x.rotate())
		}
		x.kms.before = func() { calls.hit() }
		calls.at(n, between)
		raw, err := writer.Post(t.Context(), owner, x.thread, api.PostMessage{Body: quoted("late")})
		x.must(err)
		x.ids = append(x.ids, decodeAs[api.Message](t, raw).ID)
		calls.at(n, between)
		x.edit(writer, 20, "late")
		calls.at(n, between)
		x.must(writer.DeleteMessage(t.Context(), owner, x.thread, x.ids[21]))
		calls.at(n, between)
		_, err = writer.React(t.Context(), owner, x.thread, x.ids[22], api.Reaction{Reaction: "late"})
		x.must(err)
		x.kms.before = nil
		for _, old := range olds {
			x.arrived(old)
		}
		x.everything(x.another())
	}
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
		var first job.Job
		var key string
		n := 0
		x.store.beforeCommit = func() error {
			if n++; n == at+1 {
				all, err := jobs.List(t.Context())
				x.must(err)
				_, err = jobs.Cancel(t.Context(), all[0].ID)
				x.must(err)
			}
			return nil
		}
		var err error
		key, first, err = s.RotateDEK(t.Context(), jobs, x.thread)
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

// TestTwoJobsOfOneThreadLeaveNothingHalfDone lets a second job, which knows nothing
// of the first, come before each call of the KMS.
func TestTwoJobsOfOneThreadLeaveNothingHalfDone(t *testing.T) {
	for n := 2; n < 12; n++ {
		x := newShift(t, 45)
		before, old := x.everything(x.Service), x.meta().KMS.KeyID
		calls, begun := 0, false
		var second job.Job
		_, others := x.process(x.store)
		x.kms.before = func() {
			if calls++; calls != n {
				return
			}
			begun = true
			var err error
			second, err = others.Start(t.Context(), MoveJob, MoveArgs{Thread: x.thread})
			x.must(err)
			second = await(t, others, second.ID)
		}
		first := x.rotate()
		others.Close()
		x.kms.before = nil
		if first.Status != job.Completed && (first.Status != job.Cancelled || !strings.Contains(first.Error, "another job")) || begun && second.Status != job.Completed {
			t.Errorf("call %d: they ended as %+v and %+v", n, first, second)
		}
		x.arrived(old)
		x.same(before)
	}
}

// A change that comes between the reading of a batch and its commit is not undone.
func TestAChangeOfARowThatIsBeingMovedIsKept(t *testing.T) {
	for at := 1; at < 9; at++ {
		x := newShift(t, 45)
		old := x.meta().KMS.KeyID
		n := 0
		var want map[string]string
		x.store.beforeCommit = func() error {
			if n++; n != at {
				return nil
			}
			s := x.another()
			for _, i := range []int{6, 20, 40} {
				x.edit(s, i, "anew")
				x.must(s.DeleteMessage(t.Context(), owner, x.thread, x.ids[i+1]))
				_, err := s.React(t.Context(), owner, x.thread, x.ids[i+2], api.Reaction{Reaction: "new"})
				x.must(err)
			}
			want = x.everything(s)
			return nil
		}
		j := x.rotate()
		x.store.beforeCommit = nil
		if j.Status != job.Completed || j.Failed != 0 {
			t.Errorf("commit %d: the job ended as %+v", at, j)
		}
		x.arrived(old)
		if n >= at {
			x.same(want)
		}
	}
}

func TestAJobLeavesAThreadThatAnotherHasTakenOver(t *testing.T) {
	x := newShift(t, 45)
	calls := 0
	x.kms.before = func() {
		if calls++; calls == 4 { // the second batch
			x.editMeta(t, x.thread, func(m *meta) { m.Moving.Job = "another" })
		}
	}
	if j := x.rotate(); j.Status != job.Cancelled || !strings.Contains(j.Error, "another job") || x.meta().Moving == nil || len(x.kms.shredded) > 0 {
		t.Errorf("it ended as %+v", j)
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

func TestADeletedThreadIsMovedToo(t *testing.T) {
	for at := 1; at < 9; at++ {
		x := newShift(t, 45)
		before, old := x.everything(x.Service), x.meta().KMS.KeyID
		n := 0
		x.store.beforeCommit = func() error {
			if n++; n == at {
				return x.another().Delete(t.Context(), owner, x.thread)
			}
			return nil
		}
		j := x.rotate()
		x.store.beforeCommit = nil
		x.completed(j)
		x.arrived(old)
		if !x.meta().Deleted && n >= at {
			t.Error("the thread is back")
		}
		x.editMeta(t, x.thread, func(m *meta) { m.Deleted = false })
		x.same(before)
	}
}

func TestAThreadThatIsPurgedCancelsItsJob(t *testing.T) {
	for _, marked := range []bool{false, true} {
		x := newShift(t, 45)
		n := 0
		x.store.beforeCommit = func() error {
			if n++; n != 4 {
				return nil
			}
			if marked {
				x.editMeta(t, x.thread, func(m *meta) { m.Deleted, m.Purge, m.KMS, m.Moving = true, new(purging), kmsMeta{}, nil })
				return nil
			}
			var b store.Batch
			b.Delete(layout.ThreadMeta(x.thread))
			_, err := x.store.Store.Commit(t.Context(), &b)
			return err
		}
		if j := x.rotate(); j.Status != job.Cancelled || !strings.Contains(j.Error, "no such thread") {
			t.Errorf("it ended as %+v", j)
		}
		s, jobs := x.process(x.store)
		_, _, err := s.RotateDEK(t.Context(), jobs, x.thread)
		wantCode(t, err, fault.NotFound)
		_, _, err = s.RotateDEK(t.Context(), jobs, "no ID")
		wantCode(t, err, fault.NotFound)
		made := x.kms.made
		if j := x.rotateAll(x.store, RotateAllArgs{}); marked && j.Failed != 0 || x.kms.made != made {
			t.Errorf("of all threads: %+v", j)
		}
		jobs.Close()
	}
}

// TestTheKEKIsRotatedMeanwhile lets a rotation of the threads' KEK and the rewrap
// of all threads come before each call of the KMS.
func TestTheKEKIsRotatedMeanwhile(t *testing.T) {
	for n := 1; n < 12; n++ {
		x := newShift(t, 45)
		before, old := x.everything(x.Service), x.meta().KMS.KeyID
		calls := 0
		x.kms.before = func() {
			if calls++; calls != n {
				return
			}
			if j := x.rewrap(t, true); j.Status != job.Completed || j.Failed != 0 {
				t.Errorf("call %d: the rewrap ended as %+v", n, j)
			}
			m := x.meta()
			if m.KMS.KEKVersion != 2 || m.Moving != nil && m.Moving.Old.KEKVersion != 2 {
				t.Errorf("call %d: the thread's DEKs are %+v, %+v", n, m.KMS, m.Moving)
			}
		}
		x.completed(x.rotate())
		x.kms.before = nil
		if m := x.meta(); calls >= n && m.KMS.KEKVersion != 2 {
			t.Errorf("call %d: the thread's DEK is %+v", n, m.KMS)
		}
		x.arrived(old)
		x.same(before)
	}
}

func TestAThreadIsMovedWhileTheKMSIsAwayForItsReaders(t *testing.T) {
	x := newShift(t, 45)
	b := &twinBreakGlass{kms: x.kms}
	x.breakGlass = b
	before := x.everything(x.Service)
	m, err := x.load(t.Context(), x.thread)
	x.must(err)
	_, err = x.beginMoving(t.Context(), m)
	x.must(err)
	x.edit(x.Service, 3+1, "anew")
	want := x.everything(x.Service)
	x.kms.fail = away
	got := x.everything(x.Service)
	for what, was := range want {
		if got[what] != was {
			t.Errorf("by break-glass %s answers %s, want %s", what, got[what], was)
		}
	}
	if len(b.reads) == 0 || len(before) == 0 {
		t.Error("nobody broke the glass")
	}
}

// TestAThreadInClearComesUnderItsFirstDEK begins with a server that does not
// encrypt.
func TestAThreadInClearComesUnderItsFirstDEK(t *testing.T) {
	plain := newShift(t, 0)
	plain.plain = true
	plain.editMeta(t, plain.thread, func(m *meta) { m.Plain, m.KMS = true, kmsMeta{} })
	for i := range 45 {
		plain.ids = append(plain.ids, plain.say(t, plain.thread, canary))
		if i%2 == 1 {
			plain.edit(plain.Service, i, "edited")
		}
	}
	if rows := plain.rows(); len(rows["none"]) != 67 {
		t.Fatalf("rows are under %v", rows)
	}
	before := plain.everything(plain.Service)
	last := 0
	for at := 1; at == 1 || last == at-1; at++ {
		for _, takes := range []bool{false, true} {
			x := plain.clone(t)
			x.kms.made = 1
			if x.live(at, takes) {
				last = at
			}
			x.same(before)
			if x.meta().Moving != nil {
				x.edit(x.another(), 7, "edited")
				x.edit(x.another(), 7, "edited")
			}
			now := x.everything(x.another())
			x.survives("")
			x.same(now)
			for key, value := range x.dump(t) {
				if strings.Contains(value, canary) {
					t.Errorf("%s holds the canary", key)
				}
			}
		}
	}
	if last < 5 {
		t.Errorf("it had %d commits", last)
	}
}

func TestAThreadThatLostItsKeyIsNotTakenForOneInClear(t *testing.T) {
	x := newShift(t, 5)
	x.editMeta(t, x.thread, func(m *meta) { m.KMS = kmsMeta{} })
	s, jobs := x.process(x.store)
	defer jobs.Close()
	_, _, err := s.RotateDEK(t.Context(), jobs, x.thread)
	wantCode(t, err, fault.Damaged)
	j, err := jobs.Start(t.Context(), MoveJob, MoveArgs{Thread: x.thread})
	x.must(err)
	if j := await(t, jobs, j.ID); j.Status != job.Failed || x.meta().Moving != nil {
		t.Errorf("it ended as %+v", j)
	}
}

func TestAServerThatDoesNotEncryptRotatesNoThreadInClear(t *testing.T) {
	x := newShift(t, 0)
	x.editMeta(t, x.thread, func(m *meta) { m.Plain, m.KMS = true, kmsMeta{} })
	s, jobs := x.process(x.store)
	defer jobs.Close()
	s.plain = true
	_, _, err := s.RotateDEK(t.Context(), jobs, x.thread)
	wantCode(t, err, fault.Conflict)
}
