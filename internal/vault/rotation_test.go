package vault

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

func TestARotationLeavesNothingUnderTheOldKeyAndTouchesNothingElse(t *testing.T) {
	x := newSpin(t)
	third := cmek.Generate()
	x.fill(230)
	x.disable()
	x.must(x.write(nil, false, "plain", "plain text"))
	x.enable(third, 0)
	x.must(x.write(third, true, "third", "of a third key"))
	x.must(x.write(third, true, "a", "of a third key, between"))
	x.disable()
	x.enable(x.old, 0)
	x.must(x.write(x.old, true, "a", "of the old key again"))
	before := x.rows()
	r, jobs := x.serve()

	j := x.end(r, jobs, x.begun(r, false).ID)
	if j.Status != "completed" || j.TotalSecrets != 231 || j.Processed != 231 || j.Error != "" {
		t.Errorf("the rotation ended as %+v", j)
	}
	x.wantFingerprint(x.fresh)
	want := map[string]int{x.fresh.Fingerprint(): 231, third.Fingerprint(): 2, "": 1}
	if diff := cmp.Diff(want, x.tagged()); diff != "" {
		t.Error(diff)
	}
	x.opens(third)
	x.hides()
	for key, row := range x.rows() {
		if strings.HasPrefix(key, "job:") || strings.HasSuffix(key, ":meta") {
			continue
		}
		if !strings.HasPrefix(key, layout.VaultVersions(x.id)) {
			if before[key] != row {
				t.Errorf("%s was changed", key)
			}
			continue
		}
		was, err1 := decodeVersion([]byte(before[key]))
		is, err2 := decodeVersion([]byte(row))
		x.must(errors.Join(err1, err2))
		if was.Fingerprint != x.old.Fingerprint() && before[key] != row {
			t.Errorf("%s, of another key, was changed", key)
		}
		if was.Fingerprint == x.old.Fingerprint() {
			was.Fingerprint = x.fresh.Fingerprint()
			if diff := cmp.Diff(was.attributes, is.attributes); diff != "" {
				t.Errorf("%s: attributes were changed: %s", key, diff)
			}
			if string(was.envelope.WrappedDEK) == string(is.envelope.WrappedDEK) {
				t.Errorf("%s has its old DEK", key)
			}
		}
	}
}

func TestARotationKeepsTheFormOfEachBlob(t *testing.T) {
	x := newSpin(t)
	x.fill(4)
	x.disable()
	x.enable(x.old, 2)
	bound, err := cmek.EncryptBoundValue(x.old, cmek.Context{VaultID: x.id, Path: "bound"}, []byte("bound text"))
	x.must(err)
	_, err = x.Put(t.Context(), owner, x.id, "bound", api.PutSecret{Value: &bound}, PutOptions{})
	x.must(err)
	x.holds[layout.SecretVersion(x.id, "bound", 1)] = "bound text"
	forms := func() map[string]string {
		out := map[string]string{}
		x.each(func(key, path string, n int, r versionRow) {
			value, err := x.turn.Service.open(t.Context(), x.id, path, n, r)
			x.must(err)
			info, err := cmek.Inspect(value)
			x.must(err)
			out[key] = fmt.Sprintf("%+v", info)
		})
		return out
	}
	before := forms()
	r, jobs := x.serve()
	x.completed(x.end(r, jobs, x.begun(r, false).ID), 5)
	if diff := cmp.Diff(before, forms()); diff != "" {
		t.Error(diff)
	}
	if got := x.meta().BlobVersion; got != 2 {
		t.Errorf("the vault takes blobs of version %d now", got)
	}
}

func TestAVaultTakesBlobsOfItsVersionAlone(t *testing.T) {
	x := newSpin(t)
	at := cmek.Context{VaultID: x.id, Path: "p"}
	bound, err := cmek.EncryptBoundValue(x.old, at, []byte("text"))
	x.must(err)
	for i, refused := range [][]string{{bound}, {x.seal(x.old, 0, "text"), x.seal(x.old, 1, "text"), "text"}} {
		x.disable()
		x.enable(x.old, i+1)
		for _, value := range refused {
			_, err := x.Put(t.Context(), owner, x.id, "p", api.PutSecret{Value: &value}, PutOptions{})
			want(t, "a blob of another version", err, fault.Invalid)
			if fault.Of(err).Type != api.ProblemCMEKBlobRequired {
				t.Errorf("type %q", fault.Of(err).Type)
			}
		}
	}
	_, err = x.Put(t.Context(), owner, x.id, "p", api.PutSecret{Value: &bound}, PutOptions{})
	x.must(err)
}

