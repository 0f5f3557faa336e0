package thread

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
)

// forbidding is a KMS that does not let this server destroy one DEK.
type forbidding struct {
	*twinKMS
	keyID string
}

func (f *forbidding) ShredDEK(ctx context.Context, keyID string) error {
	if keyID == f.keyID {
		return fault.New(fault.Forbidden, "this takes a role")
	}
	return f.twinKMS.ShredDEK(ctx, keyID)
}

// A key process that does not let a server destroy a DEK may do so for good: that
// holds up no other thread, and takes no row of this one.
func TestAPurgeThatMayNotDestroyADEKGoesOnWithTheOtherThreads(t *testing.T) {
	w := newWorld(t)
	kept, gone := w.thread(t, owner, "kept").ID, w.thread(t, owner, "gone").ID
	w.talk(t, kept)
	w.talk(t, gone)
	kms := &forbidding{w.kms, decodeAs[meta](t, w.get(t, "thread:"+kept+":meta")).KMS.KeyID}
	w.drop(t, kept)
	w.drop(t, gone)
	w.keep(t, boss, 1, 0)
	w.pass(2 * day)
	rows := func() (out []string) {
		return slices.DeleteFunc(w.rowsOf(t, kept), func(key string) bool {
			return !strings.HasPrefix(key, "thread:") || strings.Contains(key, ":change:") || strings.Contains(key, ":sent:")
		})
	}
	before := rows()
	run := func() job.Job {
		s := New(Config{Store: w.store, KMS: kms, Gate: w.asked, Now: func() time.Time { return time.Unix(0, w.clock.Load()) }})
		r := job.New(job.Config{Store: w.store, Kinds: []job.Kind{s.PurgeKind()}, Holder: "test"})
		defer r.Close()
		j, err := s.StartPurge(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return await(t, r, j.ID)
	}
	for range 2 {
		j := run()
		if j.Status != job.Completed || j.Failed == 0 || !strings.HasPrefix(j.FailedOf[0], "thread "+kept+", ") || !strings.Contains(j.FailedOf[0], "the role shred") {
			t.Errorf("the run ended as %+v", j)
		}
		if left := w.rowsOf(t, gone); len(left) > 0 || !slices.Equal(rows(), before) {
			t.Errorf("left of the other thread is %q; of this one there was %q and is %q", left, before, rows())
		}
	}
	kms.keyID = ""
	if j := run(); j.Failed != 0 || len(w.rowsOf(t, kept)) > 0 {
		t.Errorf("once it may: %+v, left is %q", j, w.rowsOf(t, kept))
	}
}
