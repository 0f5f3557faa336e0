package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// turn is a rig over a KMS whose versions are in the test's hands.
type turn struct {
	*rig
	twin *twinKMS
}

func newTurn(t testing.TB) *turn {
	x := &turn{rig: newRig(t), twin: newTwin()}
	x.kms.KMS = x.twin
	x.Service = New(Config{Store: x.hooks, KMS: x.twin, Gate: new(accesstest.Gate), Now: x.present})
	return x
}

// runner runs jobs over s.
func (x *turn) runner(s store.Store) *job.Runner {
	v := New(Config{Store: s, KMS: x.twin, Gate: new(accesstest.Gate), Now: x.present})
	return job.New(job.Config{Store: s, Kinds: []job.Kind{v.RewrapKind()}, Now: x.present, Holder: "test"})
}

// rewrap runs a job to its end.
func (x *turn) rewrap(args RewrapArgs) job.Job {
	x.t.Helper()
	r := x.runner(x.hooks)
	defer r.Close()
	j, err := r.Start(x.t.Context(), RewrapJob, args)
	if err != nil {
		x.t.Fatal(err)
	}
	return x.await(r, j.ID)
}

func (x *turn) await(r *job.Runner, id string) job.Job {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), 2*time.Minute)
	defer cancel()
	j, err := r.Wait(ctx, id)
	if err != nil {
		x.t.Fatalf("%v: %+v", err, j)
	}
	return j
}

// whole fails unless j did n versions without a failure.
func (x *turn) whole(j job.Job, n int) {
	x.t.Helper()
	if j.Status != job.Completed || j.Failed != 0 || j.Processed != n || j.Total != n {
		x.t.Errorf("the job ended as %+v, want %d versions", j, n)
	}
}

// under returns how many version rows lie under each version of their KEK.
func (x *turn) under() map[uint32]int {
	x.t.Helper()
	out := map[uint32]int{}
	for key, row := range x.rows() {
		if strings.Contains(key, ":version:") {
			v, err := decodeVersion([]byte(row))
			if err != nil {
				x.t.Fatal(err)
			}
			out[v.envelope.KEKVersion]++
		}
	}
	return out
}

// fill makes a vault with three paths of n versions; one path is deleted, one
// has a disabled version.
func (x *turn) fill(n int) string {
	x.t.Helper()
	id := x.vault()
	for i := range n {
		for _, path := range []string{"a", "b/c", "gone"} {
			x.put(id, path, fmt.Sprint("value of ", path, i))
		}
	}
	if err := x.DisableVersion(x.t.Context(), owner, id, "a", 1); err != nil {
		x.t.Fatal(err)
	}
	if err := x.DeleteSecret(x.t.Context(), owner, id, "gone"); err != nil {
		x.t.Fatal(err)
	}
	return id
}

// opens fails unless every version row of the store opens.
func (x *turn) opens() {
	x.t.Helper()
	for key, row := range x.rows() {
		id, _, _ := strings.Cut(strings.TrimPrefix(key, layout.Vaults()), ":")
		if !strings.HasPrefix(key, layout.VaultVersions(id)) {
			continue
		}
		path, n, ok := parseVersionKey(id, key)
		v, err := decodeVersion([]byte(row))
		if err != nil || !ok {
			x.t.Fatalf("%s: %v", key, err)
		}
		if value, err := x.open(x.t.Context(), id, path, n, v); err != nil || value != fmt.Sprint("value of ", path, n-1) {
			x.t.Errorf("%s opens as %q, %v", key, value, err)
		}
	}
}

