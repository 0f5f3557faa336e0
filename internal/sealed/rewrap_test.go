package sealed

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fill puts n rows and returns their names.
func (r *rig) fill(n int) (all []Name) {
	r.t.Helper()
	for i := range n {
		all = append(all, Name{[]string{"tokenkey", "signing"}[i%2], fmt.Sprint("org:", i), fmt.Sprint("id", i)})
		r.put(all[i])
	}
	return all
}

// all fails unless every one of names opens, and the rows lie under version.
func (r *rig) all(names []Name, version uint32) {
	r.t.Helper()
	for _, n := range names {
		r.opens(n)
	}
	if got := r.under(); got[version] != len(names) || len(got) != 1 {
		r.t.Errorf("rows under %v, want %d under %d", got, len(names), version)
	}
}

func TestARewrapLeavesNothingUnderAnOldVersion(t *testing.T) {
	r := newRig(t)
	names := r.fill(120)
	r.whole(r.rewrap(true), 120)
	r.all(names, 2)
	r.destroy(1)
	r.all(names, 2)
	r.whole(r.rewrap(false), 120)
	if n := r.kms.count("RotateKEK"); n != 1 {
		t.Errorf("%d rotations", n)
	}
	r.whole(r.rewrap(true), 120)
	r.destroy(2)
	r.put(Name{"tokenkey", "org:0", "id0"})
	r.all(names, 3)
}

func TestWhileTheKEKIsRotatedOldRowsOpenAndTheirVersionIsKept(t *testing.T) {
	r := newRig(t)
	names := r.fill(3)
	if _, err := r.kms.RotateKEK(t.Context(), kmsapi.Rotate{KEKID: KEK, IfVersion: 1}); err != nil {
		t.Fatal(err)
	}
	r.all(names, 1)
	r.put(names[0])
	if got := r.under(); got[1] != 2 || got[2] != 1 {
		t.Errorf("rows under %v", got)
	}
	r.opens(names[0])
	if err := r.kms.DestroyKEKVersion(t.Context(), KEK, 1); err == nil {
		t.Error("a version in use was destroyed")
	}
	r.whole(r.rewrap(false), 3)
	r.destroy(1)
	r.all(names, 2)
}

func TestARewrapChangesVersionAndWrappedDEKAlone(t *testing.T) {
	r := newRig(t)
	n := r.fill(1)[0]
	was, _ := parse(r.row(n).Value)
	r.whole(r.rewrap(true), 1)
	is, err := parse(r.row(n).Value)
	if err != nil || string(is.Ciphertext) != string(was.Ciphertext) || string(is.WrappedDEK) == string(was.WrappedDEK) || is.KEKVersion != 2 {
		t.Errorf("%+v became %+v, %v", was, is, err)
	}
}

// TestARewrapSurvivesEveryCommit kills the process at every commit of the job,
// with its effect and without, and goes on with another one.
func TestARewrapSurvivesEveryCommit(t *testing.T) {
	last := 0
	for at := 2; at == 2 || last == at-1; at++ {
		for _, takes := range []bool{false, true} {
			r := newRig(t)
			names := r.fill(5)
			dead := &storetest.DyingStore{Store: r.mem, At: at, Takes: takes}
			runner := r.runner(dead)
			j, err := runner.Start(t.Context(), RewrapJob, RewrapArgs{Rotate: true})
			if err != nil {
				t.Fatal(err)
			}
			runner.Wait(t.Context(), j.ID) // until the end, or until the store is gone
			runner.Close()
			if dead.Dead() {
				last = at
			}
			for _, n := range names {
				r.opens(n)
			}
			runner = r.runner(r.mem)
			if err := runner.Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.whole(r.await(runner, j.ID), 5)
			runner.Close()
			r.destroy(1)
			r.all(names, 2)
			if t.Failed() {
				t.Fatalf("commit %d, took effect: %v", at, takes)
			}
		}
	}
	if last < 5 { // Start, the primary, the least version, rows, the end
		t.Errorf("the job had %d commits", last)
	}
}

func TestAnAnswerOfTheKMSThatIsLostRotatesNothingTwice(t *testing.T) {
	for _, name := range []string{"Seal", "RotateKEK", "Rewrap", "ReleaseKEK"} {
		r := newRig(t)
		names := r.fill(2)
		lost := false
		r.kms.after = func(call string) error {
			if call != name || lost {
				return nil
			}
			lost = true
			return fault.New(fault.Unavailable, "the key process was killed")
		}
		r.whole(r.rewrap(true), 2)
		if !lost {
			t.Errorf("%s was not called", name)
		}
		r.destroy(1)
		r.all(names, 2)
	}
}

