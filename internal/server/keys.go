package server

import (
	"context"
	"net/http"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/identity"
)

// keys answers the calls on API keys.
type keys struct{ service *identity.Service }

func (h keys) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "POST", Pattern: "/v1/auth/api-keys", MaxBody: maxSmall, Handler: httpx.Body(http.StatusCreated, h.create)},
		{Method: "GET", Pattern: "/v1/auth/api-keys", Handler: httpx.NoBody(http.StatusOK, h.list)},
		{Method: "DELETE", Pattern: "/v1/auth/api-keys/{key}", Handler: httpx.Empty(h.delete)},
		{Method: "POST", Pattern: "/v1/auth/api-key-token", Who: httpx.Public, MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.token)},
		{Method: "POST", Pattern: "/admin/keys", Admin: true, MaxBody: maxSmall, Handler: httpx.Body(http.StatusCreated, h.createAdmin)},
	}
}

func (h keys) create(ctx context.Context, c *httpx.Call, req api.CreateAPIKey) (api.APIKeyCreated, error) {
	return h.service.AddAPIKey(ctx, c.Principal, req)
}

func (h keys) createAdmin(ctx context.Context, c *httpx.Call, req api.CreateAPIKey) (api.APIKeyCreated, error) {
	return h.service.AddAdminKey(ctx, c.Principal, req)
}

func (h keys) list(ctx context.Context, c *httpx.Call) (api.APIKeys, error) {
	return h.service.APIKeys(ctx, c.Principal)
}

func (h keys) delete(ctx context.Context, c *httpx.Call) error {
	return h.service.DeleteAPIKey(ctx, c.Principal, c.Param("key"))
}

func (h keys) token(ctx context.Context, c *httpx.Call, req api.GetAPIKeyToken) (api.Token, error) {
	return h.service.APIKeyToken(ctx, from(c), req)
}