func TestAnEmptyVaultIsRotatedToo(t *testing.T) {
	x := newSpin(t)
	r, jobs := x.serve()
	x.completed(x.end(r, jobs, x.begun(r, false).ID), 0)
}

func TestEveryStepOfARotationIsInTheTrail(t *testing.T) {
	x := newSpin(t)
	x.fill(3)
	r, jobs := x.serve()
	x.asked.Asked()
	x.asked.WasDone()
	j := x.begun(r, false)
	x.end(r, jobs, j.ID)
	asked, done := x.asked.Asked(), x.asked.WasDone()
	if asked[0].Action != access.VaultCMEK || asked[0].Resource.As != "vault.cmek_rotate" {
		t.Errorf("the gate was asked %+v", asked)
	}
	var names []string
	for _, d := range done {
		names = append(names, d.Resource.As)
		want := map[string]string{"job_id": j.ID, "old_fingerprint": x.old.Fingerprint(), "new_fingerprint": x.fresh.Fingerprint()}
		if diff := cmp.Diff(want, d.Resource.Details); diff != "" || d.Principal.ID != owner.ID || d.Principal.OrgID != owner.OrgID || d.Resource.VaultID != x.id {
			t.Errorf("%+v: %s", d, diff)
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"cmek.rotate_complete", "cmek.rotate_start"}) {
		t.Errorf("recorded %q", names)
	}
}

// broken makes version n of path open with neither key.
func (x *spin) broken(path string, n int) {
	x.t.Helper()
	x.reseal(cmek.Generate(), path, n, "of a key that nobody has")
}

// reseal puts text, under k, in the place of version n, whatever its tag says.
func (x *spin) reseal(k *cmek.Key, path string, n int, text string) {
	x.t.Helper()
	key := layout.SecretVersion(x.id, path, n)
	r, err := decodeVersion([]byte(x.rows()[key]))
	x.must(err)
	row, err := x.turn.Service.seal(x.t.Context(), vault{id: x.id, vaultMeta: x.meta()}, path, n, r.attributes, x.seal(k, 0, text))
	x.must(err)
	x.set(key, string(row))
}

func TestVersionsThatOpenWithNeitherKeyAreNamedAndTheKeyStays(t *testing.T) {
	x := newSpin(t)
	x.fill(230)
	x.broken("a", 7)
	x.broken("z", 9)
	torn := layout.SecretVersion(x.id, "a", 12)
	x.set(torn, "\x01no row")
	before := x.rows()
	r, jobs := x.serve()
	j := x.end(r, jobs, x.begun(r, false).ID)
	for _, name := range []string{"secret a, version 7", "secret z, version 9", "secret a, version 12"} {
		if !strings.Contains(j.Error, name) {
			t.Errorf("%s is not named: %s", name, j.Error)
		}
	}
	if m := x.meta(); j.Status != "failed" || j.Processed != 227 || j.TotalSecrets != 230 || m.Fingerprint != x.old.Fingerprint() || m.Rotation != nil {
		t.Errorf("it ended as %+v, the vault is %+v", j, m)
	}
	if n := x.twin.open(); n != 0 {
		t.Errorf("%d sessions are open", n)
	}
	left := func() {
		t.Helper()
		for _, key := range []string{torn, layout.SecretVersion(x.id, "a", 7), layout.SecretVersion(x.id, "z", 9)} {
			if x.rows()[key] != before[key] {
				t.Errorf("%s was changed", key)
			}
		}
	}
	left()
	calls := x.twin.count("Reencrypt")
	again := x.end(r, jobs, x.begun(r, false).ID) // which has nothing else to do
	if again.ID == j.ID || again.Status != "failed" || again.TotalSecrets != 3 || again.Processed != 0 || x.twin.count("Reencrypt") != calls+1 {
		t.Errorf("the second run ended as %+v", again)
	}
	accepted := x.end(r, jobs, x.begun(r, true).ID)
	if accepted.Status != "completed" || accepted.TotalSecrets != 3 || accepted.Processed != 3 || !strings.Contains(accepted.Error, "secret a, version 7") {
		t.Errorf("the accepted run ended as %+v", accepted)
	}
	x.wantFingerprint(x.fresh)
	left()
	status, err := r.Status(t.Context(), owner, x.id, true)
	x.must(err)
	if len(status.Keys) != 2 || status.Keys[1].Fingerprint != x.old.Fingerprint() || status.Keys[1].Versions != 2 || status.Damaged != 1 {
		t.Errorf("the inventory is %+v", status)
	}
}

