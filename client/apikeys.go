package client

import (
	"context"

	"github.com/keyfold/keyfold/api"
)

// CreateAPIKey makes an API key of the caller, or one of the org's with
// api.RoleFrontend or api.RoleBackend. The key, which the answer holds, cannot be
// had again.
func (c *Client) CreateAPIKey(ctx context.Context, req api.CreateAPIKey) (api.APIKeyCreated, error) {
	return ask[api.APIKeyCreated](ctx, c, call{method: "POST", path: "/v1/auth/api-keys", in: req})
}

// APIKeys returns the API keys of the caller, and those of the org where the
// caller may make them, oldest first.
func (c *Client) APIKeys(ctx context.Context) ([]api.APIKey, error) {
	out, err := ask[api.APIKeys](ctx, c, call{method: "GET", path: "/v1/auth/api-keys"})
	return out.Keys, err
}

// DeleteAPIKey ends an API key at once.
func (c *Client) DeleteAPIKey(ctx context.Context, id string) error {
	return c.on(ctx, "DELETE", "auth", "api-keys", id)
}

// Sign asks for the signature with which a frontend key names the end user. It
// needs a backend key.
func (c *Client) Sign(ctx context.Context, userID string) (signature string, err error) {
	out, err := ask[api.Signed](ctx, c, call{method: "POST", path: "/v1/_sign", in: api.Sign{UserID: userID}})
	return out.Signature, err
}

// CreateSigningKey makes a signing secret of the org, which signs from now on;
// those before it are still taken. The secret, which the answer holds, cannot be
// had again.
func (c *Client) CreateSigningKey(ctx context.Context) (api.SigningKeyCreated, error) {
	return ask[api.SigningKeyCreated](ctx, c, call{method: "POST", path: "/v1/org/signing-keys"})
}

// SigningKeys returns the org's signing secrets, without the secrets, oldest
// first.
func (c *Client) SigningKeys(ctx context.Context) ([]api.SigningKey, error) {
	out, err := ask[api.SigningKeys](ctx, c, call{method: "GET", path: "/v1/org/signing-keys"})
	return out.SigningKeys, err
}

// DeleteSigningKey ends a signing secret: what it has signed is refused.
func (c *Client) DeleteSigningKey(ctx context.Context, id string) error {
	return c.on(ctx, "DELETE", "org", "signing-keys", id)
}
