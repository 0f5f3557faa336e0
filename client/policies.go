package client

import (
	"context"

	"github.com/keyfold/keyfold/api"
)

// CreatePolicy says what a principal may do, or may not, in a vault. It counts
// from the next request on.
func (c *Client) CreatePolicy(ctx context.Context, vaultID string, req api.CreatePolicy) (api.Policy, error) {
	return askAt[api.Policy](ctx, c, "POST", req, "vaults", vaultID, "policies")
}

// Policies returns the policies of a vault, oldest first.
func (c *Client) Policies(ctx context.Context, vaultID string) ([]api.Policy, error) {
	out, err := askAt[api.Policies](ctx, c, "GET", nil, "vaults", vaultID, "policies")
	return out.Policies, err
}

// UpdatePolicy changes what req holds of a policy and returns it. Its pattern and
// its principal are fixed.
func (c *Client) UpdatePolicy(ctx context.Context, vaultID, policyID string, req api.UpdatePolicy) (api.Policy, error) {
	return askAt[api.Policy](ctx, c, "PUT", req, "vaults", vaultID, "policies", policyID)
}

// DeletePolicy takes a policy away, from the next request on.
func (c *Client) DeletePolicy(ctx context.Context, vaultID, policyID string) error {
	return c.on(ctx, "DELETE", "vaults", vaultID, "policies", policyID)
}
