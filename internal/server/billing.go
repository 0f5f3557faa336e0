package server

import (
	"context"
	"net/http"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/vault"
)

// Orgs knows the orgs' plans; an *identity.Service does.
type Orgs interface {
	// Plan returns the plan that counts now, and when it ends; zero: never.
	Plan(ctx context.Context, orgID string) (access.Plan, time.Time, error)
	// SetPlan asks the gate whether p operates, and puts the org on a plan until
	// a time; zero: for good.
	SetPlan(ctx context.Context, p access.Principal, orgID string, plan access.Plan, until time.Time) error
	// CountAgents returns how many agents the org has, or most when it has more.
	CountAgents(ctx context.Context, orgID string, most int) (int, error)
}

// billing answers the calls on plans.
type billing struct {
	gate   access.Gate
	orgs   Orgs
	vaults *vault.Service
	now    func() time.Time
}

func (h billing) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "GET", Pattern: "/v1/billing/subscription", Handler: httpx.NoBody(http.StatusOK, h.subscription)},
		{Method: "GET", Pattern: "/v1/billing/usage", Handler: httpx.NoBody(http.StatusOK, h.usage)},
		{Method: "PUT", Pattern: "/v1/admin/orgs/{org}/billing-tier", Admin: true, MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.setTier)},
	}
}

// plan returns the plan of the caller's org, if he may see it.
func (h billing) plan(ctx context.Context, c *httpx.Call) (access.Plan, time.Time, error) {
	p := c.Principal
	if err := h.gate.Check(ctx, p, access.PlanRead, access.Resource{OrgID: p.OrgID, Type: "org", ID: p.OrgID}); err != nil {
		return "", time.Time{}, err
	}
	return h.orgs.Plan(ctx, p.OrgID)
}

func (h billing) subscription(ctx context.Context, c *httpx.Call) (api.Subscription, error) {
	plan, until, err := h.plan(ctx, c)
	if err != nil {
		return api.Subscription{}, err
	}
	s := api.Subscription{Tier: string(plan), Interval: "none", PeriodEnd: timeOrNil(until), Status: "active"}
	for _, u := range []struct {
		of  access.Counted
		out *api.Used
	}{{access.Vaults, &s.Usage.Vaults}, {access.Secrets, &s.Usage.Secrets}, {access.Agents, &s.Usage.Agents}} {
		if *u.out, err = h.used(ctx, c.Principal.OrgID, plan, u.of); err != nil {
			return api.Subscription{}, err
		}
	}
	return s, nil
}

func (h billing) used(ctx context.Context, orgID string, plan access.Plan, of access.Counted) (u api.Used, err error) {
	if limit, ok := plan.Limit(of); ok {
		u.Limit = &limit
	}
	if of == access.Agents {
		u.Used, err = h.orgs.CountAgents(ctx, orgID, maxCounted)
	} else {
		u.Used, err = h.vaults.Usage(ctx, orgID, of, maxCounted)
	}
	return u, err
}

// maxCounted is where counting ends: nobody needs to know more, and each is a
// row to read.
const maxCounted = 100_000

func (h billing) usage(ctx context.Context, c *httpx.Call) (api.BillingUsage, error) {
	plan, _, err := h.plan(ctx, c)
	return api.BillingUsage{BillingTier: string(plan)}, err
}

func (h billing) setTier(ctx context.Context, c *httpx.Call, req api.SetBillingTier) (api.BillingTier, error) {
	var until time.Time
	if req.DurationDays != nil {
		if d := *req.DurationDays; d < 1 || d > 36500 {
			return api.BillingTier{}, fault.New(fault.Invalid, "duration_days must be 1 to 36500; leave it out for good")
		}
		until = h.now().UTC().AddDate(0, 0, *req.DurationDays).Truncate(time.Second)
	}
	if err := h.orgs.SetPlan(ctx, c.Principal, c.Param("org"), access.Plan(req.Tier), until); err != nil {
		return api.BillingTier{}, err
	}
	return api.BillingTier{OrgID: c.Param("org"), Tier: req.Tier, ExpiresAt: timeOrNil(until)}, nil
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
