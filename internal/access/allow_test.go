package access

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC) // a Wednesday

// who are the people and programs of one org, each with full power over its own.
func who() map[string]Principal {
	unlimited := &Ceiling{Scopes: []string{"vaults:read"}} // a label
	return map[string]Principal{
		"owner":    {Kind: User, ID: "p", OrgID: "o", Role: Owner},
		"admin":    {Kind: User, ID: "p", OrgID: "o", Role: Admin},
		"member":   {Kind: User, ID: "p", OrgID: "o", Role: Member},
		"agent":    {Kind: Agent, ID: "p", OrgID: "o", Role: Owner, Ceiling: unlimited},
		"enduser":  {Kind: EndUser, ID: "p", OrgID: "o", Role: Owner},
		"orgkey":   {Kind: OrgKey, ID: "p", OrgID: "o", Role: Owner},
		"operator": {Kind: Operator, ID: "p", OrgID: "o", Role: Owner},
		"kindless": {ID: "p", OrgID: "o", Role: Owner},
	}
}

// TestWhoMayDoWhat lists, for every action, who may do it with what is his own,
// with another's of the org, and where no thing is named.
func TestWhoMayDoWhat(t *testing.T) {
	const people, programs, all = "admin member owner", "admin agent member owner", "admin agent enduser member owner"
	table := map[Action][3]string{ // own, another's, none
		VaultCreate: {people, "", people},
		VaultRead:   {programs, "admin owner", programs},
		VaultDelete: {people, "", ""},
		VaultCMEK:   {people, "", ""},

		SecretRead:   {programs, "", ""},
		SecretList:   {programs, "", ""},
		SecretWrite:  {programs, "", ""},
		SecretDelete: {programs, "", ""},
		SecretRotate: {programs, "", ""},
		SecretShare:  {people, "", ""},

		ThreadCreate:  {all, "", all},
		ThreadRead:    {all, "", ""},
		ThreadWrite:   {all, "", ""},
		ThreadDelete:  {all, "", ""},
		MessageAppend: {all, "", ""},
		MessageRead:   {all, "", ""},
		MessageWrite:  {all, "", ""},
		ThreadShare:   {all, "", ""},
		ThreadHold:    {people, "admin owner", "admin owner"},

		RetentionRead:  {people, "admin owner", "admin owner"},
		RetentionWrite: {people, "admin owner", "admin owner"},

		PolicyRead:   {people, "admin owner", "admin owner"},
		PolicyWrite:  {people, "admin owner", "admin owner"},
		AgentRead:    {programs, "admin owner", people},
		AgentWrite:   {people, "admin owner", people},
		MemberRead:   {people, "admin owner", people},
		MemberWrite:  {people, "admin owner", "admin owner"},
		APIKeyRead:   {people, "", people},
		APIKeyWrite:  {people, "", people},
		OrgKeyRead:   {people, "admin owner", "admin owner"},
		OrgKeyWrite:  {people, "admin owner", "admin owner"},
		AuditRead:    {people, "admin owner", "admin owner"},
		PlanRead:     {people, "admin owner", "admin owner"},
		ProfileRead:  {people, "", ""},
		ProfileWrite: {people, "", ""},

		Operate:   {"operator", "operator", "operator"},
		"no.such": {"", "", ""},
	}
	for a := range actions {
		if _, ok := table[a]; !ok {
			t.Errorf("%s has no row here", a)
		}
	}
	for a, want := range table {
		for i, r := range []Resource{{OrgID: "o", OwnerID: "p"}, {OrgID: "o", OwnerID: "q"}, {OrgID: "o"}} {
			var may []string
			for name, p := range who() {
				if err := Allow(p, a, r, nil, noon); err == nil {
					may = append(may, name)
				} else if !errors.Is(err, fault.Forbidden) {
					t.Errorf("%s by %s: %v", a, name, err)
				}
				r.OrgID = "other"
				want := error(NotThere)
				if name == "operator" { // who is told the same of everything
					want = fault.Forbidden
				}
				if err := Allow(p, a, r, nil, noon); a != Operate && !errors.Is(err, want) {
					t.Errorf("%s by %s in another org: %v", a, name, err)
				}
				r.OrgID = "o"
			}
			slices.Sort(may)
			if got := strings.Join(may, " "); got != want[i] {
				t.Errorf("%s, %s: %q may, want %q", a, []string{"own", "another's", "none"}[i], got, want[i])
			}
		}
	}
}