func TestARewrapLeavesNothingUnderAnOldVersion(t *testing.T) {
	x := newTurn(t)
	one, other := x.fill(40), x.fill(2)
	before := x.rows()

	x.whole(x.rewrap(RewrapArgs{Vault: one, Rotate: true}), 120)
	if got := x.under(); got[2] != 120 || got[1] != 6 || len(got) != 2 {
		t.Errorf("after one vault's rotation: %v", got)
	}
	x.whole(x.rewrap(RewrapArgs{Rotate: true}), 126)
	if got := x.under(); got[3] != 120 || got[2] != 6 || len(got) != 2 {
		t.Errorf("after the rotation of all: %v", got)
	}
	calls := x.twin.count("RotateKEK")
	x.whole(x.rewrap(RewrapArgs{}), 126)
	if x.twin.count("RotateKEK") != calls {
		t.Error("a rewrap rotated")
	}
	x.twin.destroy(t)
	x.opens()
	x.wantValue(one, "a", "value of a39")
	x.wantValue(other, "b/c", "value of b/c1")
	x.put(one, "a", "another")
	x.wantValue(one, "a", "another")
	for key, row := range before {
		if _, ok := x.rows()[key]; !ok || strings.Contains(key, ":head:gone") && x.rows()[key] != row {
			t.Errorf("%s was changed", key)
		}
	}
}

func TestARewrapChangesKEKVersionAndWrappedDEKAlone(t *testing.T) {
	x := newTurn(t)
	x.fill(3)
	before := x.rows()
	x.whole(x.rewrap(RewrapArgs{Rotate: true}), 9)
	for key, row := range x.rows() {
		switch {
		case strings.Contains(key, ":version:"):
			was, err1 := decodeVersion([]byte(before[key]))
			is, err2 := decodeVersion([]byte(row))
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			was.envelope.KEKVersion, was.envelope.WrappedDEK = is.envelope.KEKVersion, is.envelope.WrappedDEK
			if again, err := encodeVersion(was.raw, was.envelope); err != nil || string(again) != row {
				t.Errorf("%s changed in more than its wrapped DEK (%v)", key, err)
			}
		case strings.HasPrefix(key, "job:"), strings.HasSuffix(key, ":meta"):
		case before[key] != row:
			t.Errorf("%s was changed", key)
		}
	}
}

// TestARewrapSurvivesEveryCommit fails every commit of the job, with its effect
// and without, and goes on with another process.
func TestARewrapSurvivesEveryCommit(t *testing.T) {
	last := 0
	for at := 2; at == 2 || last == at-1; at++ {
		for _, takes := range []bool{false, true} {
			x := newTurn(t)
			x.fill(2)
			x.fill(1)
			dead := &storetest.DyingStore{Store: x.mem, At: at, Takes: takes}
			r := x.runner(dead)
			j, err := r.Start(t.Context(), RewrapJob, RewrapArgs{Rotate: true})
			if err != nil {
				t.Fatal(err)
			}
			r.Wait(t.Context(), j.ID) // until the end, or until the store is gone
			r.Close()
			if dead.Dead() {
				last = at
			}
			x.opens()
			r = x.runner(x.mem)
			if err := r.Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			x.whole(x.await(r, j.ID), 9)
			r.Close()
			if got := x.under(); got[2] != 9 {
				t.Errorf("rows under %v", got)
			}
			x.twin.destroy(t)
			x.opens()
			if t.Failed() {
				t.Fatalf("commit %d, took effect: %v", at, takes)
			}
		}
	}
	if last < 8 { // Start; of each vault: primary, least version, rows; the end
		t.Errorf("the job had %d commits", last)
	}
}

func TestAnAnswerOfTheKMSThatIsLostRotatesNothingTwice(t *testing.T) {
	for _, name := range []string{"Seal", "RotateKEK", "Rewrap", "ReleaseKEK"} {
		x := newTurn(t)
		x.fill(2)
		lost := false
		x.twin.after = func(call string) error {
			if call != name || lost {
				return nil
			}
			lost = true
			return fault.New(fault.Unavailable, "the key process was killed")
		}
		x.whole(x.rewrap(RewrapArgs{Rotate: true}), 6)
		if got := x.under(); !lost || got[2] != 6 {
			t.Errorf("%s: rows under %v", name, got)
		}
		x.twin.destroy(t)
		x.opens()
	}
}

