package vault

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// blob seals value as a client does.
func blob(t testing.TB, key *cmek.Key, value string) string {
	t.Helper()
	b, err := cmek.EncryptValue(key, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// oldForm is b in the form without a version byte.
func oldForm(t testing.TB, key *cmek.Key, value string) string {
	t.Helper()
	b, err := cmek.Encrypt(key, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b[1:])
}

func wantType(t testing.TB, err error, problem string) {
	t.Helper()
	if e := fault.Of(err); e.Type != problem {
		t.Errorf("type %q, want %q (%v)", e.Type, problem, err)
	}
}

func TestCMEKIsEnabledAndDisabled(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	fp := cmek.Generate().Fingerprint()
	got, err := r.EnableCMEK(t.Context(), owner, v, api.EnableCMEK{Fingerprint: strings.ToUpper(fp)})
	if err != nil || !got.CMEKEnabled || got.CMEKFingerprint != fp || got.Name != "production" {
		t.Errorf("Enable = %+v, %v", got, err)
	}
	r.restart()
	if again, err := r.Get(t.Context(), owner, v); err != nil || again != got {
		t.Errorf("Get = %+v, %v", again, err)
	}
	_, err = r.EnableCMEK(t.Context(), owner, v, api.EnableCMEK{Fingerprint: fp})
	want(t, "Enable twice", err, fault.Invalid)
	if got, err = r.DisableCMEK(t.Context(), owner, v); err != nil || got.CMEKEnabled || got.CMEKFingerprint != "" {
		t.Errorf("Disable = %+v, %v", got, err)
	}
	_, err = r.DisableCMEK(t.Context(), owner, v)
	want(t, "Disable twice", err, fault.Invalid)
	if got, err = r.EnableCMEK(t.Context(), owner, v, api.EnableCMEK{Fingerprint: cmek.Generate().Fingerprint()}); err != nil || got.CMEKFingerprint == fp {
		t.Errorf("Enable with another key = %+v, %v", got, err)
	}
}

func TestWhoAndWhatMayNotEnableCMEK(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	before := r.rows()
	fp := cmek.Generate().Fingerprint()
	for _, bad := range []string{"", "a", fp[1:], fp + "0", "g" + fp[1:], " " + fp[1:], fp + "\n", "0x" + fp[2:], strings.Repeat("é", 32), "\u212a" + fp[1:]} {
		_, err := r.EnableCMEK(t.Context(), owner, v, api.EnableCMEK{Fingerprint: bad})
		want(t, bad, err, fault.Invalid)
	}
	for _, plan := range []access.Plan{access.Free, access.Pro, ""} {
		poor := owner
		poor.Plan = plan
		_, err := r.EnableCMEK(t.Context(), poor, v, api.EnableCMEK{Fingerprint: fp})
		want(t, "plan "+string(plan), err, fault.Forbidden)
		_, err = r.EnableCMEK(t.Context(), poor, v, api.EnableCMEK{Fingerprint: "malformed"})
		want(t, "plan "+string(plan)+" before the fingerprint", err, fault.Forbidden)
	}
	program := owner
	program.Kind = access.Agent
	_, err := r.EnableCMEK(t.Context(), program, v, api.EnableCMEK{Fingerprint: fp})
	want(t, "an agent", err, fault.Forbidden)
	if diff := cmp.Diff(before, r.rows()); diff != "" {
		t.Error(diff)
	}

	business := owner
	business.Plan = access.Business
	if _, err := r.EnableCMEK(t.Context(), business, v, api.EnableCMEK{Fingerprint: fp}); err != nil {
		t.Error(err)
	}
	_, err = r.DisableCMEK(t.Context(), program, v)
	want(t, "an agent disables", err, fault.Forbidden)
	poor := owner
	poor.Plan = access.Free
	if _, err := r.DisableCMEK(t.Context(), poor, v); err != nil {
		t.Errorf("an org that left the plan must get out: %v", err)
	}
}

func TestTheFlagIsOfTheVersionAndStays(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	first, second := cmek.Generate(), cmek.Generate()
	check := func(n int, fingerprint string) {
		t.Helper()
		got, err := r.ReadVersion(t.Context(), owner, v, "a", n)
		if err != nil || got.Secret.CMEKEncrypted != (fingerprint != "") || got.CMEKFingerprint != fingerprint {
			t.Errorf("version %d: %+v, %v", n, got, err)
		}
	}
	step := func(_ api.Vault, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r.put(v, "a", "plain")
	step(r.EnableCMEK(t.Context(), owner, v, api.EnableCMEK{Fingerprint: first.Fingerprint()}))
	check(1, "")
	r.put(v, "a", blob(t, first, "sealed"))
	step(r.DisableCMEK(t.Context(), owner, v))
	r.put(v, "a", "plain again")
	step(r.EnableCMEK(t.Context(), owner, v, api.EnableCMEK{Fingerprint: second.Fingerprint()}))
	r.put(v, "a", blob(t, second, "sealed anew"))
	r.restart()
	check(1, "")
	check(2, first.Fingerprint())
	check(3, "")
	check(4, second.Fingerprint())
	got, err := r.ReadVersion(t.Context(), owner, v, "a", 2)
	if err != nil {
		t.Fatal(err)
	}
	if value, err := cmek.DecryptValue(first, got.Secret.Value); err != nil || string(value) != "sealed" {
		t.Errorf("the client opens %q, %v", value, err)
	}
}

func TestASealedVaultTakesOnlyBlobs(t *testing.T) {
	r := newRig(t)
	v, key := r.sealed()
	before := r.rows()
	good := blob(t, key, "x")
	for _, value := range []string{
		"", "hunter2", "QUJD", good[:39], good[:len(good)-1], good + "\n", " " + good, "Ag" + good[2:],
		oldForm(t, key, "")[:54], strings.ToUpper(oldForm(t, key, "x")), `{"a": "b"}`,
	} {
		_, err := r.Put(t.Context(), owner, v, "a", api.PutSecret{Value: &value}, PutOptions{DeclaredFingerprint: key.Fingerprint()})
		want(t, value, err, fault.Invalid)
		wantType(t, err, api.ProblemCMEKBlobRequired)
	}
	if diff := cmp.Diff(before, r.rows()); diff != "" {
		t.Error(diff)
	}
	for _, value := range []string{good, blob(t, key, ""), oldForm(t, key, "x"), oldForm(t, key, ""), blob(t, cmek.Generate(), "an undeclared key cannot be known")} {
		r.put(v, "a", value)
		r.wantValue(v, "a", value)
	}
}

func TestADeclaredKeyThatIsNotTheVaultsStoresNothing(t *testing.T) {
	r := newRig(t)
	plain := r.vault()
	v, key := r.sealed()
	value := blob(t, key, "x")
	before := r.rows()
	put := func(vaultID, declared string) error {
		_, err := r.Put(t.Context(), owner, vaultID, "a", api.PutSecret{Value: &value}, PutOptions{DeclaredFingerprint: declared})
		return err
	}
	for _, c := range [][2]string{
		{v, cmek.Generate().Fingerprint()}, {v, "malformed"}, {v, key.Fingerprint()[1:]},
		{plain, key.Fingerprint()}, {plain, "malformed"},
	} {
		err := put(c[0], c[1])
		want(t, c[1], err, fault.Conflict)
		wantType(t, err, api.ProblemCMEKKeyMismatch)
	}
	if diff := cmp.Diff(before, r.rows()); diff != "" || r.kms.seals.Load() != 0 {
		t.Errorf("something was stored or sealed: %s", diff)
	}
	for _, declared := range []string{"", key.Fingerprint(), strings.ToUpper(key.Fingerprint())} {
		if err := put(v, declared); err != nil {
			t.Errorf("declared %q: %v", declared, err)
		}
	}
}

func TestAPutThatMeetsAChangeOfCMEKIsDecidedAnew(t *testing.T) {
	r := newRig(t)
	v, key := r.vault(), cmek.Generate()
	r.kms.beforeSeal = once(func() {
		if _, err := r.EnableCMEK(t.Context(), owner, v, api.EnableCMEK{Fingerprint: key.Fingerprint()}); err != nil {
			t.Error(err)
		}
	})
	_, err := r.Put(t.Context(), owner, v, "a", api.PutSecret{Value: ptr("plain")}, PutOptions{})
	want(t, "a plain value that met Enable", err, fault.Invalid)
	wantType(t, err, api.ProblemCMEKBlobRequired)

	r.kms.beforeSeal = once(func() {
		if _, err := r.DisableCMEK(t.Context(), owner, v); err != nil {
			t.Error(err)
		}
	})
	value := blob(t, key, "x")
	_, err = r.Put(t.Context(), owner, v, "a", api.PutSecret{Value: &value}, PutOptions{DeclaredFingerprint: key.Fingerprint()})
	want(t, "a declared value that met Disable", err, fault.Conflict)
	if _, err := r.read(v, "a"); !errors.Is(err, fault.NotFound) {
		t.Errorf("something was stored: %v", err)
	}
}

func TestAKeyTakesThePlaceOfTheVaultsInOneStep(t *testing.T) {
	r := newRig(t)
	v, old := r.sealed()
	fresh := cmek.Generate()
	req := api.EnableCMEK{Fingerprint: fresh.Fingerprint(), KeyCheck: fresh.Check(v), BlobVersion: 2, Replaces: strings.ToUpper(old.Fingerprint())}
	program := owner
	program.Kind = access.Agent
	_, err := r.EnableCMEK(t.Context(), program, v, req)
	want(t, "an agent", err, fault.Forbidden)
	for what, replaces := range map[string]string{"another key": cmek.Generate().Fingerprint(), "the new key": fresh.Fingerprint(), "no key": "x"} {
		bad := req
		bad.Replaces = replaces
		_, err := r.EnableCMEK(t.Context(), owner, v, bad)
		want(t, what, err, fault.Conflict)
		wantType(t, err, api.ProblemCMEKKeyMismatch)
	}
	_, err = r.EnableCMEK(t.Context(), owner, v, api.EnableCMEK{Fingerprint: old.Fingerprint(), Replaces: old.Fingerprint()})
	want(t, "by itself", err, fault.Invalid)
	if got, err := r.EnableCMEK(t.Context(), owner, v, req); err != nil || got.CMEKFingerprint != fresh.Fingerprint() {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = r.EnableCMEK(t.Context(), owner, v, req)
	wantType(t, err, api.ProblemCMEKKeyMismatch)
	_, err = r.EnableCMEK(t.Context(), owner, r.vault(), req)
	wantType(t, err, api.ProblemCMEKKeyMismatch)
}

func TestAKeyThatTakesAnothersPlaceLeavesTheVaultBound(t *testing.T) {
	r := newRig(t)
	v, old := r.vault(), cmek.Generate().Fingerprint()
	for _, c := range []struct{ said, want int }{{2, 2}, {0, 2}, {1, 1}, {0, 1}} {
		req := api.EnableCMEK{Fingerprint: cmek.Generate().Fingerprint(), BlobVersion: c.said, Replaces: old}
		if c.said == 2 {
			req.Replaces = ""
		}
		if _, err := r.EnableCMEK(t.Context(), owner, v, req); err != nil {
			t.Fatal(err)
		}
		if got, err := r.load(t.Context(), v); err != nil || got.BlobVersion != c.want {
			t.Errorf("said %d: blob version %d, want %d (%v)", c.said, got.BlobVersion, c.want, err)
		}
		old = req.Fingerprint
	}
}

func TestTheKeyOfAVaultThatIsRotatedIsNotReplacedOrDisabled(t *testing.T) {
	r := newRig(t)
	id, old := r.sealed()
	v, err := r.load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	v.Rotation = &rotation{Job: "j", Fingerprint: cmek.Generate().Fingerprint()}
	if err := r.commitMeta(t.Context(), new(store.Batch), v); err != nil {
		t.Fatal(err)
	}
	_, err = r.EnableCMEK(t.Context(), owner, id, api.EnableCMEK{Fingerprint: cmek.Generate().Fingerprint(), Replaces: old.Fingerprint()})
	wantType(t, err, api.ProblemCMEKRotating)
	_, err = r.DisableCMEK(t.Context(), owner, id)
	wantType(t, err, api.ProblemCMEKRotating)
}
