package vault

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// TestARotationSurvivesEveryCommit kills the server at every commit of a rotation
// of 1,000 versions, with its effect and without, with the key process, whose keys
// are then gone, and without it. KEYFOLD_LONG=1 kills each second life, too.
func TestARotationSurvivesEveryCommit(t *testing.T) {
	versions := 1000
	if testing.Short() {
		versions = 250
	}
	full := newSpin(t)
	full.fill(versions)
	last := 0
	for at := 1; at == 1 || last == at-1; at++ {
		for _, takes := range []bool{false, true} {
			for _, forgets := range []bool{false, true} {
				x := full.clone(t)
				life := x.live(at, takes)
				if life.dead {
					last = at
				}
				x.opens()
				if forgets {
					x.twin.forget()
				}
				if os.Getenv("KEYFOLD_LONG") != "" {
					for second := 1; ; second++ {
						y := x.clone(t)
						y.leaks = true
						again := y.live(second, takes)
						y.opens()
						y.survives(life.id, versions)
						if !again.dead || t.Failed() {
							break
						}
					}
					x.twin.forget()
				}
				x.survives(life.id, versions)
				if t.Failed() {
					t.Fatalf("commit %d, took effect: %v, keys lost: %v", at, takes, forgets)
				}
			}
		}
	}
	if last < versions/100+5 { // start; a batch for each hundred and more; close; drain; flip; end
		t.Errorf("the rotation had %d commits", last)
	}
}

// life is what came of a server that was killed.
type life struct {
	id   string // of the job; "" when it was not begun, as far as anybody knows
	dead bool
}

// live resumes what there is and asks for the rotation, in a process that dies at
// commit at.
func (x *spin) live(at int, takes bool) life {
	x.t.Helper()
	dying := &storetest.DyingStore{Store: x.mem, At: at, Takes: takes}
	r, jobs := x.process(dying)
	defer jobs.Close()
	jobs.Resume(x.t.Context())
	j, err := x.begin(r, false)
	if err == nil {
		jobs.Wait(x.t.Context(), j.ID) // until the end, or until the store is gone
	}
	return life{j.ID, dying.Dead()}
}

// survives goes on with another process, and the same request.
func (x *spin) survives(id string, versions int) {
	x.t.Helper()
	r, jobs := x.process(x.mem)
	defer jobs.Close()
	x.must(jobs.Resume(x.t.Context()))
	list, err := r.ListRotations(x.t.Context(), owner, x.id)
	x.must(err)
	for _, j := range list.Rotations {
		x.neverLies(j)
		if j, err = r.Rotation(x.t.Context(), owner, x.id, j.ID); err != nil {
			x.t.Fatal(err)
		}
		x.neverLies(j)
		id = j.ID
	}
	if x.meta().Fingerprint == x.old.Fingerprint() {
		j, err := x.begin(r, false)
		if fault.Of(err).Code == fault.Conflict || fault.Of(err).Code == fault.Invalid { // it was complete by then
			j.ID, err = id, nil
		}
		if err != nil || id != "" && j.ID != id {
			x.t.Fatalf("the same request again answers %+v, %v, want job %s", j, err, id)
		}
		id = j.ID
	}
	x.completed(x.end(r, jobs, id), versions)
}

// neverLies fails when j is said to run and its keys are lost.
func (x *spin) neverLies(j api.CMEKRotationJob) {
	x.t.Helper()
	if j.Status == "running" && x.twin.open() == 0 && x.meta().Rotation != nil {
		x.t.Errorf("%+v is said to run, and nobody has the keys", j)
	}
}