// TestAWriteSealedUnderTheOldVersionIsNotStoredAfterTheRewrap lets a whole
// rotation come between a write's seal and its commit.
func TestAWriteSealedUnderTheOldVersionIsNotStoredAfterTheRewrap(t *testing.T) {
	x := newTurn(t)
	id := x.fill(2)
	rotate := once(func() { x.whole(x.rewrap(RewrapArgs{Rotate: true}), 6) })
	x.hooks.beforeCommit = func(b *store.Batch) error {
		if strings.HasPrefix(b.Writes[0].Key, layout.VaultVersions(id)) {
			return rotate()
		}
		return nil
	}
	x.put(id, "a", "value of a2")
	if got := x.under(); got[2] != 7 {
		t.Errorf("rows under %v", got)
	}
	x.twin.destroy(t)
	x.opens()
}

// TestAReadThatMeetsARotationAndADestructionAnswers lets both come between the
// reading of a row and its opening.
func TestAReadThatMeetsARotationAndADestructionAnswers(t *testing.T) {
	x := newTurn(t)
	id := x.fill(2)
	opened := 0
	x.twin.before = func(call string) error {
		if call == "Open" {
			if opened++; opened == 1 {
				x.whole(x.rewrap(RewrapArgs{Rotate: true}), 6)
				x.twin.destroy(t)
			}
		}
		return nil
	}
	x.wantValue(id, "a", "value of a1")
	if opened != 2 {
		t.Errorf("it took %d opens", opened)
	}
}

// TestAKMSThatLagsCannotSealUnderTheOldVersion: of several KMS processes one
// may not know of a rotation yet.
func TestAKMSThatLagsCannotSealUnderTheOldVersion(t *testing.T) {
	x := newTurn(t)
	id := x.fill(2)
	x.rewrap(RewrapArgs{Rotate: true})
	x.twin.lag = 1
	seals := 0
	x.twin.before = func(call string) error {
		if seals++; seals == 5 {
			x.twin.lag = 0
		}
		return nil
	}
	x.put(id, "a", "value of a2")
	if got := x.under(); got[2] != 7 || seals != 5 {
		t.Errorf("rows under %v after %d seals", got, seals)
	}
	x.twin.lag, seals = 1, 10 // and it stays so, as one that was restored from an old backup
	value, began := "never", time.Now()
	_, err := x.Put(t.Context(), owner, id, "a", api.PutSecret{Value: &value}, PutOptions{})
	want(t, "a write while the KMS lags", err, fault.Unavailable)
	if seals != 10+maxLags {
		t.Errorf("%d seals for one write", seals-10)
	}
	if waited := time.Since(began); waited < 2*time.Second {
		t.Errorf("it waited %v; a key process may lag for 1.5s", waited)
	}
}

func TestAVersionThatDoesNotOpenIsNamedAndItsKEKIsKept(t *testing.T) {
	x := newTurn(t)
	bad, good := x.fill(40), x.fill(2)
	flipped := layout.SecretVersion(bad, "a", 7)
	row := []byte(x.rows()[flipped])
	v, err := decodeVersion(row)
	if err != nil {
		t.Fatal(err)
	}
	v.envelope.WrappedDEK[20] ^= 1
	x.set(flipped, string(row))
	torn := layout.SecretVersion(bad, "b/c", 9)
	x.set(torn, "\x01no row")
	moved := layout.SecretVersion(bad, "a", 41)
	x.set(moved, x.rows()[layout.SecretVersion(bad, "a", 3)])
	strange := layout.VaultVersions(bad) + "a:12"
	x.set(strange, "")
	before := x.rows()

	j := x.rewrap(RewrapArgs{Rotate: true})
	if j.Status != job.Completed || j.Failed != 4 || j.Processed != 128 {
		t.Errorf("the job ended as %+v", j)
	}
	names := strings.Join(j.FailedOf, "\n")
	for _, name := range []string{versionName(bad, "a", 7), versionName(bad, "b/c", 9), versionName(bad, "a", 41), "a:12"} {
		if !strings.Contains(names, name) {
			t.Errorf("%s is not named:\n%s", name, names)
		}
	}
	if strings.Contains(names, "value of") {
		t.Error("a value is named")
	}
	for _, key := range []string{flipped, torn, moved, strange} {
		if x.rows()[key] != before[key] {
			t.Errorf("%s was changed", key)
		}
	}
	if x.twin.released["vault-"+bad] != 0 || x.twin.released["vault-"+good] != 2 {
		t.Errorf("released: %v", x.twin.released)
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
		x := newTurn(t)
		x.fill(2)
		calls := 0
		x.twin.rewraps = func(r []kmsapi.RewrapResult) []kmsapi.RewrapResult {
			if calls++; calls <= 2 {
				return spoil(r)
			}
			return r
		}
		x.whole(x.rewrap(RewrapArgs{Rotate: true}), 6)
		if calls != 3 {
			t.Errorf("%s: it took %d calls", name, calls)
		}
		x.twin.destroy(t)
		x.opens()
	}
}