// TestAPartInAThreadIsForWhatItSays: of another's thread, and of no other org's.
func TestAPartInAThreadIsForWhatItSays(t *testing.T) {
	const all = "admin agent enduser member owner"
	want := map[Part]map[Action]bool{
		Reader: {ThreadRead: true, MessageRead: true},
		Writer: {ThreadRead: true, MessageRead: true, MessageAppend: true, MessageWrite: true},
		"":     {}, "other": {},
	}
	for part, may := range want {
		for name, p := range who() {
			for a := range actions {
				without := Allow(p, a, Resource{OrgID: "o", OwnerID: "q"}, nil, noon) == nil
				with := Allow(p, a, Resource{OrgID: "o", OwnerID: "q", Part: part}, nil, noon) == nil
				if want := without || may[a] && slices.Contains(strings.Fields(all), name); with != want {
					t.Errorf("%s by %s with the part %q: %v, want %v", a, name, part, with, want)
				}
				if Allow(p, a, Resource{OrgID: "x", OwnerID: "q", Part: part}, nil, noon) == nil {
					t.Errorf("%s by %s with the part %q in another org", a, name, part)
				}
			}
		}
	}
}

func TestSelfIsOnesOwn(t *testing.T) {
	for name, p := range who() {
		for a, want := range map[Action]string{AgentRead: "agent admin owner member", ProfileRead: "admin owner member", ProfileWrite: "admin owner member", AgentWrite: "admin owner", APIKeyWrite: "", SecretRead: ""} {
			err := Allow(p, a, Resource{OrgID: "o", OwnerID: "q", ID: "p"}, nil, noon)
			if (err == nil) != slices.Contains(strings.Fields(want), name) {
				t.Errorf("%s of itself by %s: %v", a, name, err)
			}
		}
	}
}

// A key that is limited to paths or vaults must not make what is not.
func TestALimitedCredentialDoesNotLeadBeyondItsCeiling(t *testing.T) {
	own := Resource{OrgID: "o", OwnerID: "p"}
	beyond := []Action{VaultCreate, VaultDelete, VaultCMEK, PolicyWrite, AgentWrite, MemberWrite, APIKeyWrite, OrgKeyWrite, ProfileWrite, ThreadHold, RetentionWrite}
	p := who()["owner"]
	for what, c := range map[string]*Ceiling{"paths": {Scopes: []string{"db/*"}}, "vaults": {Vaults: []string{"v"}}, "both": {Scopes: []string{"vault:read", "db/**"}, Vaults: []string{"v"}}} {
		p.Ceiling = c
		for _, a := range slices.Collect(maps.Keys(actions)) {
			err := Allow(p, a, own, nil, noon)
			if errors.Is(err, fault.Forbidden) != slices.Contains(beyond, a) {
				t.Errorf("%s with a key limited to %s: %v", a, what, err)
			}
		}
	}
	for what, c := range map[string]*Ceiling{"nothing": {}, "labels": {Scopes: []string{"vaults:read", "secrets:write"}}, "all": {Scopes: []string{"*"}}, "all and some": {Scopes: []string{"db/*", "**"}}} {
		p.Ceiling = c
		for _, a := range beyond {
			if err := Allow(p, a, own, nil, noon); err != nil {
				t.Errorf("%s with a key limited to %s: %v", a, what, err)
			}
		}
	}
}

