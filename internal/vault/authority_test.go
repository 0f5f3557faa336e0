package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// robot is an agent that its rules let in, and no ceiling holds back.
var robot = access.Principal{Kind: access.Agent, ID: agent.ID, OrgID: "org-1", Plan: access.Enterprise, Ceiling: &access.Ceiling{Scopes: []string{"**"}}}

// grant gives robot one rule on the vault.
func (r *rig) grant(vaultID, pattern string, permissions ...access.Permission) {
	r.asked.Rules = func(p access.Principal, v string) []access.Rule {
		if p.ID != robot.ID || v != vaultID {
			return nil
		}
		return []access.Rule{{Pattern: pattern, Permissions: permissions}}
	}
}

// recorded is what the gate was asked since the last call: "action name type id".
func (r *rig) recorded() []string {
	var out []string
	for _, a := range r.asked.Asked() {
		out = append(out, fmt.Sprintf("%s %s %s %s", a.Action, a.Resource.As, a.Resource.Type, a.Resource.ID))
	}
	return out
}

func TestEveryCallIsRecordedOnceByItsName(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "there", "x")
	for name, want := range map[string]string{
		"Get":                 "vault.read  vault " + v,
		"Delete":              "vault.delete  vault " + v,
		"EnableCMEK":          "vault.cmek vault.cmek_enable vault " + v,
		"DisableCMEK":         "vault.cmek vault.cmek_disable vault " + v,
		"ListSecrets":         "secret.list  vault " + v,
		"secret Put":          "secret.write  secret there",
		"secret Read":         "secret.read  secret there",
		"secret ReadVersion":  "secret.read  secret there",
		"secret Versions":     "secret.read secret.versions secret there",
		"secret DeleteSecret": "secret.delete  secret there",
		"secret Disable":      "secret.delete secret.disable_version secret there",
		"secret Generate":     "secret.rotate  secret there",
	} {
		for _, p := range []access.Principal{mate, stranger, nobody} { // refusals, which change nothing
			r.asked.Asked()
			err := r.verbs()[name](p, v, "there")
			asked := r.asked.Asked()
			if len(asked) != 1 || asked[0].Err == nil || answer(asked[0].Err) != answer(err) || asked[0].Principal != p || asked[0].Resource.VaultID != v {
				t.Fatalf("%s by %s: asked %+v, answered %v", name, p.Ref(), asked, err)
			}
		}
		_ = r.verbs()[name](mate, v, "there")
		if got := r.recorded(); len(got) != 1 || got[0] != want {
			t.Errorf("%s is recorded as %q, want %q", name, got, want)
		}
	}
	r.asked.Asked()
	made, err := r.Create(t.Context(), owner, api.CreateVault{Name: "x"})
	if _, listed := r.List(t.Context(), owner); err != nil || listed != nil {
		t.Fatal(err, listed)
	}
	if got, want := r.recorded(), []string{"vault.create  vault " + made.ID, "vault.read vault.list vault "}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A text that somebody sends for an ID is not for the record.
func TestWhatIsNoVaultIDIsNotRecorded(t *testing.T) {
	r := newRig(t)
	for _, id := range []string{"", "x", strings.Repeat("a", 10_000)} {
		_, err := r.Get(t.Context(), owner, id)
		asked := r.asked.Asked()
		if len(asked) != 1 || asked[0].Resource.ID != "" || asked[0].Resource.VaultID != "" || err == nil {
			t.Errorf("%.20q: %+v", id, asked)
		}
	}
}

func TestWhatTheGateDoesNotPassIsNotTouched(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "there", "x")
	r.asked.Fail = fault.New(fault.Unavailable, "the audit trail cannot be written")
	before, seals, opens := r.rows(), r.kms.seals.Load(), r.kms.opens.Load()
	r.hooks.sawRead = func(key string) {
		if key != layout.VaultMeta(v) {
			t.Errorf("it looked at %s", key)
		}
	}
	for name, do := range r.verbs() {
		want(t, name, do(owner, v, "there"), fault.Unavailable)
	}
	_, err := r.Create(t.Context(), owner, api.CreateVault{Name: "x"})
	want(t, "Create", err, fault.Unavailable)
	_, err = r.List(t.Context(), owner)
	want(t, "List", err, fault.Unavailable)
	r.hooks.sawRead = nil
	if diff := cmp.Diff(before, r.rows()); diff != "" || r.kms.seals.Load() != seals || r.kms.opens.Load() != opens {
		t.Error("something was touched: " + diff)
	}
}

