package client

import (
	"context"

	"github.com/keyfold/keyfold/api"
)

// Subscription returns the plan of the caller's org and what it has used of it.
func (c *Client) Subscription(ctx context.Context) (api.Subscription, error) {
	var s api.Subscription
	err := c.on(ctx, "GET", nil, &s, "billing", "subscription")
	return s, err
}

// SetPlan gives an org a plan. It needs an admin key.
func (c *Client) SetPlan(ctx context.Context, orgID string, req api.SetBillingTier) (api.BillingTier, error) {
	var t api.BillingTier
	err := c.on(ctx, "PUT", req, &t, "admin", "orgs", orgID, "billing-tier")
	return t, err
}
