package server

import (
	"context"
	"net/http"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/identity"
)

// signing answers the calls on an org's signing secrets.
type signing struct{ service *identity.Service }

func (h signing) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "POST", Pattern: "/v1/_sign", AsKey: true, MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.sign)},
		{Method: "POST", Pattern: "/v1/org/signing-keys", MaxBody: maxSmall, OptionalBody: true, Handler: httpx.Body(http.StatusCreated, h.create)},
		{Method: "GET", Pattern: "/v1/org/signing-keys", Handler: httpx.NoBody(http.StatusOK, h.list)},
		{Method: "DELETE", Pattern: "/v1/org/signing-keys/{key}", Handler: httpx.Empty(h.delete)},
	}
}

func (h signing) sign(ctx context.Context, c *httpx.Call, req api.Sign) (api.Signed, error) {
	return h.service.Sign(ctx, c.Principal, req)
}

func (h signing) create(ctx context.Context, c *httpx.Call, _ struct{}) (api.SigningKeyCreated, error) {
	return h.service.AddSigningKey(ctx, c.Principal)
}

func (h signing) list(ctx context.Context, c *httpx.Call) (api.SigningKeys, error) {
	return h.service.SigningKeys(ctx, c.Principal)
}

func (h signing) delete(ctx context.Context, c *httpx.Call) error {
	return h.service.DeleteSigningKey(ctx, c.Principal, c.Param("key"))
}
