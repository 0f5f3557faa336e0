package server

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/policy"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/vault"
)

const someID = "01900000-0000-7000-8000-00000000000a"

// oneVault is a vault of user u's.
type oneVault struct{}

func (oneVault) Resource(_ context.Context, _ access.Principal, id string) (access.Resource, store.Revision, error) {
	return access.Resource{OrgID: "o", OwnerID: "u", VaultID: id}, 0, nil
}

// freeOrg is on the plan free until 2030, unless SetPlan changed it.
type freeOrg struct{ set string }

func (*freeOrg) Plan(context.Context, string) (access.Plan, time.Time, error) {
	return access.Free, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), nil
}
func (*freeOrg) CountAgents(context.Context, string, int) (int, error) { return 2, nil }
func (o *freeOrg) SetPlan(_ context.Context, p access.Principal, org string, plan access.Plan, until time.Time) error {
	if p.Kind != access.Operator {
		return fault.New(fault.Forbidden, "this needs an admin key")
	}
	o.set = org + " " + string(plan) + " " + until.Format(time.DateOnly)
	return nil
}

// planWorld is the routes of policies and plans. The bearer is a user's ID, or
// "operator".
func planWorld(t *testing.T) (call func(method, path, bearer, agent, body string) (int, string), org *freeOrg) {
	s, gate := memstore.New(), new(accesstest.Gate)
	org = new(freeOrg)
	service := policy.New(policy.Config{Store: s, Gate: gate, Vaults: oneVault{}})
	vaults := vault.New(vault.Config{Store: s, Gate: gate})
	now := func() time.Time { return time.Date(2029, 1, 1, 12, 0, 0, 0, time.UTC) }
	return calls(httpx.New(httpx.Config{
		Rows: append(policies{service}.rows(), billing{gate, org, vaults, now}.rows()...),
		Authenticate: func(_ context.Context, bearer string) (access.Principal, error) {
			if bearer == "operator" {
				return access.Principal{Kind: access.Operator, ID: bearer, OrgID: "o"}, nil
			}
			return access.Principal{Kind: access.User, ID: bearer, OrgID: "o", Role: map[string]access.Role{"u": access.Owner}[bearer], Plan: access.Free}, nil
		},
	})), org
}

func TestAGeneratedClientSeesNoEffectAndNoPriority(t *testing.T) {
	call, _ := planWorld(t)
	path := "/v1/vaults/" + someID + "/policies"
	body := `{"secret_path_pattern":"**","principal_type":"user","principal_id":"` + someID + `","permissions":["read"],"effect":"deny","priority":3,"policy_schema_version":2}`
	shows := func(body string) bool {
		return strings.Contains(body, `"effect":"deny"`) || strings.Contains(body, `"priority":3`)
	}
	for _, agent := range []string{strictClient, "node"} {
		status, made := call("POST", path, "u", agent, body)
		if status != 201 || shows(made) != (agent != strictClient) {
			t.Errorf("POST by %s: %d %s", agent, status, made)
		}
		id := made[len(`{"id":"`):][:36]
		for _, c := range [][3]string{{"GET", path, ""}, {"PUT", path + "/" + id, `{"permissions":["read"]}`}} {
			status, got := call(c[0], c[1], "u", agent, c[2])
			if status != 200 || shows(got) != (agent != strictClient) {
				t.Errorf("%s by %s: %d %s", c[0], agent, status, got)
			}
		}
	}
	status, got := call("POST", path, "u", "node", strings.Replace(body, `"deny","priority":3`, `"allow","priority":0`, 1))
	if status != 201 || strings.Contains(got, "effect") || strings.Contains(got, "priority") {
		t.Errorf("what says nothing is shown: %d %s", status, got)
	}
}

func TestThePlanIsShownToThoseWhoLeadTheOrg(t *testing.T) {
	call, _ := planWorld(t)
	for path, want := range map[string]string{
		"/v1/billing/subscription": `{"tier":"free","interval":"none","period_end":"2030-01-01T00:00:00Z","status":"active","usage":{"vaults":{"used":0,"limit":3},"secrets":{"used":0,"limit":50},"agents":{"used":2,"limit":2}}}`,
		"/v1/billing/usage":        `{"billing_tier":"free","free_tier_limit":0,"current_month":{"total_requests":0,"paid_requests":0,"free_requests":0,"total_cost_usd":0}}`,
	} {
		if status, got := call("GET", path, "u", "", ""); status != 200 || got != want {
			t.Errorf("%s: %d %s", path, status, got)
		}
		for _, who := range []string{"mate", "operator"} {
			if status, got := call("GET", path, who, "", ""); status != 403 {
				t.Errorf("%s by %s: %d %s", path, who, status, got)
			}
		}
	}
}

func TestAnOperatorSetsAPlan(t *testing.T) {
	call, org := planWorld(t)
	const path = "/v1/admin/orgs/o2/billing-tier"
	for _, c := range []struct {
		who, body string
		status    int
		want, set string
	}{
		{"operator", `{"tier":"pro"}`, 200, `{"org_id":"o2","tier":"pro","expires_at":null}`, "o2 pro 0001-01-01"},
		{"operator", `{"tier":"business","duration_days":31}`, 200, `{"org_id":"o2","tier":"business","expires_at":"2029-02-01T12:00:00Z"}`, "o2 business 2029-02-01"},
		{"operator", `{"tier":"pro","duration_days":0}`, 400, "duration_days", ""},
		{"operator", `{"tier":"pro","duration_days":36501}`, 400, "duration_days", ""},
		{"u", `{"tier":"enterprise"}`, 403, "admin key", ""},
	} {
		org.set = ""
		if status, got := call("PUT", path, c.who, "", c.body); status != c.status || !strings.Contains(got, c.want) || org.set != c.set {
			t.Errorf("%s by %s: %d %s, set %q", c.body, c.who, status, got, org.set)
		}
	}
}
