package server

import (
	"context"
	"net/http"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/identity"
)

// mfa answers the calls on second factors.
type mfa struct{ service *identity.Service }

func (h mfa) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "POST", Pattern: "/v1/auth/mfa/totp", MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.begin)},
		{Method: "POST", Pattern: "/v1/auth/mfa/totp/confirm", MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.confirm)},
		{Method: "DELETE", Pattern: "/v1/auth/mfa/totp", MaxBody: maxSmall, Handler: httpx.Done(h.remove)},
		{Method: "POST", Pattern: "/v1/auth/mfa/verify", Who: httpx.Public, MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.verify)},
	}
}

func (h mfa) begin(ctx context.Context, c *httpx.Call, req api.BeginTOTP) (api.TOTP, error) {
	return h.service.BeginTOTP(ctx, c.Principal, req)
}

func (h mfa) confirm(ctx context.Context, c *httpx.Call, req api.TOTPCode) (api.RecoveryCodes, error) {
	return h.service.ConfirmTOTP(ctx, c.Principal, req.Code)
}

func (h mfa) remove(ctx context.Context, c *httpx.Call, req api.TOTPCode) error {
	return h.service.RemoveTOTP(ctx, c.Principal, req.Code)
}

func (h mfa) verify(ctx context.Context, c *httpx.Call, req api.VerifyMFA) (api.Token, error) {
	b, err := browserOf(c)
	if err != nil {
		return api.Token{}, err
	}
	out, err := h.service.VerifyMFA(ctx, from(c), req)
	b.keep(&out)
	return out, err
}
