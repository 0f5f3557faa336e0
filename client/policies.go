package client

import (
	"context"

	"github.com/keyfold/keyfold/api"
)

// CreatePolicy says what a principal may do, or may not, in a vault. It counts
// from the next request on.
func (c *Client) CreatePolicy(ctx context.Context, vaultID string, req api.CreatePolicy) (api.Policy, error) {
	var p api.Policy
	err := c.on(ctx, "POST", req, &p, "vaults", vaultID, "policies")
	return p, err
}

// Policies returns the policies of a vault, oldest first.
func (c *Client) Policies(ctx context.Context, vaultID string) ([]api.Policy, error) {
	var out api.Policies
	err := c.on(ctx, "GET", nil, &out, "vaults", vaultID, "policies")
	return out.Policies, err
}

// UpdatePolicy changes what req holds of a policy and returns it. Its pattern and
// its principal are fixed.
func (c *Client) UpdatePolicy(ctx context.Context, vaultID, policyID string, req api.UpdatePolicy) (api.Policy, error) {
	var p api.Policy
	err := c.on(ctx, "PUT", req, &p, "vaults", vaultID, "policies", policyID)
	return p, err
}

// DeletePolicy takes a policy away, from the next request on.
func (c *Client) DeletePolicy(ctx context.Context, vaultID, policyID string) error {
	return c.on(ctx, "DELETE", nil, nil, "vaults", vaultID, "policies", policyID)
}