// TestARotationThatLosesItsKeysWaitsForThem loses them before each batch.
func TestARotationThatLosesItsKeysWaitsForThem(t *testing.T) {
	for n := 1; n <= 3; n++ {
		x := newSpin(t)
		x.fill(230)
		r, jobs := x.serve()
		calls := 0
		x.twin.before = func(call string) error {
			if call == "Reencrypt" {
				if calls++; calls == n {
					x.twin.forget()
				}
			}
			return nil
		}
		first := x.begun(r, false)
		j := x.end(r, jobs, first.ID)
		if j.Status != "interrupted" || !strings.Contains(j.Error, "same request") || j.CompletedAt != nil {
			t.Errorf("without its keys it is %+v", j)
		}
		x.opens()
		x.must(x.write(x.fresh, true, "a", "new, declared"))
		x.must(x.write(x.fresh, false, "a", "new, undeclared"))
		x.must(x.write(x.old, true, "a", "old, declared"))
		jobs.Close()

		r, jobs = x.serve()
		x.must(jobs.Resume(t.Context())) // which does not take it up
		status, err := r.Status(t.Context(), owner, x.id, false)
		x.must(err)
		if status.Rotation == nil || status.Rotation.Status != "interrupted" {
			t.Errorf("after a restart it is %+v", status.Rotation)
		}
		_, err = x.DisableCMEK(t.Context(), owner, x.id)
		want(t, "DisableCMEK", err, fault.Conflict)
		x.asked.WasDone()
		again := x.begun(r, false)
		if did := x.did(); len(did) == 0 || !strings.HasPrefix(did[0], "cmek.rotate_") {
			t.Errorf("recorded %q", did)
		}
		if again.ID != first.ID {
			t.Errorf("the same request answers job %s, want %s", again.ID, first.ID)
		}
		done := x.end(r, jobs, first.ID)
		x.completed(done, done.TotalSecrets)
		if done.TotalSecrets < 232 || x.tagged()[x.fresh.Fingerprint()] != 233 {
			t.Errorf("it ended as %+v, tagged %v", done, x.tagged())
		}
	}
}

// A drain that lost its keys must not hold up writes until somebody brings them.
func TestADrainThatLosesItsKeysLetsWritesGoOn(t *testing.T) {
	x := newSpin(t)
	x.fill(30)
	r, jobs := x.serve()
	closes := 0
	x.hooks.beforeCommit = func(b *store.Batch) error {
		if closes == 0 && x.closing(b) {
			closes++
			x.must(x.write(x.old, true, "late", "before the closing")) // which meets the old meta row
		}
		return nil
	}
	x.twin.before = func(call string) error {
		if call == "Reencrypt" && closes == 1 {
			closes++
			x.twin.forget()
		}
		return nil
	}
	first := x.begun(r, false)
	j := x.end(r, jobs, first.ID)
	if m := x.meta(); j.Status != "interrupted" || m.Rotation == nil || m.Rotation.Closed {
		t.Errorf("it is %+v, the vault %+v", j, m.Rotation)
	}
	x.must(x.write(x.old, false, "late", "after"))
	x.begun(r, false)
	x.completed(x.end(r, jobs, first.ID), 32)
}

// Nor until the process that holds them is back.
func TestADrainWhoseKeyProcessIsAwayLetsWritesGoOn(t *testing.T) {
	x := newSpin(t)
	x.fill(30)
	r, jobs := x.serve()
	closes, asked := 0, 0
	x.hooks.beforeCommit = func(b *store.Batch) error {
		if closes == 0 && x.closing(b) {
			closes++
			x.must(x.write(x.old, true, "late", "before the closing")) // which meets the old meta row
		}
		return nil
	}
	x.twin.before = func(call string) error {
		if call != "Reencrypt" || closes == 0 {
			return nil
		}
		if asked++; asked == 1 {
			return errAway
		}
		if asked == 2 {
			if err := x.write(x.old, false, "late", "while it is away"); err != nil {
				t.Errorf("a write under the old key: %v", err)
			}
			return errAway
		}
		return nil
	}
	j := x.begun(r, false)
	x.completed(x.end(r, jobs, j.ID), len(x.holds))
	if asked < 3 || len(x.holds) != 32 {
		t.Errorf("the key process was asked %d times, and there are %d versions", asked, len(x.holds))
	}
}

