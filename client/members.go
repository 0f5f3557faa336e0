package client

import (
	"context"

	"github.com/keyfold/keyfold/api"
)

// Org returns the caller's org.
func (c *Client) Org(ctx context.Context) (api.Org, error) {
	return ask[api.Org](ctx, c, call{method: "GET", path: "/v1/org"})
}

// Members returns the users of the caller's org, oldest first.
func (c *Client) Members(ctx context.Context) ([]api.Member, error) {
	out, err := ask[api.Members](ctx, c, call{method: "GET", path: "/v1/org/members"})
	return out.Members, err
}

// SetRole makes a user of the org owner, admin or member.
func (c *Client) SetRole(ctx context.Context, userID, role string) (api.Member, error) {
	return askAt[api.Member](ctx, c, "PATCH", api.UpdateMember{Role: role}, "org", "members", userID)
}

// RemoveMember takes a user out of the org; its credentials are dead then.
func (c *Client) RemoveMember(ctx context.Context, userID string) error {
	return c.on(ctx, "DELETE", "org", "members", userID)
}

// Invite makes an invitation. Its text, which the answer holds, cannot be had
// again.
func (c *Client) Invite(ctx context.Context, req api.CreateInvitation) (api.InvitationCreated, error) {
	return ask[api.InvitationCreated](ctx, c, call{method: "POST", path: "/v1/org/invitations", in: req})
}

// Invitations returns those that can still be used, oldest first.
func (c *Client) Invitations(ctx context.Context) ([]api.Invitation, error) {
	out, err := ask[api.Invitations](ctx, c, call{method: "GET", path: "/v1/org/invitations"})
	return out.Invitations, err
}

// RevokeInvitation takes an invitation back.
func (c *Client) RevokeInvitation(ctx context.Context, id string) error {
	return c.on(ctx, "DELETE", "org", "invitations", id)
}