func TestARotationThatCannotGoOnFailsAndLeavesTheVault(t *testing.T) {
	x := newSpin(t)
	x.fill(30)
	x.twin.before = func(call string) error {
		if call == "Reencrypt" {
			return fault.New(fault.Forbidden, "this caller may not use the KMS")
		}
		return nil
	}
	r, jobs := x.serve()
	j := x.end(r, jobs, x.begun(r, false).ID)
	if m := x.meta(); j.Status != "failed" || j.Error != "this caller may not use the KMS" || m.Rotation != nil || x.twin.open() != 0 {
		t.Errorf("it ended as %+v, the vault is %+v", j, m)
	}
	if did := x.did(); !slices.ContainsFunc(did, func(s string) bool { return strings.HasPrefix(s, "cmek.rotate_fail") }) {
		t.Errorf("recorded %q", did)
	}
}

func TestWhoAndWhatMayNotRotate(t *testing.T) {
	x := newSpin(t)
	x.fill(1)
	r, _ := x.serve()
	raw := func(k *cmek.Key) []byte { return k.Bytes() }
	fp := x.fresh.Fingerprint()
	for what, c := range map[string]struct {
		p    access.Principal
		req  api.RotateCMEK
		keys RotationKeys
		code fault.Code
		kind string
	}{
		"nobody":                {nobody, api.RotateCMEK{NewFingerprint: fp}, x.keys(), fault.Unauthenticated, ""},
		"a stranger":            {stranger, api.RotateCMEK{NewFingerprint: fp}, x.keys(), fault.NotFound, ""},
		"a mate":                {mate, api.RotateCMEK{NewFingerprint: fp}, x.keys(), fault.Forbidden, ""},
		"an agent":              {agent, api.RotateCMEK{NewFingerprint: fp}, x.keys(), fault.Forbidden, ""},
		"no fingerprint":        {owner, api.RotateCMEK{}, x.keys(), fault.Invalid, ""},
		"the old fingerprint":   {owner, api.RotateCMEK{NewFingerprint: x.old.Fingerprint()}, RotationKeys{raw(x.old), raw(x.old)}, fault.Invalid, ""},
		"no keys":               {owner, api.RotateCMEK{NewFingerprint: fp}, RotationKeys{}, fault.Invalid, api.ProblemCMEKOldKey},
		"no new key":            {owner, api.RotateCMEK{NewFingerprint: fp}, RotationKeys{Old: raw(x.old)}, fault.Invalid, api.ProblemCMEKNewKey},
		"a short key":           {owner, api.RotateCMEK{NewFingerprint: fp}, RotationKeys{raw(x.old)[:31], raw(x.fresh)}, fault.Invalid, api.ProblemCMEKOldKey},
		"another old key":       {owner, api.RotateCMEK{NewFingerprint: fp}, RotationKeys{raw(x.fresh), raw(x.fresh)}, fault.Invalid, api.ProblemCMEKOldKey},
		"another new key":       {owner, api.RotateCMEK{NewFingerprint: fp}, RotationKeys{raw(x.old), raw(x.old)}, fault.Invalid, api.ProblemCMEKNewKey},
		"a malformed key check": {owner, api.RotateCMEK{NewFingerprint: fp, NewKeyCheck: "x"}, x.keys(), fault.Invalid, ""},
		"another key's check":   {owner, api.RotateCMEK{NewFingerprint: fp, NewKeyCheck: x.old.Check(x.id)}, x.keys(), fault.Invalid, api.ProblemCMEKKeyCheck},
		"keys twice":            {owner, api.RotateCMEK{NewFingerprint: fp, SealedKeys: &api.SealedCMEKKeys{KeyID: "k"}}, x.keys(), fault.Invalid, ""},
	} {
		before := x.rows()
		_, err := r.Rotate(t.Context(), c.p, x.id, c.req, c.keys)
		want(t, what, err, c.code)
		if got := fault.Of(err).Type; got != c.kind {
			t.Errorf("%s: type %q, want %q", what, got, c.kind)
		}
		if strings.Trim(string(c.keys.Old)+string(c.keys.New), "\x00") != "" {
			t.Errorf("%s: the keys were not wiped", what)
		}
		if diff := cmp.Diff(before, x.rows()); diff != "" || x.twin.open() != 0 {
			t.Errorf("%s: something was changed: %s", what, diff)
		}
	}
	x.disable()
	_, err := x.begin(r, false)
	want(t, "without CMEK", err, fault.Invalid)
	_, err = r.Key(t.Context(), owner, x.id)
	want(t, "a key without CMEK", err, fault.Invalid)
	x.hides()
}

