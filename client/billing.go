package client

import (
	"context"

	"github.com/keyfold/keyfold/api"
)

// Subscription returns the plan of the caller's org and what it has used of it.
func (c *Client) Subscription(ctx context.Context) (api.Subscription, error) {
	return askAt[api.Subscription](ctx, c, "GET", nil, "billing", "subscription")
}

// SetPlan gives an org a plan. It needs an admin key.
func (c *Client) SetPlan(ctx context.Context, orgID string, req api.SetBillingTier) (api.BillingTier, error) {
	return askAt[api.BillingTier](ctx, c, "PUT", req, "admin", "orgs", orgID, "billing-tier")
}
