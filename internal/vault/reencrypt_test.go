package vault

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// rekeyed returns a vault that was sealed with old, holds "a" with two versions
// under it, and is sealed with fresh now.
func (r *rig) rekeyed() (vaultID string, old, fresh *cmek.Key) {
	r.t.Helper()
	vaultID, old = r.sealed()
	r.put(vaultID, "a", blob(r.t, old, "one"))
	r.put(vaultID, "a", blob(r.t, old, "two"))
	fresh = r.reseal(vaultID)
	return vaultID, old, fresh
}

func (r *rig) reseal(vaultID string) *cmek.Key {
	r.t.Helper()
	fresh := cmek.Generate()
	if _, err := r.DisableCMEK(r.t.Context(), owner, vaultID); err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.EnableCMEK(r.t.Context(), owner, vaultID, api.EnableCMEK{Fingerprint: fresh.Fingerprint()}); err != nil {
		r.t.Fatal(err)
	}
	return fresh
}

// anew is the request that puts value, under fresh, in place of what is under old.
func anew(t testing.TB, old, fresh *cmek.Key, value string) api.ReencryptVersion {
	return api.ReencryptVersion{Value: blob(t, fresh, value), OldFingerprint: old.Fingerprint(), NewFingerprint: fresh.Fingerprint()}
}