// One call is one record, however often its commit meets another.
func TestAWriteThatMeetsOthersIsDecidedOnce(t *testing.T) {
	r := newRig(t)
	for name, do := range map[string]func(v string) error{
		"put":     func(v string) error { r.put(v, "a", "x"); return nil },
		"delete":  func(v string) error { return r.DeleteSecret(t.Context(), owner, v, "a") },
		"disable": func(v string) error { return r.DisableVersion(t.Context(), owner, v, "a", 1) },
		"cmek":    func(v string) error { _, err := r.DisableCMEK(t.Context(), owner, v); return err },
		"vault":   func(v string) error { return r.Delete(t.Context(), owner, v) },
	} {
		v := r.vault()
		r.put(v, "a", "x")
		if name == "cmek" {
			if _, err := r.EnableCMEK(t.Context(), owner, v, api.EnableCMEK{Fingerprint: strings.Repeat("a", 64)}); err != nil {
				t.Fatal(err)
			}
		}
		r.asked.Asked()
		met := 0
		r.hooks.beforeCommit = func(*store.Batch) error {
			if met++; met < 4 {
				return store.ErrConflict
			}
			return nil
		}
		err := do(v)
		r.hooks.beforeCommit = nil
		if got := r.recorded(); err != nil || len(got) != 1 || met < 4 {
			t.Errorf("%s: %v, %d tries, recorded %q", name, err, met, got)
		}
	}
}

