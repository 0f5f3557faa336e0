package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
)

func TestAPolicyIsMadeListedChangedAndDeleted(t *testing.T) {
	w := newWorld(t)
	expires := w.now.Add(time.Hour)
	made, err := w.Create(t.Context(), owner, v1, api.CreatePolicy{
		SecretPathPattern: "db/**", PrincipalType: "agent", PrincipalID: agentID, Permissions: []string{"write", "read", "read"},
		Conditions: json.RawMessage(`{"ip_allowlist": ["10.0.0.0/8"]}`), ExpiresAt: &expires, Effect: "deny", Priority: 7,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := api.Policy{
		ID: made.ID, VaultID: v1, SecretPathPattern: "db/**", PrincipalType: "agent", PrincipalID: agentID, Permissions: []string{"read", "write"},
		Conditions: json.RawMessage(`{"ip_allowlist": ["10.0.0.0/8"]}`), ExpiresAt: &expires, CreatedAt: w.now, CreatedBy: owner.ID, CreatedByType: "user", Effect: "deny", Priority: 7,
	}
	if diff := cmp.Diff(want, made); diff != "" || !isID(made.ID) {
		t.Error(diff)
	}
	second := w.grant(v1, mateID, "**", "read")
	w.wantList(v1, made, second)

	zero := 0
	changed, err := w.Update(t.Context(), owner, v1, made.ID, api.UpdatePolicy{Permissions: []string{"delete"}, Effect: "allow", Priority: &zero, Conditions: json.RawMessage(` { } `)})
	want.Permissions, want.Effect, want.Priority, want.Conditions = []string{"delete"}, "", 0, nil
	if diff := cmp.Diff(want, changed); diff != "" || err != nil {
		t.Errorf("%v, %s", err, diff)
	}
	w.wantList(v1, changed, second)

	for _, id := range []string{made.ID, second.ID} {
		if err := w.Service.Delete(t.Context(), owner, v1, id); err != nil {
			t.Error(err)
		}
		if err := w.Service.Delete(t.Context(), owner, v1, id); !errors.Is(err, fault.NotFound) {
			t.Errorf("again: %v", err)
		}
	}
	w.wantList(v1)
	if rows := w.rows(); len(rows) != 2 { // the two vaults
		t.Errorf("rows are left: %q", rows)
	}
}

// What is absent must not take a limit away.
func TestAnUpdateKeepsWhatItDoesNotName(t *testing.T) {
	w := newWorld(t)
	expires := w.now.Add(time.Hour)
	made, err := w.Create(t.Context(), owner, v1, api.CreatePolicy{
		SecretPathPattern: "db/**", PrincipalType: "user", PrincipalID: strings.ToUpper(mateID), Permissions: []string{"read"},
		Conditions: json.RawMessage(`{"ip_allowlist":["10.0.0.0/8"]}`), ExpiresAt: &expires, Effect: "deny", Priority: 7,
	})
	if err != nil || made.PrincipalID != mateID {
		t.Fatal(err, made.PrincipalID)
	}
	for _, body := range []string{`{}`, `{"permissions":null,"conditions":null,"expires_at":null,"effect":null,"priority":null}`} {
		var req api.UpdatePolicy
		if err := json.Unmarshal([]byte(body), &req); err != nil {
			t.Fatal(err)
		}
		got, err := w.Update(t.Context(), owner, v1, made.ID, req)
		if diff := cmp.Diff(made, got); diff != "" || err != nil {
			t.Errorf("%s: %v, %s", body, err, diff)
		}
	}
	if _, err := w.Update(t.Context(), owner, v1, made.ID, api.UpdatePolicy{Permissions: []string{}}); !errors.Is(err, fault.Invalid) {
		t.Errorf("no permission left: %v", err)
	}
}

func TestWhatIsWrongIsRefusedAndChangesNothing(t *testing.T) {
	w := newWorld(t)
	kept := w.grant(v1, mateID, "**", "read")
	before := w.rows()
	good := func() api.CreatePolicy {
		return api.CreatePolicy{SecretPathPattern: "db/**", PrincipalType: "user", PrincipalID: mateID, Permissions: []string{"read"}}
	}
	year10000 := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, spoil := range map[string]func(*api.CreatePolicy){
		"no pattern":           func(p *api.CreatePolicy) { p.SecretPathPattern = "" },
		"a slash first":        func(p *api.CreatePolicy) { p.SecretPathPattern = "/db" },
		"a long pattern":       func(p *api.CreatePolicy) { p.SecretPathPattern = strings.Repeat("a", 513) },
		"no type":              func(p *api.CreatePolicy) { p.PrincipalType = "" },
		"an operator":          func(p *api.CreatePolicy) { p.PrincipalType = "operator" },
		"an end user":          func(p *api.CreatePolicy) { p.PrincipalType = "end_user" },
		"no principal":         func(p *api.CreatePolicy) { p.PrincipalID = "" },
		"a name":               func(p *api.CreatePolicy) { p.PrincipalID = "mate" },
		"a key of the store":   func(p *api.CreatePolicy) { p.PrincipalID = mateID[:20] + ":" + mateID[21:] },
		"no permissions":       func(p *api.CreatePolicy) { p.Permissions = nil },
		"an unknown one":       func(p *api.CreatePolicy) { p.Permissions = []string{"read", "admin"} },
		"an effect":            func(p *api.CreatePolicy) { p.Effect = "Deny" },
		"a negative priority":  func(p *api.CreatePolicy) { p.Priority = -1 },
		"a large priority":     func(p *api.CreatePolicy) { p.Priority = 1 << 31 },
		"conditions, a list":   func(p *api.CreatePolicy) { p.Conditions = json.RawMessage(`[]`) },
		"conditions, unknown":  func(p *api.CreatePolicy) { p.Conditions = json.RawMessage(`{"moon":"full"}`) },
		"conditions, bad":      func(p *api.CreatePolicy) { p.Conditions = json.RawMessage(`{"ip_allowlist":["x"]}`) },
		"attribute conditions": func(p *api.CreatePolicy) { p.AttributeConditions = json.RawMessage(`{"team":"x"}`) },
		"the zero time":        func(p *api.CreatePolicy) { p.ExpiresAt = new(time.Time) },
		"the year 10000":       func(p *api.CreatePolicy) { p.ExpiresAt = &year10000 },
	} {
		req := good()
		spoil(&req)
		if _, err := w.Create(t.Context(), owner, v1, req); !errors.Is(err, fault.Invalid) || len(err.Error()) < 20 {
			t.Errorf("%s: %v", name, err)
		}
		inUpdate := req.SecretPathPattern == good().SecretPathPattern && req.PrincipalID == mateID && req.PrincipalType == "user" && req.Permissions != nil
		_, err := w.Update(t.Context(), owner, v1, kept.ID, api.UpdatePolicy{
			Permissions: req.Permissions, Conditions: req.Conditions, ExpiresAt: req.ExpiresAt, Effect: req.Effect, Priority: &req.Priority, AttributeConditions: req.AttributeConditions,
		})
		if errors.Is(err, fault.Invalid) != inUpdate {
			t.Errorf("%s, in an update: %v", name, err)
		}
		if diff := cmp.Diff(before, w.rows()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, empty := range []string{`null`, `{}`, `[]`, ` { } `} {
		req := good()
		req.AttributeConditions = json.RawMessage(empty)
		if _, err := w.Create(t.Context(), owner, v1, req); err != nil {
			t.Errorf("attribute_conditions %s: %v", empty, err)
		}
	}
	w.known = fault.New(fault.NotFound, "no such user")
	if _, err := w.Create(t.Context(), owner, v1, good()); !errors.Is(err, fault.NotFound) {
		t.Errorf("a principal of another org: %v", err)
	}
}

func TestWhoMaySeeAndChangePolicies(t *testing.T) {
	w := newWorld(t)
	made := w.grant(v1, mateID, "**", "read")
	calls := map[string]func(access.Principal, string, string) error{
		"Create": func(p access.Principal, v, _ string) error {
			_, err := w.Create(t.Context(), p, v, api.CreatePolicy{SecretPathPattern: "**", PrincipalType: "user", PrincipalID: mateID, Permissions: []string{"read"}})
			return err
		},
		"List": func(p access.Principal, v, _ string) error { _, err := w.List(t.Context(), p, v); return err },
		"Update": func(p access.Principal, v, id string) error {
			_, err := w.Update(t.Context(), p, v, id, api.UpdatePolicy{})
			return err
		},
		"Delete": func(p access.Principal, v, id string) error { return w.Service.Delete(t.Context(), p, v, id) },
	}
	admin := access.Principal{Kind: access.User, ID: mateID, OrgID: "o", Role: access.Admin}
	mate := access.Principal{Kind: access.User, ID: mateID, OrgID: "o", Role: access.Member}
	agent := access.Principal{Kind: access.Agent, ID: owner.ID, OrgID: "o", Ceiling: &access.Ceiling{Scopes: []string{"**"}}}
	stranger := access.Principal{Kind: access.User, ID: owner.ID, OrgID: "o2", Role: access.Owner}
	limited := owner
	limited.Ceiling = &access.Ceiling{Scopes: []string{"db/*"}}
	before := w.rows()
	for name, call := range calls {
		for _, c := range []struct {
			who   string
			p     access.Principal
			vault string
			id    string
			want  fault.Code
		}{
			{"nobody", access.Principal{}, v1, made.ID, fault.Unauthenticated},
			{"a mate", mate, v1, made.ID, fault.Forbidden},
			{"a mate, no such policy", mate, v1, v2, fault.Forbidden},
			{"an agent", agent, v1, made.ID, fault.Forbidden},
			{"a stranger", stranger, v1, made.ID, fault.NotFound},
			{"the owner, no such vault", owner, mateID, made.ID, fault.NotFound},
			{"the owner, no vault ID", owner, "x", made.ID, fault.NotFound},
		} {
			if err := call(c.p, c.vault, c.id); err == nil || fault.Of(err).Code != c.want {
				t.Errorf("%s by %s: %v", name, c.who, err)
			}
		}
		if err := call(limited, v1, made.ID); errors.Is(err, fault.Forbidden) != (name != "List") {
			t.Errorf("%s with a limited key: %v", name, err)
		}
		if name != "Create" && name != "List" {
			for _, id := range []string{v2, "", "x", made.ID + ":", strings.ToUpper(made.ID)} {
				if err := call(owner, v1, id); !errors.Is(err, fault.NotFound) {
					t.Errorf("%s of policy %q: %v", name, id, err)
				}
			}
			if err := call(owner, v2, made.ID); !errors.Is(err, fault.NotFound) {
				t.Errorf("%s by way of another vault: %v", name, err)
			}
		}
	}
	if diff := cmp.Diff(before, w.rows()); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"Create", "List", "Update", "Delete"} {
		if err := calls[name](admin, v1, made.ID); err != nil {
			t.Errorf("%s by an admin: %v", name, err)
		}
	}
}

func TestChangesAreRecordedByTheirNamesAndFacts(t *testing.T) {
	w := newWorld(t)
	made := w.grant(v1, mateID, "db/*", "read")
	_, _ = w.Create(t.Context(), owner, v1, api.CreatePolicy{SecretPathPattern: strings.Repeat("x", 10_000), PrincipalID: "y"})
	_, _ = w.Update(t.Context(), owner, v1, made.ID, api.UpdatePolicy{Permissions: []string{"write", "delete"}, Effect: "deny"})
	_ = w.Service.Delete(t.Context(), owner, v1, strings.Repeat("x", 10_000))
	_ = w.Service.Delete(t.Context(), owner, v1, made.ID)
	_, _ = w.List(t.Context(), owner, v1)
	var got []string
	for _, a := range w.gate.Asked() {
		id := a.Resource.ID
		if id == made.ID {
			id = "made"
		} else if id != "" {
			id = "new"
		}
		got = append(got, fmt.Sprint(a.Action, " ", a.Resource.As, " ", a.Resource.Type, " ", id, " ", a.Resource.VaultID == v1, " ", a.Resource.Details))
	}
	want := []string{
		"policy.write policy.create policy made true map[effect:allow pattern:db/* permissions:read principal:user:" + mateID + "]",
		"policy.write policy.create policy new true map[]",
		"policy.write policy.update policy made true map[effect:deny permissions:write delete]",
		"policy.write policy.delete policy  true map[]",
		"policy.write policy.delete policy made true map[]",
		"policy.read policy.list policy  true map[]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	w.gate.Fail = fault.New(fault.Unavailable, "the trail is away")
	before := w.rows()
	if _, err := w.Create(t.Context(), owner, v1, api.CreatePolicy{SecretPathPattern: "**", PrincipalType: "user", PrincipalID: mateID, Permissions: []string{"read"}}); !errors.Is(err, fault.Unavailable) {
		t.Errorf("without the trail: %v", err)
	}
	if diff := cmp.Diff(before, w.rows()); diff != "" {
		t.Error(diff)
	}
}

func TestRulesAreTheVaultsAndThePrincipalsOwn(t *testing.T) {
	w := newWorld(t)
	w.grant(v1, mateID, "a", "read")
	w.grant(v1, mateID, "b", "write", "read")
	w.grant(v2, mateID, "c", "read")
	w.grantAgent(v1, agentID, "d", "read")
	table := NewTable(w.Store)
	for _, c := range []struct {
		vault string
		kind  access.Kind
		id    string
		want  string
	}{
		{v1, access.User, mateID, "a b"}, {v2, access.User, mateID, "c"}, {v1, access.Agent, agentID, "d"},
		{v2, access.Agent, agentID, ""}, {v1, access.Agent, mateID, ""}, {v1, access.User, agentID, ""},
		{v1, access.EndUser, mateID, ""}, {v1, access.User, "", ""}, {v1, access.User, mateID + ":x", ""}, {"x", access.User, mateID, ""}, {"", access.User, mateID, ""},
	} {
		rules, err := table.Rules(t.Context(), c.vault, c.kind, c.id)
		var got []string
		for _, r := range rules {
			got = append(got, r.Pattern)
		}
		if strings.Join(got, " ") != c.want || err != nil {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
	for kind, want := range map[access.Kind]string{access.User: "a b c", access.Agent: "d"} {
		got, err := table.Patterns(t.Context(), kind, map[access.Kind]string{access.User: mateID, access.Agent: agentID}[kind])
		if strings.Join(got, " ") != want || err != nil {
			t.Errorf("Patterns: %q, %v", got, err)
		}
	}
}

func TestPatternsAreOfWhatIsAllowedOnceEach(t *testing.T) {
	w := newWorld(t)
	gone := w.grantAgent(v1, agentID, "gone", "read")
	w.grantAgent(v1, agentID, "b", "read")
	w.grantAgent(v1, agentID, "a", "read")
	w.grantAgent(v2, agentID, "a", "write")
	if _, err := w.Create(t.Context(), owner, v1, api.CreatePolicy{SecretPathPattern: "denied", PrincipalType: "agent", PrincipalID: agentID, Permissions: []string{"read"}, Effect: "deny"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Delete(t.Context(), owner, v1, gone.ID); err != nil {
		t.Fatal(err)
	}
	table := NewTable(w.Store)
	if got, err := table.Patterns(t.Context(), access.Agent, agentID); !slices.Equal(got, []string{"a", "b"}) || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for i := range 10 {
		w.grantAgent(v2, agentID, fmt.Sprint(i, strings.Repeat("x", 500)), "read")
	}
	if got, err := table.Patterns(t.Context(), access.Agent, agentID); !slices.Equal(got, []string{"**"}) || err != nil {
		t.Errorf("%.100q, %v", got, err)
	}
}

func TestARuleIsPassedOnWhole(t *testing.T) {
	w := newWorld(t)
	expires := w.now.Add(time.Hour)
	if _, err := w.Create(t.Context(), owner, v1, api.CreatePolicy{
		SecretPathPattern: "db/**", PrincipalType: "agent", PrincipalID: agentID, Permissions: []string{"rotate", "delete"},
		Conditions: json.RawMessage(`{"ip_allowlist":["10.0.0.0/8"]}`), ExpiresAt: &expires, Effect: "deny", Priority: 7,
	}); err != nil {
		t.Fatal(err)
	}
	got, err := NewTable(w.Store).Rules(t.Context(), v1, access.Agent, agentID)
	want := []access.Rule{{Pattern: "db/**", Permissions: []access.Permission{access.Delete, access.Rotate}, Deny: true, Priority: 7, Conditions: []byte(`{"ip_allowlist":["10.0.0.0/8"]}`), Expires: expires}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, %s", err, diff)
	}
}

func TestADamagedRowGrantsNothingAndSaysSo(t *testing.T) {
	w := newWorld(t)
	made := w.grant(v1, mateID, "**", "read")
	key := layout.VaultPolicies(v1, "user", mateID)
	row := w.rows()[key]
	for _, bad := range []string{"", "null x", row[:len(row)-1], strings.Replace(row, `"id"`, `"newer_limit":1,"id"`, 1), strings.Replace(row, `"pattern"`, `"PATTERN"`, 1)} {
		w.set(key, bad)
		if rules, err := NewTable(w.Store).Rules(t.Context(), v1, access.User, mateID); !errors.Is(err, fault.Damaged) || len(rules) != 0 {
			t.Errorf("%.30q: %v, %v", bad, rules, err)
		}
		if _, err := w.List(t.Context(), owner, v1); !errors.Is(err, fault.Damaged) {
			t.Errorf("%.30q: List: %v", bad, err)
		}
		if err := w.Service.Delete(t.Context(), owner, v1, made.ID); !errors.Is(err, fault.Damaged) {
			t.Errorf("%.30q: Delete: %v", bad, err)
		}
	}
	w.set(layout.VaultPolicy(v1, made.ID), "x")
	if err := w.Service.Delete(t.Context(), owner, v1, made.ID); !errors.Is(err, fault.Damaged) {
		t.Errorf("a bad index: %v", err)
	}
}

func TestPoliciesHaveLimits(t *testing.T) {
	w := newWorld(t)
	for range MaxPerPrincipal {
		w.grant(v1, mateID, "**", "read")
	}
	req := api.CreatePolicy{SecretPathPattern: "**", PrincipalType: "user", PrincipalID: mateID, Permissions: []string{"read"}}
	if _, err := w.Create(t.Context(), owner, v1, req); !errors.Is(err, fault.Invalid) {
		t.Errorf("over the principal's limit: %v", err)
	}
	for i := range MaxPerVault - MaxPerPrincipal {
		w.set(layout.VaultPolicy(v1, fmt.Sprint(i)), "")
	}
	req.PrincipalType = "agent"
	if _, err := w.Create(t.Context(), owner, v1, req); !errors.Is(err, fault.Invalid) {
		t.Errorf("over the vault's limit: %v", err)
	}
	if _, err := w.Create(t.Context(), owner, v2, req); err != nil {
		t.Errorf("another vault: %v", err)
	}
}

func TestNoPolicyIsAddedToAVaultThatIsGone(t *testing.T) {
	w := newWorld(t)
	made := w.grant(v1, mateID, "**", "read")
	for name, call := range map[string]func() error{
		"Create": func() error {
			_, err := w.Create(t.Context(), owner, v1, api.CreatePolicy{SecretPathPattern: "**", PrincipalType: "user", PrincipalID: mateID, Permissions: []string{"read"}})
			return err
		},
		"Update": func() error {
			_, err := w.Update(t.Context(), owner, v1, made.ID, api.UpdatePolicy{Effect: "deny"})
			return err
		},
		"Delete": func() error { return w.Service.Delete(t.Context(), owner, v1, made.ID) },
	} {
		before := w.rows()
		w.beforeCommit = func() { w.unset(layout.VaultMeta(v1)) }
		if err := call(); err != access.NotThere {
			t.Errorf("%s: %v", name, err)
		}
		w.set(layout.VaultMeta(v1), "owner")
		if diff := cmp.Diff(before, w.rows()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestChangesThatMeetAreAllKept(t *testing.T) {
	w := newWorld(t)
	first := w.grant(v1, mateID, "a", "read")
	second := w.grant(v1, mateID, "b", "read")
	w.beforeCommit = func() { // somebody else is faster, and the vault changes, too
		w.grant(v1, mateID, "c", "read")
		w.set(layout.VaultMeta(v1), "owner")
	}
	if _, err := w.Update(t.Context(), owner, v1, first.ID, api.UpdatePolicy{Effect: "deny"}); err != nil {
		t.Fatal(err)
	}
	w.beforeCommit = func() {
		if err := w.Service.Delete(t.Context(), owner, v1, second.ID); err != nil {
			t.Error(err)
		}
	}
	if _, err := w.Update(t.Context(), owner, v1, second.ID, api.UpdatePolicy{Effect: "deny"}); !errors.Is(err, fault.NotFound) {
		t.Errorf("deleted since: %v", err)
	}
	list, err := w.List(t.Context(), owner, v1)
	if err != nil || len(list.Policies) != 2 || list.Policies[0].Effect != "deny" || list.Policies[1].SecretPathPattern != "c" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestEachCommitIsWholeOrNot(t *testing.T) {
	w := newWorld(t)
	made := w.grant(v1, mateID, "a", "read")
	w.failCommit = errors.New("disk full")
	before := w.rows()
	if err := w.Service.Delete(t.Context(), owner, v1, made.ID); err == nil || strings.Contains(err.Error(), "disk") {
		t.Errorf("Delete: %v", err)
	}
	if diff := cmp.Diff(before, w.rows()); diff != "" {
		t.Error(diff)
	}
	w.failCommit = nil
	keys := slices.Sorted(maps.Keys(w.rows()))
	want := []string{
		layout.Grantee("user", mateID, v1), layout.VaultMeta(v1), layout.VaultPolicies(v1, "user", mateID), layout.VaultPolicy(v1, made.ID), layout.VaultMeta(v2),
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Error(diff)
	}
}