func TestAReencryptedVersionKeepsAllButItsKey(t *testing.T) {
	r := newRig(t)
	v, old := r.sealed()
	expires := r.present().Add(time.Hour).UTC()
	value := blob(t, old, "one")
	_, err := r.Put(t.Context(), owner, v, "db/a", api.PutSecret{
		Value: &value, Type: "password", Metadata: []byte(`{"k":"v"}`), ExpiresAt: &expires, RotationPolicy: []byte(`{"days":1}`), MaxAccessCount: ptr(3),
	}, PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.read(v, "db/a"); err != nil { // one of three
		t.Fatal(err)
	}
	row := func() versionRow {
		t.Helper()
		got, err := r.loadVersion(t.Context(), v, "db/a", 1)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	before := row()
	fresh := r.reseal(v)
	req := anew(t, old, fresh, "one")
	if _, err := r.ReencryptVersion(t.Context(), owner, v, "db/a", 1, req); err != nil {
		t.Fatal(err)
	}
	after := row()
	expected := before.attributes
	expected.Fingerprint = fresh.Fingerprint()
	if diff := cmp.Diff(expected, after.attributes); diff != "" {
		t.Error(diff)
	}
	if cmp.Equal(before.envelope.WrappedDEK, after.envelope.WrappedDEK) {
		t.Error("the DEK is the one of before")
	}
	r.wantValue(v, "db/a", req.Value)
	if _, err := r.read(v, "db/a"); err != nil {
		t.Fatal(err)
	}
	_, err = r.read(v, "db/a")
	want(t, "the fourth read", err, fault.Gone)
}

func TestWhatMayNotBeReencrypted(t *testing.T) {
	r := newRig(t)
	v, old, fresh := r.rekeyed()
	plain := r.vault()
	r.put(plain, "a", "plain")
	req := anew(t, old, fresh, "two")
	change := func(f func(*api.ReencryptVersion)) api.ReencryptVersion {
		out := req
		f(&out)
		return out
	}
	program := owner
	program.Kind = access.Agent
	before := r.rows()
	for what, c := range map[string]struct {
		p       access.Principal
		vault   string
		path    string
		n       int
		req     api.ReencryptVersion
		code    fault.Code
		problem string
	}{
		"an agent":                {program, v, "a", 2, req, fault.Forbidden, ""},
		"somebody else":           {mate, v, "a", 2, req, fault.Forbidden, ""},
		"another org":             {stranger, v, "a", 2, req, fault.NotFound, ""},
		"a path that is none":     {owner, v, "a//b", 2, req, fault.Invalid, ""},
		"no such secret":          {owner, v, "b", 1, req, fault.NotFound, ""},
		"no such version":         {owner, v, "a", 3, req, fault.NotFound, ""},
		"another old key":         {owner, v, "a", 2, change(func(q *api.ReencryptVersion) { q.OldFingerprint = cmek.Generate().Fingerprint() }), fault.PreconditionFailed, ""},
		"not the vault's key":     {owner, v, "a", 2, anew(t, old, cmek.Generate(), "two"), fault.Conflict, api.ProblemCMEKKeyMismatch},
		"back to the old key":     {owner, v, "a", 2, anew(t, fresh, old, "two"), fault.Conflict, api.ProblemCMEKKeyMismatch},
		"the same key":            {owner, v, "a", 2, anew(t, fresh, fresh, "two"), fault.Invalid, ""},
		"no fingerprint":          {owner, v, "a", 2, change(func(q *api.ReencryptVersion) { q.OldFingerprint = "" }), fault.Invalid, ""},
		"a value that is no blob": {owner, v, "a", 2, change(func(q *api.ReencryptVersion) { q.Value = "plain" }), fault.Invalid, api.ProblemCMEKBlobRequired},
		"a value too large":       {owner, v, "a", 2, change(func(q *api.ReencryptVersion) { q.Value = strings.Repeat("x", MaxValue+1) }), fault.TooLarge, ""},
		"a vault without CMEK":    {owner, plain, "a", 1, req, fault.Invalid, ""},
	} {
		_, err := r.ReencryptVersion(t.Context(), c.p, c.vault, c.path, c.n, c.req)
		want(t, what, err, c.code)
		if c.problem != "" {
			wantType(t, err, c.problem)
		}
	}
	if diff := cmp.Diff(before, r.rows()); diff != "" {
		t.Errorf("a refused call changed something: %s", diff)
	}
	if _, err := r.ReencryptVersion(t.Context(), owner, v, "a", 2, req); err != nil {
		t.Error(err)
	}
	_, err := r.ReencryptVersion(t.Context(), owner, v, "a", 2, req)
	want(t, "the second client", err, fault.PreconditionFailed)
	if err := r.DeleteSecret(t.Context(), owner, v, "a"); err != nil {
		t.Fatal(err)
	}
	_, err = r.ReencryptVersion(t.Context(), owner, v, "a", 1, anew(t, old, fresh, "one"))
	want(t, "a deleted version", err, fault.Gone)
}

func TestTheTrailSaysWhichVersionWasReencryptedFromWhichKeyToWhich(t *testing.T) {
	r := newRig(t)
	v, old, fresh := r.rekeyed()
	r.asked.Asked()
	req := anew(t, old, fresh, "two")
	if _, err := r.ReencryptVersion(t.Context(), owner, v, "a", 2, req); err != nil {
		t.Fatal(err)
	}
	req.OldFingerprint = "no fingerprint, perhaps a key"
	_, err := r.ReencryptVersion(t.Context(), owner, v, "a", 2, req)
	want(t, "no fingerprint", err, fault.Invalid)
	asked := r.asked.Asked()
	for i, expected := range []map[string]string{
		{"version": "2", "old_fingerprint": old.Fingerprint(), "new_fingerprint": fresh.Fingerprint()},
		{"version": "2", "new_fingerprint": fresh.Fingerprint()},
	} {
		if got := asked[i].Resource; got.As != "vault.cmek_reencrypt" || got.VaultID != v || got.Path != "a" || !cmp.Equal(got.Details, expected) {
			t.Errorf("the gate was asked %+v", got)
		}
	}
}

// Who can edit rows could otherwise have an edit sealed as if it were ours.
func TestADamagedVersionIsNotReencrypted(t *testing.T) {
	r := newRig(t)
	v, old, fresh := r.rekeyed()
	key := layout.SecretVersion(v, "a", 2)
	r.set(key, strings.Replace(r.rows()[key], `"generic"`, `"api_key"`, 1))
	before := r.rows()
	_, err := r.ReencryptVersion(t.Context(), owner, v, "a", 2, anew(t, old, fresh, "two"))
	want(t, "a damaged version", err, fault.Damaged)
	if diff := cmp.Diff(before, r.rows()); diff != "" {
		t.Error(diff)
	}
}

func TestAReencryptionThatMeetsAChangeOfTheKeyIsRefused(t *testing.T) {
	r := newRig(t)
	v, old, fresh := r.rekeyed()
	var met atomic.Bool
	r.hooks.beforeCommit = func(*store.Batch) error {
		if met.CompareAndSwap(false, true) {
			r.reseal(v)
		}
		return nil
	}
	_, err := r.ReencryptVersion(t.Context(), owner, v, "a", 2, anew(t, old, fresh, "two"))
	wantType(t, err, api.ProblemCMEKKeyMismatch)
	got, err := r.ReadVersion(t.Context(), owner, v, "a", 2)
	if err != nil || got.CMEKFingerprint != old.Fingerprint() {
		t.Errorf("it is under %s, %v", got.CMEKFingerprint, err)
	}
}

func TestTheVersionsUnderAKeyAreListedWithTheirStates(t *testing.T) {
	r := newRig(t)
	v, old, fresh := r.rekeyed()
	fp := old.Fingerprint()
	list := func(p access.Principal, limit int) (all []api.CMEKVersion) {
		t.Helper()
		for cursor, more := "", true; more; more = cursor != "" {
			page, err := r.CMEKVersions(t.Context(), p, v, fp, cursor, limit)
			if err != nil {
				t.Fatal(err)
			}
			all, cursor = append(all, page.Versions...), page.NextCursor
		}
		return all
	}
	r.put(v, "a", blob(t, fresh, "three"))
	expected := []api.CMEKVersion{{Path: "a", Version: 1, State: api.CMEKReadable}, {Path: "a", Version: 2, State: api.CMEKReadable}}
	if diff := cmp.Diff(expected, list(owner, 0)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(expected, list(owner, 1)); diff != "" {
		t.Error("in pages of one:", diff)
	}
	if err := r.DisableVersion(t.Context(), owner, v, "a", 1); err != nil {
		t.Fatal(err)
	}
	fp = fresh.Fingerprint()
	value := blob(t, fresh, "x")
	soon := r.present().Add(time.Minute)
	for path, req := range map[string]api.PutSecret{
		"deleted": {Value: &value}, "expired": {Value: &value, ExpiresAt: &soon},
		"limited": {Value: &value, MaxAccessCount: ptr(2)}, "out": {Value: &value, MaxAccessCount: ptr(1)},
	} {
		if _, err := r.Put(t.Context(), owner, v, path, req, PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if path == "limited" || path == "out" {
			if _, err := r.read(v, path); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := r.DeleteSecret(t.Context(), owner, v, "deleted"); err != nil {
		t.Fatal(err)
	}
	r.advance(time.Hour)
	expected = []api.CMEKVersion{
		{Path: "a", Version: 3, Newest: true, State: api.CMEKReadable},
		{Path: "deleted", Version: 1, Newest: true, State: api.CMEKDeleted},
		{Path: "expired", Version: 1, Newest: true, State: api.CMEKExpired},
		{Path: "limited", Version: 1, Newest: true, State: api.CMEKReadable, MaxAccessCount: 2, Reads: 1},
		{Path: "out", Version: 1, Newest: true, State: api.CMEKReadOut, MaxAccessCount: 1, Reads: 1},
	}
	if diff := cmp.Diff(expected, list(owner, 2)); diff != "" {
		t.Error(diff)
	}
	fp = old.Fingerprint()
	if got := list(owner, 0); got[0].State != api.CMEKDisabled {
		t.Errorf("a disabled version is %s", got[0].State)
	}
	_, err := r.CMEKVersions(t.Context(), mate, v, fp, "", 0)
	want(t, "the call", err, fault.Forbidden)
	_, err = r.CMEKVersions(t.Context(), owner, v, "x", "", 0)
	want(t, "the call", err, fault.Invalid)
	if page, err := r.CMEKVersions(t.Context(), owner, v, fp, "\xff", 0); err != nil || len(page.Versions) != 0 {
		t.Errorf("after the end: %v, %v", page, err)
	}
}

func TestOfTwoReencryptionsThatMeetOneIsStored(t *testing.T) {
	r := newRig(t)
	v, old, fresh := r.rekeyed()
	first, second := anew(t, old, fresh, "two"), anew(t, old, fresh, "two")
	var met atomic.Bool
	r.hooks.beforeCommit = func(*store.Batch) error {
		if met.CompareAndSwap(false, true) {
			_, err := r.ReencryptVersion(t.Context(), owner, v, "a", 2, first)
			return err
		}
		return nil
	}
	_, err := r.ReencryptVersion(t.Context(), owner, v, "a", 2, second)
	want(t, "the second", err, fault.PreconditionFailed)
	r.wantValue(v, "a", first.Value)
}

func TestABoundValueStaysBound(t *testing.T) {
	r := newRig(t)
	v, old := r.vault(), cmek.Generate()
	if _, err := r.EnableCMEK(t.Context(), owner, v, api.EnableCMEK{Fingerprint: old.Fingerprint(), BlobVersion: 2}); err != nil {
		t.Fatal(err)
	}
	bound := func(key *cmek.Key) string {
		t.Helper()
		value, err := cmek.EncryptBoundValue(key, cmek.Context{VaultID: v, Path: "a"}, []byte("one"))
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	r.put(v, "a", bound(old))
	fresh := r.reseal(v) // wants no bound blobs
	req := anew(t, old, fresh, "one")
	_, err := r.ReencryptVersion(t.Context(), owner, v, "a", 1, req)
	wantType(t, err, api.ProblemCMEKBlobRequired)
	req.Value = bound(fresh)
	if _, err := r.ReencryptVersion(t.Context(), owner, v, "a", 1, req); err != nil {
		t.Error(err)
	}
}
