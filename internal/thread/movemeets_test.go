package thread

import (
	"encoding/json"
	"fmt"
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
)

func TestTheNewKeyServesNewWritesAtOnce(t *testing.T) {
	x := newShift(t, 60)
	old := x.meta()
	m := x.begin()
	if m.KMS.KeyID == old.KMS.KeyID || m.rev == 0 {
		t.Fatalf("it is under %+v", m.KMS)
	}
	under := func() []rowName { return x.rows()[m.KMS.KeyID] }
	x.ids = append(x.ids, x.say(t, x.thread, "now"))
	x.ids = append(x.ids, x.post(t, owner, x.thread, api.PostMessage{Body: quoted("long ago"), TS: 5}).ID)
	x.edit(x.Service, 40, "anew")
	x.must(x.DeleteMessage(t.Context(), owner, x.thread, x.ids[41]))
	x.must(second(x.React(t.Context(), owner, x.thread, x.ids[42], api.Reaction{Reaction: "!"})))
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
	for name, rotate := range map[string]func(*shift) job.Job{
		"begun by a request": (*shift).rotate,
		"begun by its job":   func(x *shift) job.Job { return x.rotateAll(x.store, RotateAllArgs{}) },
	} {
		x := newShift(t, 30)
		old := x.meta().KMS.KeyID
		var before map[string]string
		x.kms.creating = func(*kmsapi.CreateDEKResult) {
			if before == nil {
				x.ids = append(x.ids, x.say(t, x.thread, "between"))
				x.edit(x.Service, 30, "between, edited")
				before = x.everything(x.Service)
			}
		}
		x.store.afterCommit = func() error {
			if m := x.meta(); m.Moving != nil {
				x.store.afterCommit = nil
				if m.Moving.Last >= x.ids[30] || !slices.Contains(x.rows()[old], newestRow(x.ids[30])) {
					t.Errorf("%s: Last is %s, the message %s", name, m.Moving.Last, x.ids[30])
				}
			}
			return nil
		}
		x.completed(rotate(x))
		if x.store.afterCommit != nil {
			t.Errorf("%s: it was not begun", name)
		}
		x.arrived(old)
		x.same(before)
	}
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
			reader := New(Config{Store: calls, KMS: x.kms, Gate: new(accesstest.Gate), Now: x.now, Believe: always})
			between := func() {
				for range times {
					x.completed(x.rotate())
				}
			}
			for what, read := range map[string]func() (json.RawMessage, error){
				"list {Limit:0 Before: After: Anchor: IncludeDeleted:true}": func() (json.RawMessage, error) {
					return reader.ListMessages(t.Context(), owner, x.thread, MessageQuery{IncludeDeleted: true})
				},
				"versions " + x.ids[10]: func() (json.RawMessage, error) {
					return reader.ListVersions(t.Context(), owner, x.thread, x.ids[10], 0, "")
				},
			} {
				calls.at(n, between)
				x.kms.before = calls.hit
				raw, err := read()
				x.kms.before = nil
				if got, want := fmt.Sprintf("%s %v", raw, err), before[what]; got != want {
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
		writer := New(Config{Store: calls, KMS: x.kms, Gate: new(accesstest.Gate), Now: x.now, Believe: always})
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
		x.must(second(writer.React(t.Context(), owner, x.thread, x.ids[22], api.Reaction{Reaction: "late"})))
		x.kms.before = nil
		for _, old := range olds {
			x.arrived(old)
		}
		x.everything(x.another())
	}
}

// A change that comes between the reading of a batch and its commit is not undone.
func TestAChangeOfARowThatIsBeingMovedIsKept(t *testing.T) {
	for at := 1; at < 9; at++ {
		x := newShift(t, 45)
		old := x.meta().KMS.KeyID
		var want map[string]string
		x.atCommit(at, func() error {
			s := x.another()
			for _, i := range []int{6, 20, 40} {
				x.edit(s, i, "anew")
				x.must(s.DeleteMessage(t.Context(), owner, x.thread, x.ids[i+1]))
				x.must(second(s.React(t.Context(), owner, x.thread, x.ids[i+2], api.Reaction{Reaction: "new"})))
			}
			want = x.everything(s)
			return nil
		})
		j := x.rotate()
		x.store.beforeCommit = nil
		x.completed(j)
		x.arrived(old)
		if want != nil {
			x.same(want)
		}
	}
}

// TestTwoJobsOfOneThreadLeaveNothingHalfDone lets a second job, which knows nothing
// of the first, come before each call of the KMS.
func TestTwoJobsOfOneThreadLeaveNothingHalfDone(t *testing.T) {
	for n := 2; n < 12; n++ {
		x := newShift(t, 45)
		before, old := x.everything(x.Service), x.meta().KMS.KeyID
		begun := false
		var second job.Job
		_, others := x.process(x.store)
		x.atCall(n, func() {
			begun = true
			var err error
			second, err = others.Start(t.Context(), MoveJob, MoveArgs{Thread: x.thread})
			x.must(err)
			second = await(t, others, second.ID)
		})
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

func TestAJobLeavesAThreadThatAnotherHasTakenOver(t *testing.T) {
	x := newShift(t, 45)
	x.atCall(4, func() { // the second batch
		x.editMeta(t, x.thread, func(m *meta) { m.Moving.Job = "another" })
	})
	if j := x.rotate(); j.Status != job.Cancelled || !strings.Contains(j.Error, "another job") || x.meta().Moving == nil || len(x.kms.shredded) > 0 {
		t.Errorf("it ended as %+v", j)
	}
}

func TestADeletedThreadIsMovedToo(t *testing.T) {
	for at := 1; at < 9; at++ {
		x := newShift(t, 45)
		before, old := x.everything(x.Service), x.meta().KMS.KeyID
		came := false
		x.atCommit(at, func() error {
			came = true
			return x.another().Delete(t.Context(), owner, x.thread)
		})
		j := x.rotate()
		x.store.beforeCommit = nil
		x.completed(j)
		x.arrived(old)
		if !x.meta().Deleted && came {
			t.Error("the thread is back")
		}
		x.editMeta(t, x.thread, func(m *meta) { m.Deleted = false })
		x.same(before)
	}
}

func TestAThreadThatIsPurgedCancelsItsJob(t *testing.T) {
	for _, marked := range []bool{false, true} {
		x := newShift(t, 45)
		x.atCommit(4, func() error {
			if marked {
				x.editMeta(t, x.thread, func(m *meta) { m.Deleted, m.Purge, m.KMS, m.Moving = true, new(purging), kmsMeta{}, nil })
				return nil
			}
			var b store.Batch
			b.Delete(layout.ThreadMeta(x.thread))
			x.commitAll(t, b)
			return nil
		})
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
		came := false
		x.atCall(n, func() {
			came = true
			if j := x.rewrap(t, true); j.Status != job.Completed || j.Failed != 0 {
				t.Errorf("call %d: the rewrap ended as %+v", n, j)
			}
			m := x.meta()
			if m.KMS.KEKVersion != 2 || m.Moving != nil && m.Moving.Old.KEKVersion != 2 {
				t.Errorf("call %d: the thread's DEKs are %+v, %+v", n, m.KMS, m.Moving)
			}
		})
		x.completed(x.rotate())
		x.kms.before = nil
		if m := x.meta(); came && m.KMS.KEKVersion != 2 {
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
	x.begin()
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