func TestAVaultThatGoesMeanwhileIsNotThere(t *testing.T) {
	r := newRig(t)
	for name, do := range r.verbs() {
		if name == "Get" || name == "ListSecrets" || strings.HasPrefix(name, "secret Read") || name == "secret Versions" {
			continue
		}
		v := r.vault()
		r.put(v, "there", "x")
		if name == "DisableCMEK" {
			if _, err := r.EnableCMEK(t.Context(), owner, v, api.EnableCMEK{Fingerprint: strings.Repeat("a", 64)}); err != nil {
				t.Fatal(err)
			}
		}
		gone := once(func() { r.unset(layout.VaultMeta(v)) })
		r.hooks.beforeCommit = func(*store.Batch) error { return gone() }
		err := do(owner, v, "there")
		r.hooks.beforeCommit = nil
		if err != access.NotThere {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnAgentDoesWhatItsRulesGrantAndSeesNoMore(t *testing.T) {
	r := newRig(t)
	v, other := r.vault(), r.vault()
	for _, path := range []string{"db/a", "db/b", "web/a"} {
		r.put(v, path, "x")
	}
	may := func(what string, granted bool, err error) {
		t.Helper()
		if granted != (err == nil) || err != nil && fault.Of(err).Code != fault.Forbidden {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, c := range []struct {
		permission                     access.Permission
		read, write, rotate, del, list bool
	}{
		{access.Read, true, false, false, false, true},
		{access.Write, false, true, true, true, false},
		{access.Rotate, false, false, true, false, false},
		{access.Delete, false, false, false, true, false},
	} {
		r.grant(v, "db/*", c.permission)
		for _, path := range []string{"db/a", "web/a", "no/such"} {
			in := path == "db/a"
			verb := func(name string) error { return r.verbs()[name](robot, v, path) }
			may(string(c.permission)+" Read "+path, in && c.read, verb("secret Read"))
			may(string(c.permission)+" ReadVersion "+path, in && c.read, verb("secret ReadVersion"))
			may(string(c.permission)+" Versions "+path, in && c.read, verb("secret Versions"))
			may(string(c.permission)+" Put "+path, in && c.write, verb("secret Put"))
			may(string(c.permission)+" Generate "+path, in && c.rotate, verb("secret Generate"))
		}
		may(string(c.permission)+" Disable", c.del, r.verbs()["secret Disable"](robot, v, "db/b"))
		may(string(c.permission)+" Get", true, r.verbs()["Get"](robot, v, ""))
		may("Get of another vault", false, r.verbs()["Get"](robot, other, ""))
		for _, name := range []string{"Delete", "EnableCMEK", "DisableCMEK"} {
			may(name, false, r.verbs()[name](robot, v, ""))
		}
		list, err := r.ListSecrets(t.Context(), robot, v, "", false)
		may(string(c.permission)+" ListSecrets", c.list, err)
		if c.list && (len(list.Secrets) != 2 || list.Secrets[0].Path != "db/a" || list.Secrets[1].Path != "db/b") {
			t.Errorf("listed %+v", list)
		}
		vaults, err := r.List(t.Context(), robot)
		if err != nil || len(vaults.Vaults) != 1 || vaults.Vaults[0].ID != v {
			t.Errorf("vaults: %+v, %v", vaults, err)
		}
	}
	if _, err := r.Create(t.Context(), robot, api.CreateVault{Name: "x"}); fault.Of(err).Code != fault.Forbidden {
		t.Errorf("Create by an agent: %v", err)
	}
}

func TestAScopeAndABindingFilterLists(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "db/a", "x")
	r.put(v, "web/a", "x")
	r.grant(v, "**", access.Permissions...)
	p := robot
	p.Ceiling = &access.Ceiling{Scopes: []string{"web/*"}}
	if list, err := r.ListSecrets(t.Context(), p, v, "", false); err != nil || len(list.Secrets) != 1 || list.Secrets[0].Path != "web/a" {
		t.Errorf("%+v, %v", list, err)
	}
	p.Ceiling = &access.Ceiling{Scopes: []string{"**"}, Vaults: []string{noVault}}
	if list, err := r.List(t.Context(), p); err != nil || len(list.Vaults) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestAnOrgsAdminSeesVaultsAndNoSecrets(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "x")
	admin := mate
	admin.Role = access.Admin
	if list, err := r.List(t.Context(), admin); err != nil || len(list.Vaults) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	for name, do := range r.verbs() {
		if err := do(admin, v, "a"); (err == nil) != (name == "Get") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnAgentThatSignsThroughIntentsReadsNoPrivateKey(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.grant(v, "**", access.Read)
	signs := robot
	signs.Ceiling = &access.Ceiling{Scopes: []string{"**"}, Intents: true}
	for _, typ := range api.SecretTypes {
		value := "x"
		if _, err := r.Put(t.Context(), owner, v, "a", api.PutSecret{Value: &value, Type: typ}, PutOptions{}); err != nil {
			t.Fatal(err)
		}
		opens := r.kms.opens.Load()
		_, err := r.Read(t.Context(), signs, v, "a")
		if key := typ == "private_key" || typ == "ssh_key"; key != errors.Is(err, fault.Forbidden) || key && r.kms.opens.Load() != opens {
			t.Errorf("%s: %v", typ, err)
		}
		if _, err := r.Read(t.Context(), robot, v, "a"); err != nil {
			t.Errorf("%s, another agent: %v", typ, err)
		}
	}
}

func TestThePurgeTakesPoliciesAndTheirIndex(t *testing.T) {
	r := newRig(t)
	v, other := r.vault(), r.vault()
	for _, id := range []string{v, other} {
		for i := range 20 { // more than a batch
			user := fmt.Sprintf("01900000-0000-7000-8000-%012d", i)
			r.set(layout.VaultPolicies(id, "user", user), "[]")
			r.set(layout.VaultPolicy(id, user), "x")
			r.set(layout.Grantee("user", user, id), "")
		}
	}
	if err := r.Delete(t.Context(), owner, v); err != nil {
		t.Fatal(err)
	}
	left := 0
	for key := range r.rows() {
		if strings.Contains(key, v) {
			t.Errorf("%s is left", key)
		}
		if strings.Contains(key, other) {
			left++
		}
	}
	if left != 62 {
		t.Errorf("%d rows of the other vault", left)
	}
}

func TestAResourceIsWhatTheGateNeedsOfAVault(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	want := access.Resource{OrgID: owner.OrgID, OwnerID: owner.ID, VaultID: v, Type: "vault", ID: v}
	got, rev, err := r.Resource(t.Context(), stranger, v)
	if diff := cmp.Diff(want, got); diff != "" || rev == 0 || err != nil {
		t.Errorf("%v, %v, %s", rev, err, diff)
	}
	for _, id := range []string{noVault, "x", ""} {
		got, rev, err := r.Resource(t.Context(), owner, id)
		if got.OrgID != "" || got.OwnerID != "" || rev != 0 || err != nil {
			t.Errorf("%q: %+v, %v, %v", id, got, rev, err)
		}
	}
	r.set(layout.VaultMeta(v), "damaged")
	if _, _, err := r.Resource(t.Context(), owner, v); !errors.Is(err, fault.Damaged) {
		t.Errorf("damaged: %v", err)
	}
	if got, rev, err := r.Resource(t.Context(), stranger, v); got.OrgID != "" || rev != 0 || err != nil {
		t.Errorf("damaged, to a stranger: %+v, %v, %v", got, rev, err)
	}
}

func TestAPlanHasRoomForSoManyVaults(t *testing.T) {
	r := newRig(t)
	free := owner
	free.Plan = access.Free
	var full, made int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 10 { // at once
		all.Go(func() {
			_, err := r.Create(context.Background(), free, api.CreateVault{Name: "x"})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				made++
			case fault.Of(err).Type == api.ProblemResourceLimitExceeded && errors.Is(err, fault.Forbidden):
				full++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if made != 3 || full != 7 {
		t.Errorf("%d made, %d refused", made, full)
	}
	list, err := r.List(t.Context(), free)
	if err != nil || len(list.Vaults) != 3 {
		t.Fatal(len(list.Vaults), err)
	}
	if err := r.Delete(t.Context(), free, list.Vaults[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Create(t.Context(), free, api.CreateVault{Name: "x"}); err != nil {
		t.Errorf("after a deletion: %v", err)
	}
	if _, err := r.Create(t.Context(), owner, api.CreateVault{Name: "x"}); err != nil {
		t.Errorf("enterprise: %v", err)
	}
	elsewhere := free
	elsewhere.OrgID = "org-3"
	if _, err := r.Create(t.Context(), elsewhere, api.CreateVault{Name: "x"}); err != nil {
		t.Errorf("another org: %v", err)
	}
}

func TestAPlanHasRoomForSoManySecretsOfAllVaults(t *testing.T) {
	r := newRig(t)
	a, b := r.vault(), r.vault()
	free := owner
	free.Plan = access.Free
	value := "x"
	put := func(v, path string) error {
		_, err := r.Put(context.Background(), free, v, path, api.PutSecret{Value: &value}, PutOptions{})
		return err
	}
	var made sync.Map
	var all sync.WaitGroup
	for i := range 60 { // at once
		all.Go(func() {
			path := fmt.Sprint("p", i)
			switch err := put([]string{a, b}[i%2], path); {
			case err == nil:
				made.Store(i, path)
			case fault.Of(err).Type != api.ProblemResourceLimitExceeded:
				t.Error(err)
			}
		})
	}
	all.Wait()
	n, last := 0, 0
	made.Range(func(i, _ any) bool { n++; last = i.(int); return true })
	if n != 50 {
		t.Fatalf("%d made", n)
	}
	v, path := []string{a, b}[last%2], fmt.Sprint("p", last)
	if err := put(v, path); err != nil {
		t.Errorf("a next version: %v", err)
	}
	if _, err := r.Generate(t.Context(), free, v, path, api.GenerateSecret{}); err != nil {
		t.Errorf("a generated version: %v", err)
	}
	if err := r.DeleteSecret(t.Context(), free, v, path); err != nil {
		t.Fatal(err)
	}
	if err := put(a, "instead"); err != nil {
		t.Errorf("after a deletion: %v", err)
	}
	want(t, "written again over the limit", put(v, path), fault.Forbidden)
	for c, wanted := range map[access.Counted]int{access.Vaults: 2, access.Secrets: 50} {
		if n, err := r.Usage(t.Context(), owner.OrgID, c, 1000); n != wanted || err != nil {
			t.Errorf("%s: %d, %v", c, n, err)
		}
		if n, err := r.Usage(t.Context(), owner.OrgID, c, 2); n != 2 || err != nil {
			t.Errorf("%s, two at most: %d, %v", c, n, err)
		}
	}
	if n, err := r.Usage(t.Context(), "org-2", access.Secrets, 1000); n != 0 || err != nil {
		t.Errorf("another org: %d, %v", n, err)
	}
	r.set(layout.SecretHead(a, "damaged"), "x")
	if err := r.DeleteSecret(t.Context(), free, a, "instead"); err != nil {
		t.Fatal(err)
	}
	want(t, "a damaged secret counts", put(a, "more"), fault.Forbidden)
}