// held stops the rotation before the commit of its n-th batch, until let is closed.
func (x *spin) held(n int) (reached, let chan struct{}) {
	reached, let = make(chan struct{}), make(chan struct{})
	batches := 0
	x.hooks.beforeCommit = func(b *store.Batch) error {
		if len(b.Writes) == 0 || !strings.HasPrefix(b.Writes[0].Key, layout.VaultVersions(x.id)) || !strings.HasPrefix(b.Writes[len(b.Writes)-1].Key, layout.Job("")) {
			return nil
		}
		if batches++; batches == n {
			close(reached)
			<-let
		}
		return nil
	}
	return reached, let
}

func TestWhileAVaultIsRotatedItIsNotRotatedToAnotherKeyNorDisabled(t *testing.T) {
	x := newSpin(t)
	x.fill(230)
	reached, let := x.held(2)
	r, jobs := x.serve()
	first := x.begun(r, false)
	<-reached
	second := x.begun(r, false) // the same, again
	if second.ID != first.ID || x.twin.open() != 1 {
		t.Errorf("the same request again answers job %s, not %s; %d sessions", second.ID, first.ID, x.twin.open())
	}
	other := cmek.Generate()
	_, err := r.Rotate(t.Context(), owner, x.id, api.RotateCMEK{NewFingerprint: other.Fingerprint()}, RotationKeys{x.old.Bytes(), other.Bytes()})
	want(t, "a rotation to another key", err, fault.Conflict)
	if fault.Of(err).Type != api.ProblemCMEKRotating || x.twin.open() != 1 {
		t.Errorf("type %q, %d sessions", fault.Of(err).Type, x.twin.open())
	}
	_, err = x.DisableCMEK(t.Context(), owner, x.id)
	want(t, "DisableCMEK", err, fault.Conflict)
	status, err := r.Status(t.Context(), owner, x.id, false)
	x.must(err)
	if status.Rotation == nil || status.Rotation.ID != first.ID || status.Rotation.Status != "running" || status.Fingerprint != x.old.Fingerprint() || status.Keys != nil {
		t.Errorf("the status is %+v", status)
	}
	close(let)
	x.completed(x.end(r, jobs, first.ID), 230)
}

func TestARotationGoesOnWithTheKeysOfASecondRequestThatAsksForMore(t *testing.T) {
	x := newSpin(t)
	x.fill(230)
	x.broken("z", 9)
	reached, let := x.held(2)
	r, jobs := x.serve()
	first := x.begun(r, false)
	<-reached
	if j := x.begun(r, true); j.ID != first.ID || x.twin.open() != 1 {
		t.Errorf("answered %+v, %d sessions", j, x.twin.open())
	}
	close(let)
	j := x.end(r, jobs, first.ID)
	if j.Status != "completed" || x.meta().Fingerprint != x.fresh.Fingerprint() || x.twin.open() != 0 {
		t.Errorf("it ended as %+v, %d sessions", j, x.twin.open())
	}
}

// The pass that failed has ended, in the open or in the drain, when a second request
// accepts what failed; the server may die at each commit from then on.
func TestVersionsThatAreAcceptedBeforeTheJobHasFailedAreAccepted(t *testing.T) {
	for _, drains := range []bool{false, true} {
		before, _ := acceptedLate(t, drains, math.MaxInt, false)
		for at, dead := before+1, true; dead; at++ {
			for _, takes := range []bool{false, true} {
				if _, dead = acceptedLate(t, drains, at, takes); t.Failed() {
					t.Fatalf("drains: %v, killed at commit %d of %d, took effect: %v", drains, at, before, takes)
				}
			}
		}
	}
}

