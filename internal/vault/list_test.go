package vault

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
)

func (r *rig) paths(vaultID, prefix string) []string {
	r.t.Helper()
	list, err := r.ListSecrets(r.t.Context(), owner, vaultID, prefix, false)
	if err != nil {
		r.t.Fatal(err)
	}
	if list.Secrets == nil {
		r.t.Error("the list must be [] rather than null")
	}
	var out []string
	for _, s := range list.Secrets {
		out = append(out, s.Path)
	}
	return out
}

func TestAListHasTheNewestVersionOfEachLivePathByPrefix(t *testing.T) {
	r := newRig(t)
	v, other := r.vault(), r.vault()
	for _, p := range []string{"a", "a/b", "ab", "b", "A", "a-b"} {
		r.put(v, p, "x")
	}
	r.put(v, "a", "y")
	r.put(other, "a/other", "x")
	for prefix, want := range map[string][]string{
		"":                        {"A", "a", "a-b", "a/b", "ab", "b"},
		"a":                       {"a", "a-b", "a/b", "ab"},
		"a/":                      {"a/b"},
		"a/b":                     {"a/b"},
		"a/b/":                    nil,
		"b":                       {"b"},
		"%":                       nil,
		"a*":                      nil,
		":":                       nil,
		"\xff\xff":                nil,
		"..":                      nil,
		"a\x00":                   nil,
		"a:1":                     nil,
		"nosuch":                  nil,
		"\U0010ffff":              nil,
		strings.Repeat("a", 5000): nil,
	} {
		if got := r.paths(v, prefix); !slices.Equal(got, want) {
			t.Errorf("prefix %.20q: %q, want %q", prefix, got, want)
		}
	}
	if err := r.DeleteSecret(t.Context(), owner, v, "a"); err != nil {
		t.Fatal(err)
	}
	if got := r.paths(v, "a"); !slices.Equal(got, []string{"a-b", "a/b", "ab"}) {
		t.Errorf("after the deletion of a: %q", got)
	}
	r.put(v, "a", "z")
	list, err := r.ListSecrets(t.Context(), owner, v, "a", false)
	if err != nil || list.Secrets[0].Version != 3 {
		t.Errorf("written again: %+v, %v", list, err)
	}
}

func TestAListOpensNothingAndReadsHeadsAlone(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	for i := range 300 { // more than a page
		r.put(v, fmt.Sprintf("p/%03d", i), "x")
	}
	opens := r.kms.opens.Load()
	r.hooks.sawRead = func(key string) {
		if key != layout.VaultMeta(v) && !strings.HasPrefix(key, layout.SecretHead(v, "")) {
			t.Errorf("the list read %s", key)
		}
	}
	if got := r.paths(v, "p/"); len(got) != 300 || got[0] != "p/000" || got[299] != "p/299" {
		t.Errorf("%d paths", len(got))
	}
	if r.kms.opens.Load() != opens {
		t.Error("the list opened values")
	}
}

func TestVersionsAreListedNewestFirstWithTheDisabledOnes(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	for range 12 {
		r.put(v, "a", "x")
	}
	r.put(v, "a/b", "x")
	r.limited(v, "a", 1)
	r.wantValue(v, "a", "limited")
	for _, n := range []int{2, 10, 10} {
		if err := r.DisableVersion(t.Context(), owner, v, "a", n); err != nil {
			t.Fatal(err)
		}
	}
	got, err := r.Versions(t.Context(), owner, v, "a", false)
	if err != nil || len(got.Versions) != 13 {
		t.Fatalf("%v, %v", got, err)
	}
	for i, m := range got.Versions {
		if m.Version != 13-i || m.IsDisabled != (m.Version == 2 || m.Version == 10) || m.Path != "a" || m.ID != got.Versions[0].ID {
			t.Errorf("entry %d: %+v", i, m)
		}
	}
}

func TestADeletedSecretHasNoVersionsAndKeepsItsNumbersAndID(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "one")
	r.put(v, "a", "two")
	before, err := r.Versions(t.Context(), owner, v, "a", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteSecret(t.Context(), owner, v, "a"); err != nil {
		t.Fatal(err)
	}
	_, err = r.Versions(t.Context(), owner, v, "a", false)
	want(t, "Versions", err, fault.NotFound)
	want(t, "DeleteSecret again", r.DeleteSecret(t.Context(), owner, v, "a"), fault.NotFound)
	want(t, "DisableVersion", r.DisableVersion(t.Context(), owner, v, "a", 2), fault.NotFound)
	if n := r.put(v, "a", "three"); n != 3 {
		t.Errorf("the next version is %d, want 3", n)
	}
	after, err := r.Versions(t.Context(), owner, v, "a", false)
	if err != nil || len(after.Versions) != 1 || after.Versions[0].Version != 3 || after.Versions[0].ID != before.Versions[0].ID {
		t.Errorf("%+v, %v", after, err)
	}
	want(t, "DisableVersion of a deleted version", r.DisableVersion(t.Context(), owner, v, "a", 2), fault.NotFound)
}

func TestOnlyWhatIsThereCanBeDeletedOrDisabled(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "x")
	want(t, "DeleteSecret", r.DeleteSecret(t.Context(), owner, v, "b"), fault.NotFound)
	_, err := r.Versions(t.Context(), owner, v, "b", false)
	want(t, "Versions", err, fault.NotFound)
	want(t, "DisableVersion of no secret", r.DisableVersion(t.Context(), owner, v, "b", 1), fault.NotFound)
	for _, n := range []int{0, -1, 2, 1 << 40} {
		want(t, "DisableVersion", r.DisableVersion(t.Context(), owner, v, "a", n), fault.NotFound)
	}
	if len(r.rows()) != 5 {
		t.Errorf("rows: %v", r.rows())
	}
}
