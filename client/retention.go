package client

import (
	"context"
	"net/url"
	"strconv"

	"github.com/keyfold/keyfold/api"
)

// Retention returns how long the caller's org keeps threads and messages. It is for
// owners and admins of the org, as are all calls of this file but Purge.
func (c *Client) Retention(ctx context.Context) (api.Retention, error) {
	return ask[api.Retention](ctx, c, call{method: "GET", path: "/v1/retention"})
}

// SetRetention sets it. What is too old by then is purged in the next run, and
// cannot be had back; PreviewRetention says what that is.
func (c *Client) SetRetention(ctx context.Context, req api.Retention) (api.Retention, error) {
	return ask[api.Retention](ctx, c, call{method: "PUT", path: "/v1/retention", in: req})
}

// PreviewRetention returns what a run would purge of the org now: under its policy
// or, where try is not nil, under that one.
func (c *Client) PreviewRetention(ctx context.Context, try *api.Retention) (api.RetentionPreview, error) {
	q := url.Values{}
	if try != nil {
		q.Set("deleted_days", strconv.Itoa(try.DeletedDays))
		q.Set("message_days", strconv.Itoa(try.MessageDays))
	}
	return ask[api.RetentionPreview](ctx, c, call{method: "GET", path: "/v1/retention/preview", query: q})
}

// HoldThread puts a thread, which may be deleted, under a legal hold: nothing of it
// is purged. Of one that is held the reason is changed.
func (c *Client) HoldThread(ctx context.Context, threadID string, req api.PutHold) (api.Hold, error) {
	return askAt[api.Hold](ctx, c, "PUT", req, "threads", threadID, "hold")
}

// GetHold returns the legal hold of a thread, which may be deleted ([IsNotFound]: it
// is under none).
func (c *Client) GetHold(ctx context.Context, threadID string) (api.Hold, error) {
	return askAt[api.Hold](ctx, c, "GET", nil, "threads", threadID, "hold")
}

// ReleaseThread ends the legal hold of a thread.
func (c *Client) ReleaseThread(ctx context.Context, threadID string) error {
	return c.on(ctx, "DELETE", "threads", threadID, "hold")
}

// Purge starts retention, of all orgs, unless it runs already. It needs an admin key.
func (c *Client) Purge(ctx context.Context) (api.PurgeStarted, error) {
	return ask[api.PurgeStarted](ctx, c, call{method: "POST", path: "/admin/jobs/purge"})
}
