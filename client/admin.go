package client

import (
	"context"
	"net/url"

	"github.com/keyfold/keyfold/api"
)

// The calls of this file need an admin key.

// RotateKEK gives a vault, the threads or all of them a new primary and starts
// the jobs that rewrap what is under older versions. Data and DEKs stay as they
// are, and everything stays readable meanwhile.
func (c *Client) RotateKEK(ctx context.Context, req api.RotateKEK) ([]api.Job, error) {
	return c.startJobs(ctx, "/admin/encryption/rotate-kek", req)
}

// Rewrap is RotateKEK under the present primaries, for KEKs that were rotated
// in the key process.
func (c *Client) Rewrap(ctx context.Context, req api.RotateKEK) ([]api.Job, error) {
	return c.startJobs(ctx, "/admin/encryption/rewrap", req)
}

// RotateTokenKey makes a new key that signs access tokens; see
// api.RotateTokenKey.
func (c *Client) RotateTokenKey(ctx context.Context, req api.RotateTokenKey) error {
	_, err := c.do(ctx, call{method: "POST", path: "/admin/token-keys/rotate", in: req})
	return err
}

func (c *Client) startJobs(ctx context.Context, path string, req api.RotateKEK) ([]api.Job, error) {
	out, err := ask[api.Jobs](ctx, c, call{method: "POST", path: path, in: req})
	return out.Jobs, err
}

// Jobs returns the server's jobs, newest first.
func (c *Client) Jobs(ctx context.Context) ([]api.Job, error) {
	out, err := ask[api.Jobs](ctx, c, call{method: "GET", path: "/admin/jobs"})
	return out.Jobs, err
}

// Job returns a job as it stands.
func (c *Client) Job(ctx context.Context, id string) (api.Job, error) {
	return c.jobCall(ctx, "GET", id)
}

// CancelJob stops a job between two batches. What is done stays done.
func (c *Client) CancelJob(ctx context.Context, id string) (api.Job, error) {
	return c.jobCall(ctx, "DELETE", id)
}

func (c *Client) jobCall(ctx context.Context, method, id string) (api.Job, error) {
	return ask[api.Job](ctx, c, call{method: method, path: "/admin/jobs/" + url.PathEscape(id)})
}

// CreateAdminKey makes an admin key. The key, which the answer holds, cannot be
// had again.
func (c *Client) CreateAdminKey(ctx context.Context, req api.CreateAPIKey) (api.APIKeyCreated, error) {
	return ask[api.APIKeyCreated](ctx, c, call{method: "POST", path: "/admin/keys", in: req})
}
