package client

import (
	"context"
	"net/url"

	"github.com/keyfold/keyfold/api"
)

// EnableOptions say how a vault is sealed from now on.
type EnableOptions struct {
	Bound      bool   // values become bound blobs, which the older published clients do not read
	NoKeyCheck bool   // keep no key check in the vault
	Replaces   string // fingerprint of the key that the vault has now, for another one to take its place; empty: it has none
}

// EnableCMEKWith is EnableCMEK for a key at hand: a KeyChecker leaves its key
// check with the vault, which from then on lets clients refuse a mistyped key
// before they write with it.
func (c *Client) EnableCMEKWith(ctx context.Context, vaultID string, key CMEK, opt EnableOptions) (api.Vault, error) {
	req := api.EnableCMEK{Fingerprint: key.Fingerprint(), Replaces: opt.Replaces}
	if opt.Bound {
		req.BlobVersion = 2
	}
	if checker, ok := key.(KeyChecker); ok && !opt.NoKeyCheck {
		var err error
		if req.KeyCheck, err = checker.Check(ctx, vaultID); err != nil {
			return api.Vault{}, err
		}
	}
	return c.enableCMEK(ctx, vaultID, req)
}

// EnableCMEK says that from now on values of the vault are sealed with the
// CMEK key of this fingerprint (64 hex). Only the fingerprint is sent: whoever
// loses the key loses the values. Values stored before stay as they are.
func (c *Client) EnableCMEK(ctx context.Context, vaultID, fingerprint string) (api.Vault, error) {
	return c.enableCMEK(ctx, vaultID, api.EnableCMEK{Fingerprint: fingerprint})
}

func (c *Client) enableCMEK(ctx context.Context, vaultID string, req api.EnableCMEK) (api.Vault, error) {
	v, err := askAt[api.Vault](ctx, c, "POST", req, "vaults", vaultID, "cmek")
	if err == nil {
		_, err = c.remember(vaultID, api.CMEKStatus{
			Enabled: v.CMEKEnabled, Fingerprint: v.CMEKFingerprint, BlobVersion: req.BlobVersion, KeyCheck: req.KeyCheck,
		}, false)
	}
	return v, err
}

// DisableCMEK says that from now on values of the vault are not sealed by the
// client. Values stored before still need their key.
func (c *Client) DisableCMEK(ctx context.Context, vaultID string) (api.Vault, error) {
	v, err := askAt[api.Vault](ctx, c, "DELETE", nil, "vaults", vaultID, "cmek")
	if err == nil {
		_, err = c.remember(vaultID, api.CMEKStatus{Enabled: v.CMEKEnabled, Fingerprint: v.CMEKFingerprint}, true)
	}
	return v, err
}

// CMEKStatus returns which key a vault is sealed with, and how many of the
// stored versions need which key. It looks at every version.
func (c *Client) CMEKStatus(ctx context.Context, vaultID string) (api.CMEKStatus, error) {
	return c.cmekStatus(ctx, vaultID, nil)
}

func (c *Client) cmekStatus(ctx context.Context, vaultID string, query url.Values) (api.CMEKStatus, error) {
	path, err := escape("vaults", vaultID, "cmek")
	if err != nil {
		return api.CMEKStatus{}, err
	}
	return ask[api.CMEKStatus](ctx, c, call{method: "GET", path: path, query: query})
}