// TestASecretSealedUnderTheOldVersionIsNotStoredAfterTheRewrap lets a whole
// rotation come between a Put and its commit.
func TestASecretSealedUnderTheOldVersionIsNotStoredAfterTheRewrap(t *testing.T) {
	r := newRig(t)
	names := r.fill(2)
	late := Name{"tokenkey", "server", "late"}
	tries := 0
	err := store.Retry(t.Context(), func() error {
		var b store.Batch
		if err := r.Put(t.Context(), &b, late, []byte(canary+late.ID)); err != nil {
			return err
		}
		if tries++; tries == 1 {
			r.whole(r.rewrap(true), 2)
			r.destroy(1)
		}
		_, err := r.mem.Commit(t.Context(), &b)
		return err
	})
	if err != nil || tries != 2 {
		t.Errorf("%d tries, %v", tries, err)
	}
	r.all(append(names, late), 2)
}

func TestAReadThatMeetsARotationAndADestructionAnswers(t *testing.T) {
	r := newRig(t)
	names := r.fill(1)
	opens := 0
	r.kms.before = func(call string) error {
		if call == "Open" {
			if opens++; opens == 1 {
				r.whole(r.rewrap(true), 1)
				r.destroy(1)
			}
		}
		return nil
	}
	r.opens(names[0])
	if opens != 2 {
		t.Errorf("it took %d opens", opens)
	}
}

// TestAKMSThatLagsCannotSealUnderTheOldVersion: of several KMS processes one may
// not know of a rotation yet, and one was restored from an old backup.
func TestAKMSThatLagsCannotSealUnderTheOldVersion(t *testing.T) {
	r := newRig(t)
	r.fill(1)
	r.whole(r.rewrap(true), 1)
	seals, right := 0, 5
	r.kms.seals = func(res []kmsapi.SealResult) []kmsapi.SealResult {
		if seals++; seals < right {
			res[0].Envelope.KEKVersion = 1
		}
		return res
	}
	n := Name{"tokenkey", "server", "new"}
	r.put(n)
	r.opens(n)
	if seals != 5 {
		t.Errorf("it took %d seals", seals)
	}
	seals, right = 0, 1000
	began := time.Now()
	r.fails("a KMS that lags for good", r.tryPut(n), fault.Unavailable)
	if seals != maxLags {
		t.Errorf("%d seals for one Put", seals)
	}
	if waited := time.Since(began); waited < 2*time.Second {
		t.Errorf("it waited %v; a key process may lag for 1.5s", waited)
	}
}

func TestARowThatDoesNotOpenIsNamedAndTheKEKIsKept(t *testing.T) {
	r := newRig(t)
	names := r.fill(104)
	e, _ := parse(r.row(names[3]).Value)
	e.WrappedDEK[20] ^= 1
	var b store.Batch
	if err := put(&b, names[3].key(), e); err != nil {
		t.Fatal(err)
	}
	r.set(names[3].key(), b.Writes[0].Value)
	r.set(names[4].key(), []byte("{"))
	moved, strange := Name{"tokenkey", "server", "moved"}, layout.AllSealed()+"a%b"
	r.set(moved.key(), r.row(names[5]).Value)
	r.set(strange, r.row(names[5]).Value)
	bad := map[string]string{}
	for _, key := range []string{names[3].key(), names[4].key(), moved.key(), strange} {
		rec, _ := r.mem.Get(t.Context(), key)
		bad[key] = string(rec.Value)
	}
	j := r.rewrap(true)
	if j.Status != job.Completed || j.Failed != 4 || j.Processed != 106 {
		t.Errorf("the job ended as %+v", j)
	}
	for key, was := range bad {
		if rec, _ := r.mem.Get(t.Context(), key); string(rec.Value) != was || !strings.Contains(strings.Join(j.FailedOf, "\n"), strings.TrimPrefix(key, "sealed:")) {
			t.Errorf("%s was changed, or is not named: %q", key, j.FailedOf)
		}
	}
	if n := r.kms.count("ReleaseKEK"); n != 0 {
		t.Error("the KEK was released")
	}
	if err := r.kms.DestroyKEKVersion(t.Context(), KEK, 1); err == nil {
		t.Error("version 1 could be destroyed")
	}
}

