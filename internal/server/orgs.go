package server

import (
	"context"
	"net/http"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/identity"
)

// orgs answers the calls on the caller's org, its members and invitations.
type orgs struct{ service *identity.Service }

func (h orgs) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "GET", Pattern: "/v1/org", Handler: httpx.NoBody(http.StatusOK, h.get)},
		{Method: "GET", Pattern: "/v1/org/members", Handler: httpx.NoBody(http.StatusOK, h.members)},
		{Method: "PATCH", Pattern: "/v1/org/members/{user}", MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.setRole)},
		{Method: "DELETE", Pattern: "/v1/org/members/{user}", Handler: httpx.Empty(h.remove)},
		{Method: "POST", Pattern: "/v1/org/invitations", MaxBody: maxSmall, Handler: httpx.Body(http.StatusCreated, h.invite)},
		{Method: "GET", Pattern: "/v1/org/invitations", Handler: httpx.NoBody(http.StatusOK, h.invitations)},
		{Method: "DELETE", Pattern: "/v1/org/invitations/{invitation}", Handler: httpx.Empty(h.uninvite)},
	}
}

func (h orgs) get(ctx context.Context, c *httpx.Call) (api.Org, error) {
	return h.service.OwnOrg(ctx, c.Principal)
}

func (h orgs) members(ctx context.Context, c *httpx.Call) (api.Members, error) {
	return h.service.Members(ctx, c.Principal)
}

func (h orgs) setRole(ctx context.Context, c *httpx.Call, req api.UpdateMember) (api.Member, error) {
	return h.service.SetRole(ctx, c.Principal, c.Param("user"), access.Role(req.Role))
}

func (h orgs) remove(ctx context.Context, c *httpx.Call) error {
	return h.service.RemoveMember(ctx, c.Principal, c.Param("user"))
}

func (h orgs) invite(ctx context.Context, c *httpx.Call, req api.CreateInvitation) (api.InvitationCreated, error) {
	return h.service.Invite(ctx, c.Principal, req)
}

func (h orgs) invitations(ctx context.Context, c *httpx.Call) (api.Invitations, error) {
	return h.service.Invitations(ctx, c.Principal)
}

func (h orgs) uninvite(ctx context.Context, c *httpx.Call) error {
	return h.service.Uninvite(ctx, c.Principal, c.Param("invitation"))
}
