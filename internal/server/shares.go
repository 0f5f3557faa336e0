package server

import (
	"context"
	"net/http"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/share"
)

// shares answers the calls on shares. Opening one is public, and yet a
// credential that comes along counts: a share may be for its principal.
type shares struct{ service *share.Service }

func (h shares) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "POST", Pattern: "/v1/secrets/{secret}/share", MaxBody: maxSmall, Handler: httpx.Body(http.StatusCreated, h.create)},
		{Method: "GET", Pattern: "/v1/share/{share}", Who: httpx.Public, Optional: true, Handler: httpx.NoBody(http.StatusOK, h.get)},
		{Method: "POST", Pattern: "/v1/share/{share}", Who: httpx.Public, Optional: true, MaxBody: maxSmall, OptionalBody: true, Handler: httpx.Body(http.StatusOK, h.open)},
		{Method: "DELETE", Pattern: "/v1/share/{share}", Handler: httpx.Empty(h.revoke)},
		{Method: "GET", Pattern: "/v1/shares/outbound", Handler: httpx.NoBody(http.StatusOK, h.outbound)},
		{Method: "GET", Pattern: "/v1/shares/inbound", Handler: httpx.NoBody(http.StatusOK, h.inbound)},
		{Method: "POST", Pattern: "/v1/shares/{share}/accept", Handler: httpx.Empty(h.accept)},
		{Method: "POST", Pattern: "/v1/shares/{share}/decline", Handler: httpx.Empty(h.decline)},
	}
}

func (h shares) create(ctx context.Context, c *httpx.Call, req api.CreateShare) (api.CreatedShare, error) {
	return h.service.Create(ctx, c.Principal, c.Param("secret"), req)
}

func (h shares) get(ctx context.Context, c *httpx.Call) (api.SharedSecret, error) {
	passphrase, err := c.Guard(api.HeaderSharePassphrase)
	if err != nil {
		return api.SharedSecret{}, err
	}
	return h.openWith(ctx, c, passphrase)
}

func (h shares) open(ctx context.Context, c *httpx.Call, req api.OpenShare) (api.SharedSecret, error) {
	return h.openWith(ctx, c, req.Passphrase)
}

func (h shares) openWith(ctx context.Context, c *httpx.Call, passphrase string) (api.SharedSecret, error) {
	out, err := h.service.Open(ctx, c.Principal, c.Param("share"), passphrase)
	if out.CMEKFingerprint != "" {
		c.SetHeader(api.HeaderCMEKFingerprint, out.CMEKFingerprint)
	}
	return out, err
}

func (h shares) revoke(ctx context.Context, c *httpx.Call) error {
	return h.service.Revoke(ctx, c.Principal, c.Param("share"))
}

func (h shares) outbound(ctx context.Context, c *httpx.Call) (api.Shares, error) {
	return h.service.Outbound(ctx, c.Principal)
}

func (h shares) inbound(ctx context.Context, c *httpx.Call) (api.Shares, error) {
	return h.service.Inbound(ctx, c.Principal)
}

func (h shares) accept(ctx context.Context, c *httpx.Call) error {
	return h.service.Accept(ctx, c.Principal, c.Param("share"))
}

func (h shares) decline(ctx context.Context, c *httpx.Call) error {
	return h.service.Decline(ctx, c.Principal, c.Param("share"))
}