func TestAFailureOnAnyPageKeepsTheKEK(t *testing.T) {
	for _, bad := range []int{0, 150} {
		r := newRig(t)
		for i := range 151 {
			r.put(Name{"tokenkey", "server", fmt.Sprintf("%03d", i)})
		}
		r.set(Name{"tokenkey", "server", fmt.Sprintf("%03d", bad)}.key(), []byte("{"))
		if j := r.rewrap(true); j.Status != job.Completed || j.Failed != 1 || j.Processed != 151 || r.kms.count("ReleaseKEK") != 0 {
			t.Errorf("row %d: the job ended as %+v", bad, j)
		}
	}
}

func TestAWrongAnswerToARewrapIsNotStored(t *testing.T) {
	for name, spoil := range map[string]func([]kmsapi.RewrapResult) []kmsapi.RewrapResult{
		"one too few":    func(r []kmsapi.RewrapResult) []kmsapi.RewrapResult { return r[1:] },
		"an old version": func(r []kmsapi.RewrapResult) []kmsapi.RewrapResult { r[1].KEKVersion = 1; return r },
		"another KEK":    func(r []kmsapi.RewrapResult) []kmsapi.RewrapResult { r[1].KEKID = "threads"; return r },
		"no wrapped DEK": func(r []kmsapi.RewrapResult) []kmsapi.RewrapResult { r[1].WrappedDEK = nil; return r },
		"not now": func(r []kmsapi.RewrapResult) []kmsapi.RewrapResult {
			r[1].Err = fault.New(fault.Unavailable, "not now")
			return r
		},
	} {
		r := newRig(t)
		names := r.fill(2)
		calls := 0
		r.kms.wraps = func(res []kmsapi.RewrapResult) []kmsapi.RewrapResult {
			if calls++; calls <= 2 {
				return spoil(res)
			}
			return res
		}
		r.whole(r.rewrap(true), 2)
		if calls != 3 {
			t.Errorf("%s: it took %d calls", name, calls)
		}
		r.destroy(1)
		r.all(names, 2)
	}
}

func TestAKMSWithoutTheKEK(t *testing.T) {
	r := newRig(t)
	r.whole(r.rewrap(true), 0) // nothing was sealed yet
	if n := r.kms.count("CreateKEK"); n != 0 {
		t.Error("the job made a KEK")
	}
	full := newRig(t)
	full.fill(1)
	lost := newRig(t)
	lost.mem, lost.Box = full.mem, New(full.mem, lost.kms)
	if j := lost.rewrap(true); j.Status != job.Failed || !strings.Contains(j.Error, "restore it") {
		t.Errorf("the job of a KMS that lost the KEK ended as %+v", j)
	}
	if n := lost.kms.count("CreateKEK"); n != 0 {
		t.Error("the job made a KEK in the place of the lost one")
	}
	full.set(layout.SealedKEK(), []byte(`{"kek_version":7}`))
	if j := full.rewrap(true); j.Status != job.Failed || !strings.Contains(j.Error, "restore it") {
		t.Errorf("the job of a KMS that was put back ended as %+v", j)
	}
}

func TestDamageOfTheLeastVersionStopsWrites(t *testing.T) {
	r := newRig(t)
	r.fill(1)
	r.set(layout.SealedKEK(), []byte(`{"kek_version":"1"}`))
	r.fails("Put", r.tryPut(tokenKey), fault.Damaged)
	if j := r.rewrap(false); j.Status != job.Failed {
		t.Errorf("the job ended as %+v", j)
	}
}

func TestRowsThatComeAndGoMeanwhileAreNoFailure(t *testing.T) {
	r := newRig(t)
	names := r.fill(150)
	calls := 0
	r.kms.before = func(call string) error {
		if call != "Rewrap" {
			return nil
		}
		if calls++; calls == 1 {
			var b store.Batch
			r.Delete(&b, names[0])
			r.Delete(&b, names[149])
			if _, err := r.mem.Commit(t.Context(), &b); err != nil {
				t.Error(err)
			}
			r.put(names[1])
		}
		return nil
	}
	if j := r.rewrap(true); j.Status != job.Completed || j.Failed != 0 {
		t.Errorf("the job ended as %+v", j)
	}
	r.destroy(1)
	r.all(names[1:149], 2)
}

func TestForeignArgumentsAndCursorsAreRefused(t *testing.T) {
	k := New(memstore.New(), nil).RewrapKind(nil)
	for _, j := range []job.Job{{Args: []byte(`{"vault":""}`)}, {Args: []byte(`{}`), Cursor: "x"}, {Args: []byte(`{}`), Cursor: `{"vault":"a"}`}} {
		if _, err := k.Step(t.Context(), j); fault.Of(err).Code != fault.Damaged {
			t.Errorf("%s %s: %v", j.Args, j.Cursor, err)
		}
	}
}
