package vault

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
)

// verbs is every method that names a vault, and whether it names a path.
func (r *rig) verbs() map[string]func(p access.Principal, vaultID, path string) error {
	ctx, value := r.t.Context(), "v"
	return map[string]func(p access.Principal, vaultID, path string) error{
		"Get":    func(p access.Principal, v, _ string) error { _, err := r.Get(ctx, p, v); return err },
		"Delete": func(p access.Principal, v, _ string) error { return r.Delete(ctx, p, v) },
		"EnableCMEK": func(p access.Principal, v, _ string) error {
			_, err := r.EnableCMEK(ctx, p, v, api.EnableCMEK{Fingerprint: strings.Repeat("a", 64)})
			return err
		},
		"DisableCMEK": func(p access.Principal, v, _ string) error { _, err := r.DisableCMEK(ctx, p, v); return err },
		"ListSecrets": func(p access.Principal, v, path string) error {
			_, err := r.ListSecrets(ctx, p, v, path, false)
			return err
		},
		"secret Put": func(p access.Principal, v, path string) error {
			_, err := r.Put(ctx, p, v, path, api.PutSecret{Value: &value}, PutOptions{})
			return err
		},
		"secret Read": func(p access.Principal, v, path string) error { _, err := r.Read(ctx, p, v, path); return err },
		"secret ReadVersion": func(p access.Principal, v, path string) error {
			_, err := r.ReadVersion(ctx, p, v, path, 1)
			return err
		},
		"secret Versions": func(p access.Principal, v, path string) error {
			_, err := r.Versions(ctx, p, v, path, false)
			return err
		},
		"secret DeleteSecret": func(p access.Principal, v, path string) error { return r.DeleteSecret(ctx, p, v, path) },
		"secret Disable":      func(p access.Principal, v, path string) error { return r.DisableVersion(ctx, p, v, path, 1) },
		"secret Generate": func(p access.Principal, v, path string) error {
			_, err := r.Generate(ctx, p, v, path, api.GenerateSecret{})
			return err
		},
	}
}

// answer is all that an edge sends of an error.
func answer(err error) string {
	e := fault.Of(err)
	return string(e.Code) + "|" + e.Type + "|" + e.Message
}

func TestAnotherOrgsVaultAndNoVaultAreAnsweredAlike(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "there", "x")
	for name, do := range r.verbs() {
		foreign := do(stranger, v, "there")
		want(t, name, foreign, fault.NotFound)
		for what, err := range map[string]error{
			"another org's vault, no secret": do(stranger, v, "not/there"),
			"no vault, owner":                do(owner, noVault, "there"),
			"no vault, stranger":             do(stranger, noVault, "there"),
			"malformed ID":                   do(owner, "x", "there"),
			"empty ID":                       do(owner, "", "there"),
			"an ID that reaches into keys":   do(owner, v+":head:there", "there"),
			"upper-case ID":                  do(owner, strings.ToUpper(v), "there"),
			"a very long ID":                 do(owner, strings.Repeat("a", 10_000), "there"),
		} {
			if answer(err) != answer(foreign) {
				t.Errorf("%s, %s: %s; another org's vault: %s", name, what, answer(err), answer(foreign))
			}
		}
	}
}

// The row may not even say whose it is; the org's index does.
func TestADamagedVaultIsDamagedToItsOrgAndNotThereToOthers(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	key := layout.VaultMeta(v)
	row := r.rows()[key]
	foreigner, err := encodeRow(key, map[string]any{"org": stranger.OrgID, "owner": stranger.ID, "unknown": 1})
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string]string{"empty": "", "flipped": row[:9] + string(row[9]^1) + row[10:], "cut": row[:len(row)-1], "another's": string(foreigner)} {
		r.set(key, bad)
		for name, do := range r.verbs() {
			want(t, what+", "+name+" by its owner", do(owner, v, "a"), fault.Damaged)
			want(t, what+", "+name+" by nobody", do(nobody, v, "a"), fault.Unauthenticated)
			if err := do(stranger, v, "a"); answer(err) != answer(do(stranger, noVault, "a")) {
				t.Errorf("%s, %s by a stranger: %v, want as of no vault", what, name, err)
			}
		}
	}
}

func TestWhatIsNoIDIsNotLookedUp(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.hooks.sawRead = func(key string) { t.Errorf("it looked at %q", key) }
	for _, id := range []string{"", v[1:], v + "0", strings.ToUpper(v), "v:" + v[2:], v[:35] + "\x00"} {
		_, err := r.Get(t.Context(), owner, id)
		want(t, id, err, fault.NotFound)
	}
}

func TestTheDecisionComesBeforeTheLookUp(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "there", "x")
	for name, do := range r.verbs() {
		for _, p := range []access.Principal{mate, agent, stranger, nobody} {
			var seen []string
			r.hooks.sawRead = func(key string) { seen = append(seen, key) }
			there := do(p, v, "there")
			if slices.ContainsFunc(seen, func(k string) bool { return k != layout.VaultMeta(v) }) {
				t.Errorf("%s by %q looked at %q before it was refused", name, p.Ref(), seen)
			}
			r.hooks.sawRead = nil
			if there == nil || answer(there) != answer(do(p, v, "not/there")) {
				t.Errorf("%s by %q tells paths apart: %v", name, p.Ref(), there)
			}
		}
		want(t, name+" by a mate", do(mate, v, "there"), fault.Forbidden)
		want(t, name+" by nobody", do(nobody, v, "there"), fault.Unauthenticated)
	}
	if got, err := r.read(v, "there"); err != nil || got.Secret.Value != "x" {
		t.Errorf("the refused calls changed the secret: %v", err)
	}
}

func TestEveryVerbValidatesThePath(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	for name, do := range r.verbs() {
		if !strings.HasPrefix(name, "secret ") {
			continue
		}
		for _, path := range []string{"", "a//b", "../a", "a%2Fb", "a:1", "a\x00", "/a", "a."} {
			want(t, name+" of "+path, do(owner, v, path), fault.Invalid)
		}
	}
}

func TestNobodyAndStrangersListNothing(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	if got, err := r.List(t.Context(), owner); err != nil || len(got.Vaults) != 1 || got.Vaults[0].ID != v {
		t.Errorf("the owner's list: %v, %v", got, err)
	}
	for _, p := range []access.Principal{mate, stranger} {
		if got, err := r.List(t.Context(), p); err != nil || got.Vaults == nil || len(got.Vaults) != 0 {
			t.Errorf("%s lists %v, %v", p.Ref(), got, err)
		}
	}
	_, err := r.List(t.Context(), nobody)
	want(t, "List by nobody", err, fault.Unauthenticated)
	_, err = r.Create(t.Context(), nobody, api.CreateVault{Name: "x"})
	want(t, "Create by nobody", err, fault.Unauthenticated)
}

func TestTheStoresOwnErrorsAreNotSent(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "there", "x")
	if err := r.mem.Close(); err != nil {
		t.Fatal(err)
	}
	for name, do := range r.verbs() {
		err := do(owner, v, "there")
		want(t, name, err, fault.Unavailable)
		if strings.Contains(answer(err), "closed") || errors.Unwrap(err) == nil {
			t.Errorf("%s: %s", name, answer(err))
		}
	}
}
