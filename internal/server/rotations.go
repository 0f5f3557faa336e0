package server

import (
	"context"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/vault"
)

// rotations answers the calls on the CMEK state of vaults, and on its rotation.
type rotations struct {
	service *vault.Rotations
	maxAge  int64 // see api.KeyAges
}

func (h rotations) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "GET", Pattern: "/v1/vaults/{vault}/cmek", Timeout: time.Minute, Handler: httpx.NoBody(http.StatusOK, h.status)},
		{Method: "POST", Pattern: "/v1/vaults/{vault}/cmek-rotate", MaxBody: maxSmall, Handler: httpx.Body(http.StatusAccepted, h.rotate)},
		{Method: "GET", Pattern: "/v1/vaults/{vault}/cmek-rotate-key", Handler: httpx.NoBody(http.StatusOK, h.key)},
		{Method: "GET", Pattern: "/v1/vaults/{vault}/cmek-rotate/{job}", Handler: httpx.NoBody(http.StatusOK, h.get)},
		{Method: "DELETE", Pattern: "/v1/vaults/{vault}/cmek-rotate/{job}", Handler: httpx.NoBody(http.StatusOK, h.cancel)},
		{Method: "GET", Pattern: "/v1/vaults/{vault}/cmek-rotations", Handler: httpx.NoBody(http.StatusOK, h.list)},
	}
}

// status scans the vault for the inventory, unless the query has keys=false.
func (h rotations) status(ctx context.Context, c *httpx.Call) (api.CMEKStatus, error) {
	q, err := c.Query()
	if err != nil {
		return api.CMEKStatus{}, err
	}
	switch q.Get("keys") {
	case "", "true", "false":
		s, err := h.service.Status(ctx, c.Principal, c.Param("vault"), q.Get("keys") != "false")
		if s.Enabled {
			s.MaxAge = h.maxAge
		}
		return s, err
	}
	return api.CMEKStatus{}, fault.New(fault.Invalid, "keys is true or false")
}

func (h rotations) rotate(ctx context.Context, c *httpx.Call, req api.RotateCMEK) (api.CMEKRotationJob, error) {
	keys, err := rotationKeys(c)
	if err != nil {
		return api.CMEKRotationJob{}, err
	}
	j, err := h.service.Rotate(ctx, c.Principal, c.Param("vault"), req, keys)
	if err == nil {
		c.SetHeader("Location", "/v1/vaults/"+j.VaultID+"/cmek-rotate/"+j.ID)
	}
	return j, err
}

// rotationKeys takes the two keys out of the headers, where they may be.
func rotationKeys(c *httpx.Call) (k vault.RotationKeys, err error) {
	if !c.Private() && (c.Header(api.HeaderCMEKOldKey) != "" || c.Header(api.HeaderCMEKNewKey) != "") {
		return k, errTransport
	}
	if k.Old, err = rotationKey(c, api.HeaderCMEKOldKey, api.ProblemCMEKOldKey); err == nil {
		k.New, err = rotationKey(c, api.HeaderCMEKNewKey, api.ProblemCMEKNewKey)
	}
	if err != nil {
		clear(k.Old)
	}
	return k, err
}

// rotationKey reads one of them; nil when there is no such header.
func rotationKey(c *httpx.Call, header, problem string) ([]byte, error) {
	text, err := c.Secret(header)
	if err != nil || text == "" {
		return nil, err
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != 32 {
		clear(raw)
		return nil, fault.New(fault.Invalid, "the header %s must be standard base64 of 32 bytes", header).WithType(problem)
	}
	return raw, nil
}

var errTransport = fault.New(fault.Invalid, "keys are taken over TLS, from this machine, or from a trusted proxy alone, and these came over plain HTTP: take both for known to others; "+
	"use https, or sealed_keys").WithType(api.ProblemCMEKTransport)

func (h rotations) key(ctx context.Context, c *httpx.Call) (api.CMEKRotationKey, error) {
	return h.service.Key(ctx, c.Principal, c.Param("vault"))
}

func (h rotations) get(ctx context.Context, c *httpx.Call) (api.CMEKRotationJob, error) {
	return h.service.Rotation(ctx, c.Principal, c.Param("vault"), c.Param("job"))
}

func (h rotations) cancel(ctx context.Context, c *httpx.Call) (api.CMEKRotationJob, error) {
	return h.service.CancelRotation(ctx, c.Principal, c.Param("vault"), c.Param("job"))
}

func (h rotations) list(ctx context.Context, c *httpx.Call) (api.CMEKRotations, error) {
	return h.service.ListRotations(ctx, c.Principal, c.Param("vault"))
}
