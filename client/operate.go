package client

import (
	"context"

	"github.com/keyfold/keyfold/api"
)

// Stats counts the threads and messages of all orgs. It needs an admin key.
func (c *Client) Stats(ctx context.Context) (api.Stats, error) {
	return ask[api.Stats](ctx, c, call{method: "GET", path: "/admin/stats"})
}

// RotateThreadDEK gives a thread, or each, a fresh DEK; the job of the answer brings
// what there is under it. It needs an admin key.
func (c *Client) RotateThreadDEK(ctx context.Context, req api.RotateThreadDEK) (api.ThreadDEKRotated, error) {
	return ask[api.ThreadDEKRotated](ctx, c, call{method: "POST", path: "/admin/encryption/rotate-thread-dek", in: req})
}