func TestTheCeilingComesBeforePoliciesAndTheCreator(t *testing.T) {
	grant := []Rule{{Pattern: "**", Permissions: Permissions}}
	for _, c := range []struct {
		name    string
		kind    Kind
		ceiling *Ceiling
		ok      bool
	}{
		{"an agent without a ceiling", Agent, nil, false},
		{"an agent without scopes", Agent, &Ceiling{}, false},
		{"an agent of other scopes", Agent, &Ceiling{Scopes: []string{"web/**", "db"}}, false},
		{"an agent in scope", Agent, &Ceiling{Scopes: []string{"web/**", "db/*"}}, true},
		{"an agent of labels alone", Agent, &Ceiling{Scopes: []string{"vaults:read"}}, true},
		{"an agent of a label and other scopes", Agent, &Ceiling{Scopes: []string{"vaults:read", "web/**"}}, false},
		{"an agent for one segment", Agent, &Ceiling{Scopes: []string{"*"}}, false},
		{"an agent bound here", Agent, &Ceiling{Scopes: []string{"**"}, Vaults: []string{"w", "v"}}, true},
		{"an agent bound elsewhere", Agent, &Ceiling{Scopes: []string{"**"}, Vaults: []string{"w"}}, false},
		{"a user", User, nil, true},
		{"a user with an empty ceiling", User, &Ceiling{}, true},
		{"a user whose client sends *", User, &Ceiling{Scopes: []string{"*"}}, true},
		{"a user of other scopes", User, &Ceiling{Scopes: []string{"web/**"}}, false},
		{"a user in scope", User, &Ceiling{Scopes: []string{"db/x"}}, true},
		{"a user bound elsewhere", User, &Ceiling{Vaults: []string{"w"}}, false},
	} {
		p := Principal{Kind: c.kind, ID: "p", OrgID: "o", Role: Owner, Ceiling: c.ceiling}
		for _, owner := range []string{"p", "q"} {
			r := Resource{OrgID: "o", OwnerID: owner, VaultID: "v", Path: "db/x"}
			if err := Allow(p, SecretRead, r, grant, noon); (err == nil) != c.ok {
				t.Errorf("%s, vault of %s: %v", c.name, owner, err)
			}
		}
	}
}

func TestADenyBindsNobodyWhoCreatedTheVault(t *testing.T) {
	deny := []Rule{{Pattern: "**", Permissions: Permissions, Deny: true, Priority: 9}}
	allow := Rule{Pattern: "**", Permissions: Permissions}
	r := Resource{OrgID: "o", OwnerID: "p", VaultID: "v", Path: "db/x"}
	for _, p := range []Principal{who()["member"], who()["agent"]} {
		if err := Allow(p, SecretRead, r, deny, noon); err != nil {
			t.Errorf("the creator: %v", err)
		}
		p.ID = "q"
		if err := Allow(p, SecretRead, r, append(deny, allow), noon); !errors.Is(err, fault.Forbidden) {
			t.Errorf("another: %v", err)
		}
	}
}

// Who may do something in a vault sees the vault, and lists what he may read of it.
func TestADenyHidesNoVault(t *testing.T) {
	rules := []Rule{{Pattern: "db/*", Permissions: []Permission{Read}}, {Pattern: "**", Permissions: Permissions, Deny: true, Priority: 9}}
	p, r := Principal{Kind: User, ID: "p", OrgID: "o"}, Resource{OrgID: "o", OwnerID: "q", VaultID: "v"}
	for _, a := range []Action{VaultRead, SecretList} {
		if err := Allow(p, a, r, rules, noon); err != nil {
			t.Errorf("%s: %v", a, err)
		}
		if err := Allow(p, a, r, rules[1:], noon); !errors.Is(err, fault.Forbidden) {
			t.Errorf("%s by a deny alone: %v", a, err)
		}
	}
}

func TestAPermissionCoversItsActionsAndNoMore(t *testing.T) {
	covers := map[Permission][]Action{
		Read:   {SecretRead, SecretList, SecretShare, VaultRead},
		Write:  {SecretWrite, SecretDelete, SecretRotate, VaultRead},
		Delete: {SecretDelete, VaultRead},
		Rotate: {SecretRotate, VaultRead},
		"?":    {},
	}
	p := Principal{Kind: User, ID: "p", OrgID: "o"}
	for perm, want := range covers {
		for a := range actions {
			r := Resource{OrgID: "o", OwnerID: "q", VaultID: "v", Path: "db/x"}
			err := Allow(p, a, r, []Rule{{Pattern: "db/*", Permissions: []Permission{perm}}}, noon)
			if a == ThreadCreate {
				continue
			}
			if (err == nil) != slices.Contains(want, a) {
				t.Errorf("%s with %s: %v", a, perm, err)
			}
		}
	}
}

