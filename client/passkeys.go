package client

import (
	"context"

	"github.com/keyfold/keyfold/api"
)

// Passkeys returns the user's passkeys, oldest first. They are registered in a
// browser.
func (c *Client) Passkeys(ctx context.Context) ([]api.Passkey, error) {
	out, err := ask[api.Passkeys](ctx, c, call{method: "GET", path: "/v1/auth/passkeys"})
	return out.Passkeys, err
}

// DeletePasskey ends a passkey: it signs in no more.
func (c *Client) DeletePasskey(ctx context.Context, id string) error {
	return c.on(ctx, "DELETE", "auth", "passkeys", id)
}
