package client

import (
	"context"

	"github.com/keyfold/keyfold/api"
)

// CreateVault makes a vault. Its name is any text of 1 to 200 characters.
func (c *Client) CreateVault(ctx context.Context, req api.CreateVault) (api.Vault, error) {
	return ask[api.Vault](ctx, c, call{method: "POST", path: "/v1/vaults", in: req})
}

// ListVaults returns the vaults that the caller may see.
func (c *Client) ListVaults(ctx context.Context) ([]api.Vault, error) {
	out, err := ask[api.Vaults](ctx, c, call{method: "GET", path: "/v1/vaults"})
	return out.Vaults, err
}

// GetVault returns a vault, with its CMEK state.
func (c *Client) GetVault(ctx context.Context, vaultID string) (api.Vault, error) {
	return askAt[api.Vault](ctx, c, "GET", nil, "vaults", vaultID)
}

// DeleteVault deletes a vault and all its secrets, for good.
func (c *Client) DeleteVault(ctx context.Context, vaultID string) error {
	return c.on(ctx, "DELETE", "vaults", vaultID)
}
