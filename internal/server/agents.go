package server

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/identity"
)

// agents answers the calls on agents and the exchange of their keys.
type agents struct{ service *identity.Service }

func (h agents) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "POST", Pattern: "/v1/agents", MaxBody: maxSmall, Handler: httpx.Body(http.StatusCreated, h.create)},
		{Method: "GET", Pattern: "/v1/agents", Handler: httpx.NoBody(http.StatusOK, h.list)},
		{Method: "GET", Pattern: "/v1/agents/me", Handler: httpx.NoBody(http.StatusOK, h.me)},
		{Method: "POST", Pattern: "/v1/agents/enroll", Who: httpx.Public, MaxBody: maxSmall, Handler: httpx.Body(http.StatusCreated, h.enroll)},
		{Method: "POST", Pattern: "/v1/agents/batch-delete", MaxBody: maxSmall, Timeout: time.Minute, Handler: httpx.Body(http.StatusOK, h.deleteMany)},
		{Method: "GET", Pattern: "/v1/agents/{agent}", Handler: httpx.NoBody(http.StatusOK, h.get)},
		{Method: "PATCH", Pattern: "/v1/agents/{agent}", MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.update)},
		{Method: "DELETE", Pattern: "/v1/agents/{agent}", Handler: httpx.Empty(h.delete)},
		{Method: "POST", Pattern: "/v1/agents/{agent}/rotate-key", Handler: httpx.NoBody(http.StatusOK, h.rotateKey)},
		{Method: "POST", Pattern: "/v1/auth/agent-token", Who: httpx.Public, MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.token)},
	}
}

func (h agents) create(ctx context.Context, c *httpx.Call, req api.CreateAgent) (api.AgentCreated, error) {
	return h.service.CreateAgent(ctx, c.Principal, req)
}

func (h agents) list(ctx context.Context, c *httpx.Call) (api.Agents, error) {
	q, err := c.Query()
	if err != nil {
		return api.Agents{}, err
	}
	limit := 0
	if text := q.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			return api.Agents{}, fault.New(fault.Invalid, "limit must be a number from 1 on")
		}
	}
	return h.service.ListAgents(ctx, c.Principal, q.Get("cursor"), limit)
}

func (h agents) me(ctx context.Context, c *httpx.Call) (api.AgentSelf, error) {
	return h.service.Me(ctx, c.Principal)
}

func (h agents) enroll(ctx context.Context, c *httpx.Call, req api.EnrollAgent) (api.AgentEnrolled, error) {
	return h.service.Enroll(ctx, from(c), req)
}

func (h agents) deleteMany(ctx context.Context, c *httpx.Call, req api.DeleteAgents) (api.AgentsDeleted, error) {
	return h.service.DeleteAgents(ctx, c.Principal, req.AgentIDs)
}

func (h agents) get(ctx context.Context, c *httpx.Call) (api.Agent, error) {
	return h.service.GetAgent(ctx, c.Principal, c.Param("agent"))
}

func (h agents) update(ctx context.Context, c *httpx.Call, req api.UpdateAgent) (api.Agent, error) {
	return h.service.UpdateAgent(ctx, c.Principal, c.Param("agent"), req)
}

func (h agents) delete(ctx context.Context, c *httpx.Call) error {
	return h.service.DeleteAgent(ctx, c.Principal, c.Param("agent"))
}

func (h agents) rotateKey(ctx context.Context, c *httpx.Call) (api.AgentKeyRotated, error) {
	return h.service.RotateAgentKey(ctx, c.Principal, c.Param("agent"))
}

// strictClient is the User-Agent of the generated Go client as it comes, which
// takes no member of a token's answer beyond those of api.Token.
const strictClient = "OpenAPI-Generator/1.0.0/go"

// token tells who the agent is to those alone who did not know.
func (h agents) token(ctx context.Context, c *httpx.Call, req api.GetAgentToken) (api.AgentToken, error) {
	t, err := h.service.AgentToken(ctx, from(c), req)
	if req.AgentID != "" || c.Header("User-Agent") == strictClient {
		t.AgentID, t.VaultIDs = "", nil
	}
	return t, err
}
