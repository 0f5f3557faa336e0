package server

import (
	"context"
	"net/http"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/token"
)

// tokens shows the keys that verify access tokens, to anybody, and lets operators
// rotate them.
type tokens struct {
	service *token.Service
	gate    access.Gate
}

func (h tokens) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "GET", Pattern: "/.well-known/jwks.json", Who: httpx.Public, Handler: httpx.NoBody(http.StatusOK, h.jwks)},
		{Method: "GET", Pattern: "/v1/auth/jwt-public-key", Who: httpx.Public, Handler: httpx.NoBody(http.StatusOK, h.publicKey)},
		{Method: "POST", Pattern: "/admin/token-keys/rotate", Admin: true, MaxBody: maxSmall, OptionalBody: true, Handler: httpx.Done(h.rotate)},
	}
}

func (h tokens) rotate(ctx context.Context, c *httpx.Call, in api.RotateTokenKey) error {
	what, do := access.Resource{Type: "token_key", As: "token_key.rotate"}, h.service.Rotate
	if in.Replace {
		what.As, do = "token_key.replace", h.service.Replace
	}
	if err := h.gate.Check(ctx, c.Principal, access.Operate, what); err != nil {
		return err
	}
	return do(ctx)
}

func (h tokens) jwks(ctx context.Context, c *httpx.Call) (api.JWKS, error) {
	out, err := h.service.JWKS(ctx)
	return cached(c, out, err)
}

func (h tokens) publicKey(ctx context.Context, c *httpx.Call) (api.PublicKey, error) {
	out, err := h.service.PublicKey(ctx)
	return cached(c, out, err)
}

// cached lets others keep what is answered without an error for five minutes. A
// new key is shown for twice as long before it signs.
func cached[Out any](c *httpx.Call, out Out, err error) (Out, error) {
	if err == nil {
		c.SetHeader("Cache-Control", "public, max-age=300")
	}
	return out, err
}
