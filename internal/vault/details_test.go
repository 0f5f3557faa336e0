package vault

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
)

// detail is who wrote a version, and whether it is sealed: "yes", "no" or "".
type detail struct{ by, sealed string }

func detailOf(s api.ListedSecret) detail {
	d := detail{by: s.CreatedBy}
	if s.CMEKEncrypted != nil {
		d.sealed = map[bool]string{true: "yes", false: "no"}[*s.CMEKEncrypted]
	}
	return d
}

// listedDetails are those of a listing, by path.
func (r *rig) listedDetails(vaultID string) map[string]detail {
	r.t.Helper()
	list, err := r.ListSecrets(r.t.Context(), owner, vaultID, "", true)
	if err != nil {
		r.t.Fatal(err)
	}
	all := map[string]detail{}
	for _, s := range list.Secrets {
		all[s.Path] = detailOf(s)
	}
	return all
}

// versionDetails are those of a secret's versions, newest first.
func (r *rig) versionDetails(vaultID, path string) (all []detail) {
	r.t.Helper()
	versions, err := r.Versions(r.t.Context(), owner, vaultID, path, true)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, v := range versions.Versions {
		all = append(all, detailOf(v.ListedSecret))
	}
	return all
}

// putBy is put by somebody else.
func (r *rig) putBy(p access.Principal, vaultID, path, value string) {
	r.t.Helper()
	if _, err := r.Put(r.t.Context(), p, vaultID, path, api.PutSecret{Value: &value}, PutOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

func TestDetailsSayWhoWroteAVersionAndWhetherItIsSealed(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.grant(v, "**", access.Permissions...)
	r.put(v, "a", "plain")
	r.putBy(robot, v, "a", "plain")
	r.put(v, "b", "plain")
	if _, err := r.Generate(t.Context(), robot, v, "b", api.GenerateSecret{}); err != nil {
		t.Fatal(err)
	}
	r.put(v, "gone", "plain")
	if err := r.DeleteSecret(t.Context(), owner, v, "gone"); err != nil {
		t.Fatal(err)
	}
	key := cmek.Generate()
	if _, err := r.EnableCMEK(t.Context(), owner, v, api.EnableCMEK{Fingerprint: key.Fingerprint()}); err != nil {
		t.Fatal(err)
	}
	r.put(v, "a", blob(t, key, "sealed"))
	r.putBy(robot, v, "c", blob(t, key, "sealed"))

	if diff := cmp.Diff(map[string]detail{"a": {owner.Ref(), "yes"}, "b": {robot.Ref(), "no"}, "c": {robot.Ref(), "yes"}}, r.listedDetails(v), cmp.AllowUnexported(detail{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]detail{{owner.Ref(), "yes"}, {robot.Ref(), "no"}, {owner.Ref(), "no"}}, r.versionDetails(v, "a"), cmp.AllowUnexported(detail{})); diff != "" {
		t.Error(diff)
	}
	// Published clients read these strictly: nothing comes unasked.
	list, err := r.ListSecrets(t.Context(), owner, v, "", false)
	if err != nil {
		t.Fatal(err)
	}
	versions, err := r.Versions(t.Context(), owner, v, "a", false)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append(list.Secrets, versions.Versions[0].ListedSecret, versions.Versions[2].ListedSecret) {
		if detailOf(s) != (detail{}) {
			t.Errorf("%s: %+v came unasked", s.Path, detailOf(s))
		}
	}
}

// Who wrote a version stays who wrote it, whoever rotates the key by the server or
// re-encrypts in the client.
func TestARotationDoesNotChangeWhoWroteAVersion(t *testing.T) {
	x := newSpin(t)
	x.grant(x.id, "**", access.Permissions...)
	x.putBy(robot, x.id, "a", x.seal(x.old, 0, "of the robot"))
	x.holds[layout.SecretVersion(x.id, "a", 1)] = "of the robot"
	x.must(x.write(x.old, true, "a", "of the owner"))
	x.putBy(robot, x.id, "b", x.seal(x.old, 0, "of the robot, too"))
	x.holds[layout.SecretVersion(x.id, "b", 1)] = "of the robot, too"
	check := func() {
		t.Helper()
		if diff := cmp.Diff([]detail{{owner.Ref(), "yes"}, {robot.Ref(), "yes"}}, x.versionDetails(x.id, "a"), cmp.AllowUnexported(detail{})); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]detail{"a": {owner.Ref(), "yes"}, "b": {robot.Ref(), "yes"}}, x.listedDetails(x.id), cmp.AllowUnexported(detail{})); diff != "" {
			t.Error(diff)
		}
	}
	check()
	r, jobs := x.serve()
	x.completed(x.end(r, jobs, x.begun(r, false).ID), 3)
	check()
	if read, err := x.ReadVersion(t.Context(), owner, x.id, "a", 1); err != nil || read.Secret.CreatedBy != robot.Ref() { // which proves it
		t.Errorf("%+v, %v", read, err)
	}

	third := x.rig.reseal(x.id)
	for _, of := range []struct {
		path string
		n    int
	}{{"a", 1}, {"a", 2}, {"b", 1}} {
		if _, err := x.ReencryptVersion(t.Context(), owner, x.id, of.path, of.n, anew(t, x.fresh, third, "anew")); err != nil {
			t.Fatal(err)
		}
	}
	check()
	if read, err := x.ReadVersion(t.Context(), owner, x.id, "a", 1); err != nil || read.Secret.CreatedBy != robot.Ref() {
		t.Errorf("%+v, %v", read, err)
	}
}

// A head that an older program wrote says neither, and the version's own row does.
func TestOfAnOlderHeadTheDetailsAreNotKnown(t *testing.T) {
	r := newRig(t)
	v, key := r.sealed()
	r.put(v, "a", blob(t, key, "sealed"))
	at := layout.SecretHead(v, "a")
	h, err := decodeRow[secretHead](at, []byte(r.rows()[at]))
	if err != nil || h.CreatedBy != owner.Ref() || !h.Sealed {
		t.Fatalf("%+v, %v", h, err)
	}
	h.CreatedBy, h.Sealed = "", false
	older, err := encodeRow(at, h)
	if err != nil {
		t.Fatal(err)
	}
	r.set(at, string(older))
	if got := r.listedDetails(v)["a"]; got != (detail{}) {
		t.Errorf("%+v", got)
	}
	if got := r.versionDetails(v, "a"); len(got) != 1 || got[0] != (detail{owner.Ref(), "yes"}) {
		t.Errorf("%+v", got)
	}
	r.put(v, "a", blob(t, key, "again"))
	if got := r.listedDetails(v)["a"]; got != (detail{owner.Ref(), "yes"}) {
		t.Errorf("after a write: %+v", got)
	}
}

// A listing opens nothing, so that whoever can write to the store can lie in one;
// a read of the value finds it.
func TestWhoWroteAVersionIsProvedByAReadAlone(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "x")
	at := layout.SecretVersion(v, "a", 1)
	row, err := decodeVersion([]byte(r.rows()[at]))
	if err != nil {
		t.Fatal(err)
	}
	row.CreatedBy = mate.Ref()
	forged, err := encodeVersion(mustJSON(t, row.attributes), row.envelope)
	if err != nil {
		t.Fatal(err)
	}
	r.set(at, string(forged))
	if got := r.versionDetails(v, "a"); got[0].by != mate.Ref() {
		t.Errorf("%+v", got)
	}
	_, err = r.read(v, "a")
	want(t, "a read of what was forged", err, fault.Damaged)
}