// closing reports whether b closes the vault to the old key.
func (x *spin) closing(b *store.Batch) bool {
	for _, w := range b.Writes {
		if w.Key == layout.VaultMeta(x.id) && strings.Contains(string(w.Value), `"closed":true`) {
			return true
		}
	}
	return false
}

// flips reports whether b makes the new key the vault's.
func (x *spin) flips(b *store.Batch) bool {
	for _, w := range b.Writes {
		if w.Key == layout.VaultMeta(x.id) && strings.Contains(string(w.Value), `"cmek_fingerprint":"`+x.fresh.Fingerprint()) {
			return true
		}
	}
	return false
}

// TestNoWriteUnderTheOldKeyComesBehindTheDrain lets a write read the vault before
// the closing, and commit before the flip or behind it.
func TestNoWriteUnderTheOldKeyComesBehindTheDrain(t *testing.T) {
	for _, declared := range []bool{false, true} {
		for _, flipped := range []bool{false, true} {
			x := newSpin(t)
			x.fill(30)
			slow := x.slowWrite(declared)
			r, jobs := x.serve()
			flips := 0
			x.hooks.beforeCommit = func(b *store.Batch) error {
				if !flipped && x.flips(b) {
					flips++
					x.refused(slow.finish(), api.ProblemCMEKRotationClosing)
				}
				return nil
			}
			x.completed(x.end(r, jobs, x.begun(r, false).ID), 30)
			switch {
			case flipped && declared:
				x.refused(slow.finish(), api.ProblemCMEKKeyMismatch)
			case flipped:
				x.refused(slow.finish(), api.ProblemCMEKRotationClosing)
			case flips != 1:
				t.Errorf("%d flips", flips)
			}
			x.completed(x.end(r, jobs, x.only(r)), 30)
		}
	}
}

// slowWrite is a write under the old key that has read the vault and waits
// before its commit.
type slowWrite struct {
	pass   chan struct{}
	answer chan error
}

func (x *spin) slowWrite(declared bool) slowWrite {
	s := slowWrite{make(chan struct{}), make(chan error, 1)}
	reached := make(chan struct{})
	dam := &hookStore{Store: x.mem}
	dam.beforeCommit = func(*store.Batch) error {
		dam.beforeCommit = nil
		close(reached)
		<-s.pass
		return nil
	}
	r, jobs := x.process(dam)
	x.t.Cleanup(jobs.Close)
	value, opt := x.seal(x.old, 0, "late"), PutOptions{}
	if declared {
		opt.DeclaredFingerprint = x.old.Fingerprint()
	}
	go func() {
		_, err := r.Put(context.Background(), owner, x.id, "late", api.PutSecret{Value: &value}, opt)
		s.answer <- err
	}()
	<-reached
	return s
}

// finish lets the write go on and returns its answer.
func (s slowWrite) finish() error {
	close(s.pass)
	return <-s.answer
}

func (x *spin) refused(err error, kind string) {
	x.t.Helper()
	want(x.t, "a write under the old key", err, fault.Conflict)
	if got := fault.Of(err).Type; got != kind {
		x.t.Errorf("a write under the old key is refused as %q, want %q", got, kind)
	}
}

// only is the ID of the one rotation.
func (x *spin) only(r *Rotations) string {
	x.t.Helper()
	list, err := r.ListRotations(x.t.Context(), owner, x.id)
	if err != nil || len(list.Rotations) != 1 {
		x.t.Fatalf("%+v, %v", list, err)
	}
	return list.Rotations[0].ID
}