// acceptedLate returns how many commits there were before the acceptance, and
// whether the server was killed, at commit at.
func acceptedLate(t *testing.T, drains bool, at int, takes bool) (before int, dead bool) {
	x := newSpin(t)
	x.fill(30)
	late := "a"
	if drains {
		late = "late"
	} else {
		x.broken(late, 1)
	}
	dying := &storetest.DyingStore{Store: x.mem, At: at, Takes: takes}
	x.hooks.Store = dying
	r, jobs := x.serve()
	commits, answered := 0, false
	x.hooks.beforeCommit = func(b *store.Batch) error {
		switch {
		case drains && x.closing(b): // a write that read the vault before
			drains = false
			x.must(x.write(x.old, true, late, "before the closing"))
			x.broken(late, 1)
		case before == 0 && strings.Contains(string(b.Writes[len(b.Writes)-1].Value), `"status":"failed"`):
			if late == "a" { // the vault is open
				x.must(x.write(x.old, true, "b", "behind the pass that failed"))
			}
			before = commits
			_, err := x.begin(r, true)
			answered = err == nil
		}
		commits++
		return nil
	}
	x.twin.before = func(call string) error {
		if call == "Reencrypt" && before > 0 && at == math.MaxInt {
			x.twin.before = nil
			if err := x.write(x.old, true, "b", "in the pass after the acceptance"); err != nil {
				t.Errorf("a write while the rotation passes again: %v", err)
			}
		}
		return nil
	}
	first := x.begun(r, false)
	jobs.Wait(t.Context(), first.ID) // until the end, or until the store is gone
	jobs.Close()
	x.hooks = &hookStore{Store: x.mem}
	x.over(x.hooks)
	r, jobs = x.serve()
	x.must(jobs.Resume(t.Context()))
	if !answered {
		first = x.begun(r, true)
	}
	j := x.end(r, jobs, first.ID)
	if j.Status != "completed" || !strings.Contains(j.Error, "stay under the old one") || x.twin.open() != 0 && answered {
		t.Errorf("it ended as %+v, %d sessions", j, x.twin.open())
	}
	x.wantFingerprint(x.fresh)
	if n := x.tagged()[x.old.Fingerprint()]; n != 1 {
		t.Errorf("%d versions are under the old key", n)
	}
	x.reseal(x.old, late, 1, x.holds[layout.SecretVersion(x.id, late, 1)])
	x.opens()
	return before, dying.Dead()
}

func TestACancelledRotationLeavesTheVaultItsKey(t *testing.T) {
	for n := 1; n <= 3; n++ {
		x := newSpin(t)
		x.fill(230)
		reached, let := x.held(n)
		r, jobs := x.serve()
		j := x.begun(r, false)
		<-reached
		cancelled, err := r.CancelRotation(t.Context(), owner, x.id, j.ID)
		x.must(err)
		close(let)
		if cancelled.Status != "cancelled" {
			t.Errorf("answered as %+v", cancelled)
		}
		x.end(r, jobs, j.ID)
		jobs.Close()
		x.wantFingerprint(x.old)
		x.opens()
		if got := x.tagged()[x.fresh.Fingerprint()]; got != 100*(n-1) {
			t.Errorf("%d versions are under the new key after batch %d", got, n-1)
		}
		want(t, "a declared write under the new key", x.write(x.fresh, true, "a", "new"), fault.Conflict)
		x.must(x.write(x.old, false, "a", "old"))
		r, jobs = x.serve()
		next := x.end(r, jobs, x.begun(r, false).ID)
		x.completed(next, 231-100*(n-1))
		list, err := r.ListRotations(t.Context(), owner, x.id)
		x.must(err)
		if len(list.Rotations) != 2 || list.Rotations[0].ID != next.ID || list.Rotations[1].Status != "cancelled" {
			t.Errorf("the list is %+v", list)
		}
		_, err = r.CancelRotation(t.Context(), owner, x.id, next.ID)
		x.must(err)
		x.wantFingerprint(x.fresh)
	}
}

// Who may read a vault need not know its paths.
func TestTheStatusOfAVaultNamesNoVersionThatFailed(t *testing.T) {
	x := newSpin(t)
	x.fill(230)
	x.broken("a-b", 1)
	reached, let := x.held(2)
	r, jobs := x.serve()
	j := x.begun(r, false)
	<-reached
	mine, err := r.Rotation(t.Context(), owner, x.id, j.ID)
	x.must(err)
	status, err := r.Status(t.Context(), owner, x.id, false)
	x.must(err)
	close(let)
	if !strings.Contains(mine.Error, "a-b") || status.Rotation == nil || status.Rotation.ID != j.ID || strings.Contains(status.Rotation.Error, "a-b") {
		t.Errorf("the rotation is %+v, in the status it is %+v", mine, status.Rotation)
	}
	x.end(r, jobs, j.ID)
}

