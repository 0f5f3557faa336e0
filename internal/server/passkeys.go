package server

import (
	"context"
	"net/http"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/passkey"
)

// passkeys answers the calls on passkeys, and signs in by them.
type passkeys struct{ service *passkey.Service }

func (h passkeys) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "POST", Pattern: "/v1/auth/passkeys/register/begin", Handler: httpx.NoBody(http.StatusOK, h.beginRegister)},
		{Method: "POST", Pattern: "/v1/auth/passkeys/register/finish", MaxBody: maxSmall, Handler: httpx.Body(http.StatusCreated, h.finishRegister)},
		{Method: "GET", Pattern: "/v1/auth/passkeys", Handler: httpx.NoBody(http.StatusOK, h.list)},
		{Method: "DELETE", Pattern: "/v1/auth/passkeys/{passkey}", Handler: httpx.Empty(h.delete)},
		{Method: "POST", Pattern: "/v1/auth/passkeys/login/begin", Who: httpx.Public, Handler: httpx.NoBody(http.StatusOK, h.beginLogin)},
		{Method: "POST", Pattern: "/v1/auth/passkeys/login/finish", Who: httpx.Public, MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.finishLogin)},
	}
}

func (h passkeys) beginRegister(ctx context.Context, c *httpx.Call) (api.PasskeyChallenge, error) {
	return h.service.BeginRegister(ctx, c.Principal)
}

func (h passkeys) finishRegister(ctx context.Context, c *httpx.Call, req api.FinishPasskey) (api.Passkey, error) {
	return h.service.FinishRegister(ctx, c.Principal, req)
}

func (h passkeys) list(ctx context.Context, c *httpx.Call) (api.Passkeys, error) {
	return h.service.List(ctx, c.Principal)
}

func (h passkeys) delete(ctx context.Context, c *httpx.Call) error {
	return h.service.Delete(ctx, c.Principal, c.Param("passkey"))
}

func (h passkeys) beginLogin(ctx context.Context, _ *httpx.Call) (api.PasskeyChallenge, error) {
	return h.service.BeginLogin(ctx)
}

func (h passkeys) finishLogin(ctx context.Context, c *httpx.Call, req api.FinishPasskey) (api.Token, error) {
	b, err := browserOf(c)
	if err != nil {
		return api.Token{}, err
	}
	out, err := h.service.FinishLogin(ctx, from(c), req)
	b.keep(&out)
	return out, err
}