func TestADamagedVaultAndALostKEKAreNamed(t *testing.T) {
	x := newTurn(t)
	damaged, lost, newer, good := x.fill(1), x.fill(1), x.fill(1), x.fill(1)
	x.set(layout.VaultMeta(damaged), "\x01{}")
	delete(x.twin.keks, "vault-"+lost)
	x.rewrap(RewrapArgs{Vault: newer, Rotate: true})
	x.twin.keks["vault-"+newer] = x.twin.keks["vault-"+newer][:1] // the KMS was put back to an older backup
	for _, rotate := range []bool{false, true} {
		j := x.rewrap(RewrapArgs{Rotate: rotate})
		if j.Status != job.Completed || strings.Contains(strings.Join(j.FailedOf, " "), good) {
			t.Errorf("the job ended as %+v", j)
		}
		for _, id := range []string{damaged, lost} {
			if !strings.Contains(strings.Join(j.FailedOf, "\n"), "vault "+id) {
				t.Errorf("vault %s is not named: %q", id, j.FailedOf)
			}
		}
		if !rotate && j.FailedOf[2] != "vault "+newer {
			t.Errorf("the vault whose KEK was put back is not named: %q", j.FailedOf)
		}
	}
	if len(x.twin.keks["vault-"+lost]) != 0 {
		t.Error("the job made a KEK under the ID of the lost one")
	}
	if x.twin.released["vault-"+good] != 2 {
		t.Error("the other vault was not done")
	}
}

func TestAVaultDeletedMeanwhileIsNoFailure(t *testing.T) {
	for n := 1; ; n++ {
		x := newTurn(t)
		first, second := x.fill(1), x.fill(35)
		calls := 0
		x.twin.before = func(string) error {
			if calls++; calls == n {
				for _, id := range []string{first, second} {
					if err := x.Delete(t.Context(), owner, id); err != nil {
						t.Error(err)
					}
				}
			}
			return nil
		}
		j := x.rewrap(RewrapArgs{Rotate: true})
		x.twin.before = nil
		if j.Status != job.Completed || j.Failed != 0 {
			t.Fatalf("deleted before call %d: %+v", n, j)
		}
		if calls < n {
			break
		}
		for key := range x.rows() {
			if strings.HasPrefix(key, "vault") {
				t.Errorf("deleted before call %d: %s is back", n, key)
			}
		}
	}
}

func TestARewrapOfNoVaultSaysSo(t *testing.T) {
	x := newTurn(t)
	j := x.rewrap(RewrapArgs{Vault: noVault})
	if j.Status != job.Failed || !strings.Contains(j.Error, "no vault") {
		t.Errorf("the job ended as %+v", j)
	}
	if j = x.rewrap(RewrapArgs{}); j.Status != job.Completed {
		t.Errorf("without any vault the job ended as %+v", j)
	}
}

func TestAServerThatMayNotRotateSaysSo(t *testing.T) {
	x := newTurn(t)
	x.fill(1)
	x.twin.before = func(call string) error {
		if call == "RotateKEK" {
			return fault.New(fault.Forbidden, "this caller is no admin of the KMS")
		}
		return nil
	}
	if j := x.rewrap(RewrapArgs{Rotate: true}); j.Status != job.Failed || j.Error != "this caller is no admin of the KMS" {
		t.Errorf("the job ended as %+v", j)
	}
}