// The meta row was damaged when its job failed, and is mended since.
func TestARotationWhoseJobHasEndedIsBegunAnew(t *testing.T) {
	x := newSpin(t)
	x.fill(230)
	reached, let := x.held(2)
	r, jobs := x.serve()
	j := x.begun(r, false)
	<-reached
	key := layout.VaultMeta(x.id)
	row := x.rows()[key]
	x.set(key, "no row")
	close(let)
	if _, err := jobs.Wait(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	x.set(key, row)
	left := x.tagged()[x.old.Fingerprint()] // 30, or none when the last batch was made before the damage
	next := x.end(r, jobs, x.begun(r, false).ID)
	if next.ID == j.ID {
		t.Error("a job that has ended goes on")
	}
	x.completed(next, left)
}

// The rows of the next batch are written anew after it was made and before its
// commit.
func TestABatchMadeAheadReplacesNothingThatWasWrittenSince(t *testing.T) {
	for _, writes := range []string{"by a rewrap", "by a client"} {
		x := newSpin(t)
		x.fill(230)
		r, jobs := x.serve()
		made := make(chan struct{}, 100)
		x.twin.before = func(call string) error {
			if call == "Reencrypt" {
				made <- struct{}{}
			}
			return nil
		}
		batches := 0
		x.hooks.beforeCommit = func(b *store.Batch) error {
			if len(b.Writes) < 50 {
				return nil
			}
			if batches++; batches == 1 {
				<-made
				<-made
				if writes == "by a rewrap" {
					x.rewrapped()
				} else {
					x.must(x.DeleteSecret(t.Context(), owner, x.id, "z"))
				}
			}
			return nil
		}
		x.completed(x.end(r, jobs, x.begun(r, false).ID), 230)
		if writes == "by a rewrap" {
			x.twin.destroy(t)
			x.opens()
		}
	}
}

func TestARotationThatIsCompleteIsNotCancelled(t *testing.T) {
	x := newSpin(t)
	x.fill(3)
	r, jobs := x.serve()
	ids := make(chan string, 1)
	flipped := false
	x.hooks.beforeCommit = func(b *store.Batch) error { flipped = flipped || x.flips(b); return nil }
	x.hooks.afterCommit = func() error {
		if flipped {
			x.hooks.afterCommit, x.hooks.beforeCommit = nil, nil
			_, err := r.CancelRotation(t.Context(), owner, x.id, <-ids)
			want(t, "CancelRotation behind the flip", err, fault.Conflict)
		}
		return nil
	}
	j := x.begun(r, false)
	ids <- j.ID
	x.completed(x.end(r, jobs, j.ID), 3)
}

// The session is closed before the job's row says that it is complete.
func TestARotationThatIsDoneWithItsKeysIsNotInterrupted(t *testing.T) {
	x := newSpin(t)
	x.fill(3)
	r, jobs := x.serve()
	ids, shown := make(chan string, 1), ""
	x.twin.after = func(call string) error {
		if call == "CloseCMEKRotation" && shown == "" {
			j, err := r.Rotation(t.Context(), owner, x.id, <-ids)
			x.must(err)
			shown = j.Status
		}
		return nil
	}
	j := x.begun(r, false)
	ids <- j.ID
	x.completed(x.end(r, jobs, j.ID), 3)
	if shown != "running" {
		t.Errorf("with its keys wiped behind the flip it is %s", shown)
	}
}

// Whether it does run, nobody knows.
func TestARotationOfWhichAHangingKeyProcessSaysNothingIsNotSaidToRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newSpin(t)
		x.fill(230)
		reached, let := x.held(2)
		r, jobs := x.serve()
		first := x.begun(r, false)
		<-reached
		x.twin.hangs.Store(true)
		for what, look := range map[string]func() (api.CMEKRotationJob, error){
			"GET": func() (api.CMEKRotationJob, error) { return r.Rotation(t.Context(), owner, x.id, first.ID) },
			"the list": func() (api.CMEKRotationJob, error) {
				l, err := r.ListRotations(t.Context(), owner, x.id)
				return l.Rotations[0], err
			},
			"the status": func() (api.CMEKRotationJob, error) {
				s, err := r.Status(t.Context(), owner, x.id, false)
				return *s.Rotation, err
			},
		} {
			began := time.Now()
			j, err := look()
			x.must(err)
			if took := time.Since(began); j.Status != "interrupted" || j.CompletedAt != nil || !strings.Contains(j.Error, "does not say") || took != 2*time.Second {
				t.Errorf("%s: %+v after %v", what, j, took)
			}
		}
		began := time.Now()
		if j := x.begun(r, false); j.ID != first.ID || time.Since(began) != 2*time.Second {
			t.Errorf("the same request answers %+v after %v", j, time.Since(began))
		}
		x.twin.hangs.Store(false)
		close(let)
		x.completed(x.end(r, jobs, first.ID), 230)
	})
}

