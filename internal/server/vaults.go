package server

import (
	"context"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/vault"
)

// vaults answers the calls on vaults and their CMEK state.
type vaults struct{ service *vault.Service }

func (h vaults) create(ctx context.Context, c *httpx.Call, req api.CreateVault) (api.Vault, error) {
	return h.service.Create(ctx, c.Principal, req)
}

func (h vaults) list(ctx context.Context, c *httpx.Call) (api.Vaults, error) {
	return h.service.List(ctx, c.Principal)
}

func (h vaults) get(ctx context.Context, c *httpx.Call) (api.Vault, error) {
	return h.service.Get(ctx, c.Principal, c.Param("vault"))
}

func (h vaults) delete(ctx context.Context, c *httpx.Call) error {
	return h.service.Delete(ctx, c.Principal, c.Param("vault"))
}

func (h vaults) enableCMEK(ctx context.Context, c *httpx.Call, req api.EnableCMEK) (api.Vault, error) {
	return h.service.EnableCMEK(ctx, c.Principal, c.Param("vault"), req)
}

func (h vaults) disableCMEK(ctx context.Context, c *httpx.Call) (api.Vault, error) {
	return h.service.DisableCMEK(ctx, c.Principal, c.Param("vault"))
}
