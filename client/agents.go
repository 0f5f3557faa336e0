package client

import (
	"context"
	"net/url"

	"github.com/keyfold/keyfold/api"
)

// AgentToken exchanges an agent's API key ("ocv_...") for a token. New does it by
// itself when it is given such a key.
func (c *Client) AgentToken(ctx context.Context, apiKey string) (Token, error) {
	var out api.Token // AgentToken without what the client has no use for
	return c.token(ctx, "/v1/auth/agent-token", api.GetAgentToken{APIKey: apiKey}, &out, &out)
}

// CreateAgent makes an agent. Its API key, which the answer holds, cannot be had
// again.
func (c *Client) CreateAgent(ctx context.Context, req api.CreateAgent) (api.AgentCreated, error) {
	return ask[api.AgentCreated](ctx, c, call{method: "POST", path: "/v1/agents", in: req})
}

// Agents returns the agents that the caller may see, oldest first.
func (c *Client) Agents(ctx context.Context) ([]api.Agent, error) {
	var all []api.Agent
	for cursor := ""; ; {
		query := url.Values{}
		set(query, "cursor", cursor)
		var page api.Agents
		if _, err := c.do(ctx, call{method: "GET", path: "/v1/agents", query: query, out: &page}); err != nil {
			return nil, err
		}
		all = append(all, page.Agents...)
		switch page.NextCursor {
		case "":
			return all, nil
		case cursor:
			return nil, errNoProgress
		}
		cursor = page.NextCursor
	}
}

// AgentMe returns the agent that the client acts for. Users have Me.
func (c *Client) AgentMe(ctx context.Context) (api.AgentSelf, error) {
	return ask[api.AgentSelf](ctx, c, call{method: "GET", path: "/v1/agents/me"})
}

// Agent returns an agent.
func (c *Client) Agent(ctx context.Context, id string) (api.Agent, error) {
	return askAt[api.Agent](ctx, c, "GET", nil, "agents", id)
}

// UpdateAgent changes what req holds of an agent and returns it. IsActive false
// ends its tokens at once.
func (c *Client) UpdateAgent(ctx context.Context, id string, req api.UpdateAgent) (api.Agent, error) {
	return askAt[api.Agent](ctx, c, "PATCH", req, "agents", id)
}

// RotateAgentKey gives an agent another API key and returns it; the one before,
// and all its tokens, are dead then.
func (c *Client) RotateAgentKey(ctx context.Context, id string) (apiKey string, err error) {
	out, err := askAt[api.AgentKeyRotated](ctx, c, "POST", nil, "agents", id, "rotate-key")
	return out.APIKey, err
}

// DeleteAgent deletes an agent; its key and its tokens are dead then.
func (c *Client) DeleteAgent(ctx context.Context, id string) error {
	return c.on(ctx, "DELETE", "agents", id)
}