// An operator who cancels the job knows nothing of vaults.
func TestAJobThatAnOperatorCancelsLeavesNoRotation(t *testing.T) {
	x := newSpin(t)
	x.fill(230)
	wiped := make(chan struct{})
	x.twin.after = func(call string) error {
		if call == "CloseCMEKRotation" {
			close(wiped)
		}
		return nil
	}
	reached, let := x.held(2)
	r, jobs := x.serve()
	j := x.begun(r, false)
	<-reached
	_, err := jobs.Cancel(t.Context(), j.ID)
	x.must(err)
	close(let)
	<-wiped
	x.wantFingerprint(x.old)
}

func TestAVaultThatIsDeletedEndsItsRotation(t *testing.T) {
	for n := 1; n <= 4; n++ {
		x := newSpin(t)
		x.fill(230)
		r, jobs := x.serve()
		wiped := make(chan struct{}, 10)
		x.twin.after = func(call string) error {
			if call == "CloseCMEKRotation" {
				wiped <- struct{}{}
			}
			return nil
		}
		calls := 0
		x.hooks.beforeCommit = func(b *store.Batch) error {
			if calls++; calls == n+1 {
				x.hooks.beforeCommit = nil
				x.must(x.Delete(t.Context(), owner, x.id))
			}
			return nil
		}
		j := x.begun(r, false)
		if _, err := jobs.Wait(t.Context(), j.ID); err != nil && !errors.Is(err, fault.NotFound) {
			t.Error(err)
		}
		<-wiped // by the worker, which hears of the end at its next commit
		jobs.Close()
		if x.twin.open() != 0 {
			t.Errorf("deleted before commit %d: a session is open", n)
		}
		for key := range x.rows() {
			t.Errorf("deleted before commit %d: %s is left", n, key)
		}
		_, err := r.Rotation(t.Context(), owner, x.id, j.ID)
		want(t, "a rotation of no vault", err, fault.NotFound)
	}
}

func TestARotationOfAnotherVaultIsNotShown(t *testing.T) {
	x := newSpin(t)
	r, jobs := x.serve()
	j := x.end(r, jobs, x.begun(r, false).ID)
	rewrap, err := jobs.Start(t.Context(), RewrapJob, RewrapArgs{Vault: x.id})
	x.must(err)
	other := x.vault()
	for what, c := range map[string][2]string{"another vault's": {other, j.ID}, "another kind": {x.id, rewrap.ID}, "no ID": {x.id, "x"}, "nobody's": {x.id, noVault}} {
		_, err := r.Rotation(t.Context(), owner, c[0], c[1])
		want(t, what, err, fault.NotFound)
		_, err = r.CancelRotation(t.Context(), owner, c[0], c[1])
		want(t, what, err, fault.NotFound)
	}
	if list, err := r.ListRotations(t.Context(), owner, other); err != nil || len(list.Rotations) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	for _, p := range []access.Principal{stranger, mate, agent} {
		if _, err := r.Rotation(t.Context(), p, x.id, j.ID); err == nil {
			t.Errorf("%s sees it", p.Ref())
		}
		if _, err := r.CancelRotation(t.Context(), p, x.id, j.ID); err == nil {
			t.Errorf("%s cancels it", p.Ref())
		}
		if _, err := r.ListRotations(t.Context(), p, x.id); err == nil {
			t.Errorf("%s lists it", p.Ref())
		}
		if _, err := r.Key(t.Context(), p, x.id); err == nil {
			t.Errorf("%s gets a key", p.Ref())
		}
	}
}

