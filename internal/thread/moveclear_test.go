package thread

import (
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
)

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