// While the vault is closed, the new key alone may write, if it is declared.
func TestBetweenClosingAndFlipOnlyDeclaredWritesUnderTheNewKeyGoOn(t *testing.T) {
	x := newSpin(t)
	x.fill(30)
	r, jobs := x.serve()
	flips := 0
	x.hooks.beforeCommit = func(b *store.Batch) error {
		if !x.flips(b) || flips > 0 {
			return nil
		}
		flips++
		for what, write := range map[string]func() error{
			"declared old":   func() error { return x.write(x.old, true, "a", "never") },
			"undeclared old": func() error { return x.write(x.old, false, "a", "never") },
			"undeclared new": func() error { return x.write(x.fresh, false, "a", "never") },
			"re-encrypted by the client under the old": func() error {
				_, err := x.ReencryptVersion(t.Context(), owner, x.id, "a", 1, api.ReencryptVersion{
					Value: x.seal(x.old, 0, "x"), OldFingerprint: x.fresh.Fingerprint(), NewFingerprint: x.old.Fingerprint(),
				})
				return err
			},
		} {
			err := write()
			want(t, what, err, fault.Conflict)
			if f := fault.Of(err); f.Type != api.ProblemCMEKRotationClosing || f.RetryAfter <= 0 {
				t.Errorf("%s: type %q, to be tried again after %v", what, f.Type, f.RetryAfter)
			}
		}
		want(t, "a third key", x.write(cmek.Generate(), true, "a", "never"), fault.Conflict)
		x.must(x.write(x.fresh, true, "a", "declared new"))
		return nil
	}
	x.completed(x.end(r, jobs, x.begun(r, false).ID), 30)
	if flips != 1 || x.tagged()[x.fresh.Fingerprint()] != 31 {
		t.Errorf("%d flips, %v", flips, x.tagged())
	}
}

// TestARotationAndARewrapRunAtOnce turns the KEK at every point of a rotation:
// nothing is left under its old version, nor under the old key.
func TestARotationAndARewrapRunAtOnce(t *testing.T) {
	for n := 1; ; n++ {
		x := newSpin(t)
		x.fill(130)
		r, jobs := x.serve()
		calls := 0
		var rewrap job.Job
		x.twin.before = func(call string) error {
			if call != "Reencrypt" {
				return nil
			}
			if calls++; calls == n { // between the reading of the rows and their commit
				rewrap = x.rewrapped()
			}
			return nil
		}
		x.twin.reencrypts = nil
		x.completed(x.end(r, jobs, x.begun(r, false).ID), 130)
		if calls < n {
			break
		}
		if rewrap.Status != job.Completed || rewrap.Failed != 0 {
			t.Errorf("the rewrap ended as %+v", rewrap)
		}
		if under := x.under(); under[1] != 0 {
			t.Errorf("a rewrap before batch %d leaves %v", n, under)
		}
		x.twin.destroy(t)
		x.opens()
	}
}

// rewrapped rotates the vault's KEK in another process.
func (x *spin) rewrapped() job.Job {
	x.t.Helper()
	_, jobs := x.process(x.mem)
	defer jobs.Close()
	j, err := jobs.Start(x.t.Context(), RewrapJob, RewrapArgs{Vault: x.id, Rotate: true})
	x.must(err)
	j, err = jobs.Wait(x.t.Context(), j.ID)
	x.must(err)
	return j
}

// TestABeginningThatMeetsAnotherChangeOfTheVaultIsDecidedAnew lets the change come
// before the commit that begins the rotation.
func TestABeginningThatMeetsAnotherChangeOfTheVaultIsDecidedAnew(t *testing.T) {
	third := cmek.Generate()
	for what, c := range map[string]struct {
		change func(*spin) error
		code   fault.Code
	}{
		"a deletion":     {func(x *spin) error { return x.Delete(x.t.Context(), owner, x.id) }, fault.NotFound},
		"an end of CMEK": {func(x *spin) error { x.disable(); return nil }, fault.Conflict},
		"another key":    {func(x *spin) error { x.disable(); x.enable(third, 0); return nil }, fault.Conflict},
		"another rotation": {func(x *spin) error {
			r, jobs := x.process(x.mem)
			defer jobs.Close()
			_, err := r.Rotate(x.t.Context(), owner, x.id, api.RotateCMEK{NewFingerprint: third.Fingerprint()}, RotationKeys{x.old.Bytes(), third.Bytes()})
			return err
		}, fault.Conflict},
	} {
		x := newSpin(t)
		x.fill(3)
		r, _ := x.serve()
		commits := 0
		x.hooks.beforeCommit = func(*store.Batch) error {
			if commits++; commits == 1 {
				x.must(c.change(x))
			}
			return nil
		}
		_, err := x.begin(r, false)
		want(t, what, err, c.code)
		if v, err := x.load(t.Context(), x.id); err != nil || v.Rotation != nil && v.Rotation.Fingerprint == x.fresh.Fingerprint() || c.code == fault.NotFound && v.rev != 0 {
			t.Errorf("%s: the vault is %+v, %v", what, v, err)
		}
	}
}

