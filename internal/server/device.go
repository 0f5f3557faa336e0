package server

import (
	"context"
	"net/http"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/device"
	"github.com/keyfold/keyfold/internal/httpx"
)

// devices answers the calls by which a device without a browser signs in.
type devices struct{ service *device.Service }

func (h devices) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "POST", Pattern: "/v1/auth/device/code", Who: httpx.Public, MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.code)},
		{Method: "POST", Pattern: "/v1/auth/device/token", Who: httpx.Public, MaxBody: maxSmall, ErrorIsType: true, Handler: httpx.Body(http.StatusOK, h.token)},
		{Method: "GET", Pattern: "/v1/auth/device/code/{code}", Handler: httpx.NoBody(http.StatusOK, h.look)},
		{Method: "POST", Pattern: "/v1/auth/device/code/{code}/approve", Handler: httpx.Empty(h.approve)},
		{Method: "POST", Pattern: "/v1/auth/device/code/{code}/deny", Handler: httpx.Empty(h.deny)},
	}
}

func (h devices) code(ctx context.Context, c *httpx.Call, req api.RequestDeviceCode) (api.DeviceCode, error) {
	return h.service.Code(ctx, req, from(c))
}

func (h devices) token(ctx context.Context, c *httpx.Call, req api.RequestDeviceToken) (api.DeviceToken, error) {
	return h.service.Token(ctx, req, from(c))
}

func (h devices) look(ctx context.Context, c *httpx.Call) (api.DeviceRequest, error) {
	return h.service.Look(ctx, c.Principal, c.Param("code"))
}

func (h devices) approve(ctx context.Context, c *httpx.Call) error {
	return h.service.Approve(ctx, c.Principal, c.Param("code"))
}

func (h devices) deny(ctx context.Context, c *httpx.Call) error {
	return h.service.Deny(ctx, c.Principal, c.Param("code"))
}
