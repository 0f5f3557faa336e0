package server

import (
	"cmp"
	"context"
	"errors"
	"net/http"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/identity"
)

// auth answers the calls on sign-up, sessions and the caller's own account.
type auth struct{ service *identity.Service }

func (h auth) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "POST", Pattern: "/v1/auth/signup", Who: httpx.Public, MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.signUp)},
		{Method: "POST", Pattern: "/v1/auth/token", Who: httpx.Public, MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.signIn)},
		{Method: "DELETE", Pattern: "/v1/auth/token", MaxBody: maxSmall, OptionalBody: true, Handler: httpx.Done(h.signOut)},
		{Method: "DELETE", Pattern: "/v1/auth/tokens", Handler: httpx.Empty(h.signOutEverywhere)},
		{Method: "POST", Pattern: "/v1/auth/refresh", Who: httpx.Public, MaxBody: maxSmall, Handler: httpx.Perhaps(http.StatusOK, h.refresh)},
		{Method: "GET", Pattern: "/v1/auth/me", Handler: httpx.NoBody(http.StatusOK, h.profile)},
		{Method: "PATCH", Pattern: "/v1/auth/me", MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.updateProfile)},
		{Method: "POST", Pattern: "/v1/auth/change-password", MaxBody: maxSmall, Handler: httpx.Done(h.changePassword)},
	}
}

// from is where a call came from that needs no principal.
func from(c *httpx.Call) identity.From {
	return identity.From{Addr: c.Addr, RequestID: c.RequestID()}
}

func (h auth) signUp(ctx context.Context, c *httpx.Call, req api.SignUp) (api.SignedUp, error) {
	b, err := browserOf(c)
	if err != nil {
		return api.SignedUp{}, err
	}
	out, err := h.service.SignUp(ctx, from(c), req)
	b.keep(&out.Token)
	return out, err
}

func (h auth) signIn(ctx context.Context, c *httpx.Call, req api.SignIn) (api.SignedIn, error) {
	b, err := browserOf(c)
	if err != nil {
		return api.SignedIn{}, err
	}
	out, err := h.service.SignIn(ctx, from(c), req)
	b.keep(&out.Token)
	return out, err
}

func (h auth) signOut(ctx context.Context, c *httpx.Call, req api.SignOut) error {
	b, err := browserOf(c)
	if err != nil {
		return err
	}
	if err := h.service.SignOut(ctx, c.Principal, c.Bearer(), cmp.Or(req.RefreshToken, b.kept())); err != nil {
		return err
	}
	b.forget()
	return nil
}

func (h auth) signOutEverywhere(ctx context.Context, c *httpx.Call) error {
	b, err := browserOf(c)
	if err != nil {
		return err
	}
	if err := h.service.SignOutEverywhere(ctx, c.Principal); err != nil {
		return err
	}
	b.forget()
	return nil
}

// refresh answers nothing to a browser that keeps no session: a page asks for one
// when it opens, and that there is none yet is no error.
func (h auth) refresh(ctx context.Context, c *httpx.Call, req api.Refresh) (*api.Token, error) {
	b, err := browserOf(c)
	if err != nil {
		return nil, err
	}
	text := cmp.Or(req.RefreshToken, b.kept())
	if b.call != nil && text == "" {
		return nil, nil
	}
	out, err := h.service.Refresh(ctx, from(c), text)
	if errors.Is(err, fault.Unauthenticated) {
		b.forget()
	}
	b.keep(&out)
	return &out, err
}

func (h auth) profile(ctx context.Context, c *httpx.Call) (api.Profile, error) {
	return h.service.Profile(ctx, c.Principal)
}

func (h auth) updateProfile(ctx context.Context, c *httpx.Call, req api.UpdateProfile) (api.Profile, error) {
	return h.service.UpdateProfile(ctx, c.Principal, req)
}

func (h auth) changePassword(ctx context.Context, c *httpx.Call, req api.ChangePassword) error {
	b, err := browserOf(c)
	if err != nil {
		return err
	}
	next, err := h.service.ChangePasswordAndGoOn(ctx, c.Principal, req, b.kept())
	b.keep(&api.Token{RefreshToken: next})
	return err
}