// A row that was sealed under the old version of the KEK, and comes to be stored
// after a whole rewrap, finds that its row was replaced.
func TestARewrapBetweenReencryptionAndCommitLeavesNothingBehind(t *testing.T) {
	for n := 2; ; n++ {
		x := newSpin(t)
		x.fill(130)
		r, jobs := x.serve()
		commits := 0
		x.hooks.beforeCommit = func(*store.Batch) error {
			if commits++; commits == n {
				x.rewrapped()
			}
			return nil
		}
		x.completed(x.end(r, jobs, x.begun(r, false).ID), 130)
		if commits < n {
			break
		}
		if under, m := x.under(), x.meta(); under[1] != 0 || m.KEKVersion != 2 {
			t.Errorf("a rewrap before commit %d leaves %v, and the vault takes envelopes from version %d on", n, under, m.KEKVersion)
		}
		x.twin.destroy(t)
		x.opens()
	}
}

// The KMS may be a process that lags behind the one that rotated the KEK.
func TestARotationByAKMSThatLagsWaits(t *testing.T) {
	x := newSpin(t)
	x.fill(30)
	x.rewrapped()
	x.twin.lag = 1
	calls := 0
	x.twin.before = func(call string) error {
		if call == "Reencrypt" {
			if calls++; calls == 3 {
				x.twin.lag = 0
			}
		}
		return nil
	}
	r, jobs := x.serve()
	x.completed(x.end(r, jobs, x.begun(r, false).ID), 30)
	if under := x.under(); under[1] != 0 || calls != 3 {
		t.Errorf("under %v after %d calls", under, calls)
	}
}

// TestAReadThatMeetsARotationAnswersWithTheKeyOfItsValue lets a rotation, a rewrap
// and a destruction come between the reading of a row and its opening.
func TestAReadThatMeetsARotationAnswersWithTheKeyOfItsValue(t *testing.T) {
	x := newSpin(t)
	x.fill(10)
	r, jobs := x.serve()
	opens := 0
	x.twin.before = func(call string) error {
		if call == "Open" {
			if opens++; opens == 1 {
				x.rewrapped()
				x.end(r, jobs, x.begun(r, false).ID)
				x.twin.destroy(t)
			}
		}
		return nil
	}
	got, err := x.read(x.id, "z")
	x.must(err)
	text, err := cmek.DecryptValue(x.fresh, got.Secret.Value)
	if err != nil || got.CMEKFingerprint != x.fresh.Fingerprint() || string(text) != fmt.Sprint("text ", "xx", 9) {
		t.Errorf("%q of %s, %v", text, got.CMEKFingerprint, err)
	}
}

func TestAKMSThatIsAwayInterruptsNothing(t *testing.T) {
	x := newSpin(t)
	x.fill(230)
	calls := 0
	x.twin.before = func(call string) error {
		if call == "Reencrypt" {
			if calls++; calls%2 == 0 {
				return errAway
			}
		}
		return nil
	}
	r, jobs := x.serve()
	x.completed(x.end(r, jobs, x.begun(r, false).ID), 230)
}
