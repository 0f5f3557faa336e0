package client

import "context"

// Health is what the server says of itself.
type Health struct {
	Status  string `json:"status"`  // "healthy" or "degraded"
	Version string `json:"version"` // of the server
}

// Health asks whether the server works. It needs no API key.
func (c *Client) Health(ctx context.Context) (Health, error) {
	return ask[Health](ctx, c, call{method: "GET", path: "/v1/health", public: true})
}