func TestWhatARuleDoesNotReachItDoesNotGrant(t *testing.T) {
	r := Resource{OrgID: "o", OwnerID: "q", VaultID: "v", Path: "db/x"}
	p := Principal{Kind: Agent, ID: "p", OrgID: "o", Ceiling: &Ceiling{Scopes: []string{"**"}}}
	rule := func(edit func(*Rule)) Rule {
		out := Rule{Pattern: "**", Permissions: []Permission{Read}}
		edit(&out)
		return out
	}
	none := rule(func(*Rule) {})
	for _, c := range []struct {
		name  string
		rules []Rule
		ok    bool
	}{
		{"no rule", nil, false},
		{"an allow", []Rule{none}, true},
		{"another path", []Rule{rule(func(r *Rule) { r.Pattern = "web/**" })}, false},
		{"expired this moment", []Rule{rule(func(r *Rule) { r.Expires = noon })}, false},
		{"expires in a moment", []Rule{rule(func(r *Rule) { r.Expires = noon.Add(1) })}, true},
		{"a deny alone", []Rule{rule(func(r *Rule) { r.Deny = true })}, false},
		{"allow and deny of one priority", []Rule{none, rule(func(r *Rule) { r.Deny = true })}, false},
		{"deny and allow of one priority", []Rule{rule(func(r *Rule) { r.Deny = true }), none}, false},
		{"the allow goes before", []Rule{rule(func(r *Rule) { r.Deny = true }), rule(func(r *Rule) { r.Priority = 1 })}, true},
		{"the deny goes before", []Rule{none, rule(func(r *Rule) { r.Deny, r.Priority = true, 1 })}, false},
		{"the deny has expired", []Rule{none, rule(func(r *Rule) { r.Deny, r.Expires = true, noon })}, true},
		{"the deny is of another path", []Rule{none, rule(func(r *Rule) { r.Deny, r.Pattern = true, "web/**" })}, true},
		{"the deny is of another permission", []Rule{none, rule(func(r *Rule) { r.Deny, r.Permissions = true, []Permission{Write} })}, true},
		{"unknown conditions grant nothing", []Rule{rule(func(r *Rule) { r.Conditions = []byte(`{"moon":"full"}`) })}, false},
		{"unknown conditions deny", []Rule{none, rule(func(r *Rule) { r.Deny, r.Conditions = true, []byte(`{"moon":"full"}`) })}, false},
		{"an environment grants nothing", []Rule{rule(func(r *Rule) { r.Conditions = []byte(`{"environment_in":["production"]}`) })}, false},
		{"an environment denies", []Rule{none, rule(func(r *Rule) { r.Deny, r.Conditions = true, []byte(`{"environment_in":["production"]}`) })}, false},
		{"no address known grants nothing", []Rule{rule(func(r *Rule) { r.Conditions = []byte(`{"ip_allowlist":["0.0.0.0/0","::/0"]}`) })}, false},
		{"no address known denies", []Rule{none, rule(func(r *Rule) { r.Deny, r.Conditions = true, []byte(`{"ip_allowlist":["10.0.0.0/8"]}`) })}, false},
	} {
		if err := Allow(p, SecretRead, r, c.rules, noon); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestAScraperMayDoNothing(t *testing.T) {
	for _, p := range []Principal{{Kind: Scraper, ID: "s"}, {Kind: Scraper, ID: "s", OrgID: "o", Role: Owner}} {
		for a := range actions {
			if Allow(p, a, Resource{OrgID: "o"}, nil, time.Time{}) == nil {
				t.Errorf("%+v may do %s", p, a)
			}
		}
		if Allow(p, Operate, Resource{}, nil, time.Time{}) == nil {
			t.Errorf("%+v may operate the server", p)
		}
	}
}
