package server

import (
	"context"
	"net/http"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/policy"
)

// policies answers the calls on the policies of a vault.
type policies struct{ service *policy.Service }

func (h policies) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "POST", Pattern: "/v1/vaults/{vault}/policies", MaxBody: maxSmall, Handler: httpx.Body(http.StatusCreated, h.create)},
		{Method: "GET", Pattern: "/v1/vaults/{vault}/policies", Handler: httpx.NoBody(http.StatusOK, h.list)},
		{Method: "PUT", Pattern: "/v1/vaults/{vault}/policies/{policy}", MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.update)},
		{Method: "DELETE", Pattern: "/v1/vaults/{vault}/policies/{policy}", Handler: httpx.Empty(h.delete)},
	}
}

func (h policies) create(ctx context.Context, c *httpx.Call, req api.CreatePolicy) (api.Policy, error) {
	p, err := h.service.Create(ctx, c.Principal, c.Param("vault"), req)
	return shown(c, p), err
}

func (h policies) list(ctx context.Context, c *httpx.Call) (api.Policies, error) {
	list, err := h.service.List(ctx, c.Principal, c.Param("vault"))
	for i, p := range list.Policies {
		list.Policies[i] = shown(c, p)
	}
	return list, err
}

func (h policies) update(ctx context.Context, c *httpx.Call, req api.UpdatePolicy) (api.Policy, error) {
	p, err := h.service.Update(ctx, c.Principal, c.Param("vault"), c.Param("policy"), req)
	return shown(c, p), err
}

func (h policies) delete(ctx context.Context, c *httpx.Call) error {
	return h.service.Delete(ctx, c.Principal, c.Param("vault"), c.Param("policy"))
}

// shown is p without the members that strictClient does not take.
func shown(c *httpx.Call, p api.Policy) api.Policy {
	if c.Header("User-Agent") == strictClient {
		p.Effect, p.Priority = "", 0
	}
	return p
}