func TestAWrongAnswerToAReencryptionIsNotStored(t *testing.T) {
	for name, spoil := range map[string]func([]kmsapi.ReencryptResult) []kmsapi.ReencryptResult{
		"one too few":    func(r []kmsapi.ReencryptResult) []kmsapi.ReencryptResult { return r[1:] },
		"an old version": func(r []kmsapi.ReencryptResult) []kmsapi.ReencryptResult { r[1].Envelope.KEKVersion = 0; return r },
		"another KEK":    func(r []kmsapi.ReencryptResult) []kmsapi.ReencryptResult { r[1].Envelope.KEKID = "threads"; return r },
		"no wrapped DEK": func(r []kmsapi.ReencryptResult) []kmsapi.ReencryptResult { r[1].Envelope.WrappedDEK = nil; return r },
		"another length": func(r []kmsapi.ReencryptResult) []kmsapi.ReencryptResult {
			r[1].Envelope.Ciphertext = r[1].Envelope.Ciphertext[1:]
			return r
		},
		"neither old nor new": func(r []kmsapi.ReencryptResult) []kmsapi.ReencryptResult { r[1].Opened = ""; return r },
		"not now": func(r []kmsapi.ReencryptResult) []kmsapi.ReencryptResult {
			r[1].Err = fault.New(fault.Unavailable, "not now")
			return r
		},
		"a KEK that is worn out": func(r []kmsapi.ReencryptResult) []kmsapi.ReencryptResult {
			r[1].Err = fault.New(fault.Conflict, "the KEK is worn out")
			return r
		},
	} {
		x := newSpin(t)
		x.fill(30)
		calls := 0
		x.twin.reencrypts = func(r []kmsapi.ReencryptResult) []kmsapi.ReencryptResult {
			if calls++; calls <= 2 {
				return spoil(r)
			}
			return r
		}
		r, jobs := x.serve()
		x.completed(x.end(r, jobs, x.begun(r, false).ID), 30)
		if calls != 3 {
			t.Errorf("%s: it took %d calls", name, calls)
		}
	}
}

func TestTheInventorySaysWhatNeedsWhichKey(t *testing.T) {
	x := newSpin(t)
	third := cmek.Generate()
	x.fill(20) // 4 of each of 5 paths, one deleted
	x.disable()
	x.must(x.write(nil, false, "z", "plain"))
	x.enable(third, 2)
	bound, err := cmek.EncryptBoundValue(third, cmek.Context{VaultID: x.id, Path: "a"}, []byte("x"))
	x.must(err)
	x.advance(1e9)
	_, err = x.Put(t.Context(), owner, x.id, "a", api.PutSecret{Value: &bound}, PutOptions{})
	x.must(err)
	r, _ := x.serve()
	got, err := r.Status(t.Context(), owner, x.id, true)
	x.must(err)
	first, now := x.time().Add(-1e9), x.time()
	want := api.CMEKStatus{
		Enabled: true, Fingerprint: third.Fingerprint(), BlobVersion: 2, KeyCheck: third.Check(x.id), Since: &first, Plain: 1,
		Keys: []api.CMEKKey{
			{Fingerprint: third.Fingerprint(), Versions: 1, Newest: 1, Oldest: now, Latest: now},
			{Fingerprint: x.old.Fingerprint(), Versions: 20, Newest: 2, Oldest: first, Latest: first}, // a/b and a-b
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	x.disable()
	if got, err = r.Status(t.Context(), owner, x.id, false); err != nil || !cmp.Equal(got, api.CMEKStatus{}) {
		t.Errorf("of a vault without CMEK: %+v, %v", got, err)
	}
	if _, err := r.Status(t.Context(), stranger, x.id, false); err == nil {
		t.Error("a stranger sees it")
	}
}

func TestTheInventoryHoldsNoVaultInMemory(t *testing.T) {
	x := newSpin(t)
	x.fill(10)
	most := 0
	s := New(Config{Store: countingStore{x.mem, &most}, KMS: x.twin, Gate: x.asked, Now: x.present})
	if err := s.takeInventory(context.Background(), x.id, new(api.CMEKStatus)); err != nil {
		t.Fatal(err)
	}
	if most == 0 || most > 1000 {
		t.Errorf("a scan asked for %d rows", most)
	}
}

// countingStore notes the most records that a scan asked for.
type countingStore struct {
	store.Store
	most *int
}

func (c countingStore) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	*c.most = max(*c.most, opt.Max())
	if opt.MaxBytes == 0 {
		*c.most = store.MaxScan
	}
	return c.Store.Scan(ctx, r, opt)
}
