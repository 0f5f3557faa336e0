package client

import (
	"context"

	"github.com/keyfold/keyfold/api"
)

// Org returns the caller's org.
func (c *Client) Org(ctx context.Context) (api.Org, error) {
	var o api.Org
	_, err := c.do(ctx, call{method: "GET", path: "/v1/org", out: &o})
	return o, err
}

// Members returns the users of the caller's org, oldest first.
func (c *Client) Members(ctx context.Context) ([]api.Member, error) {
	var out api.Members
	_, err := c.do(ctx, call{method: "GET", path: "/v1/org/members", out: &out})
	return out.Members, err
}

// SetRole makes a user of the org owner, admin or member.
func (c *Client) SetRole(ctx context.Context, userID, role string) (api.Member, error) {
	var m api.Member
	err := c.on(ctx, "PATCH", api.UpdateMember{Role: role}, &m, "org", "members", userID)
	return m, err
}

// RemoveMember takes a user out of the org; its credentials are dead then.
func (c *Client) RemoveMember(ctx context.Context, userID string) error {
	return c.on(ctx, "DELETE", nil, nil, "org", "members", userID)
}

// Invite makes an invitation. Its text, which the answer holds, cannot be had
// again.
func (c *Client) Invite(ctx context.Context, req api.CreateInvitation) (api.InvitationCreated, error) {
	var out api.InvitationCreated
	_, err := c.do(ctx, call{method: "POST", path: "/v1/org/invitations", in: req, out: &out})
	return out, err
}

// Invitations returns those that can still be used, oldest first.
func (c *Client) Invitations(ctx context.Context) ([]api.Invitation, error) {
	var out api.Invitations
	_, err := c.do(ctx, call{method: "GET", path: "/v1/org/invitations", out: &out})
	return out.Invitations, err
}

// RevokeInvitation takes an invitation back.
func (c *Client) RevokeInvitation(ctx context.Context, id string) error {
	return c.on(ctx, "DELETE", nil, nil, "org", "invitations", id)
}

// on makes a call on the thing at "/v1" and parts, each one segment.
func (c *Client) on(ctx context.Context, method string, in, out any, parts ...string) error {
	path, err := escape(parts...)
	if err == nil {
		_, err = c.do(ctx, call{method: method, path: path, in: in, out: out})
	}
	return err
}
