package client

import (
	"context"

	"github.com/keyfold/keyfold/api"
)

// CreateVault makes a vault. Its name is any text of 1 to 200 characters.
func (c *Client) CreateVault(ctx context.Context, req api.CreateVault) (api.Vault, error) {
	var v api.Vault
	_, err := c.do(ctx, call{method: "POST", path: "/v1/vaults", in: req, out: &v})
	return v, err
}

// ListVaults returns the vaults that the caller may see.
func (c *Client) ListVaults(ctx context.Context) ([]api.Vault, error) {
	var out api.Vaults
	_, err := c.do(ctx, call{method: "GET", path: "/v1/vaults", out: &out})
	return out.Vaults, err
}

// GetVault returns a vault, with its CMEK state.
func (c *Client) GetVault(ctx context.Context, vaultID string) (api.Vault, error) {
	return c.vaultCall(ctx, "GET", nil, vaultID)
}

// DeleteVault deletes a vault and all its secrets, for good.
func (c *Client) DeleteVault(ctx context.Context, vaultID string) error {
	path, err := escape("vaults", vaultID)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, call{method: "DELETE", path: path})
	return err
}

func (c *Client) vaultCall(ctx context.Context, method string, in any, parts ...string) (api.Vault, error) {
	var v api.Vault
	path, err := escape(append([]string{"vaults"}, parts...)...)
	if err != nil {
		return v, err
	}
	_, err = c.do(ctx, call{method: method, path: path, in: in, out: &v})
	return v, err
}
