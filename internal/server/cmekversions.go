package server

import (
	"context"
	"net/http"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/vault"
)

// cmekVersions answers the calls of a client that re-encrypts a vault's
// versions itself and sends its keys nowhere.
type cmekVersions struct{ service *vault.Service }

func (h cmekVersions) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "GET", Pattern: "/v1/vaults/{vault}/cmek-versions", Handler: httpx.NoBody(http.StatusOK, h.list)},
		// The last segment of {path...} is the version.
		{Method: "PUT", Pattern: "/v1/vaults/{vault}/secret-version/{path...}", MaxBody: maxSecret, Timeout: time.Minute, Handler: httpx.Body(http.StatusOK, h.reencrypt)},
	}
}

func (h cmekVersions) list(ctx context.Context, c *httpx.Call) (api.CMEKVersions, error) {
	q, limit, err := page(c)
	if err != nil {
		return api.CMEKVersions{}, err
	}
	return h.service.CMEKVersions(ctx, c.Principal, c.Param("vault"), q.Get("fingerprint"), q.Get("cursor"), limit)
}

func (h cmekVersions) reencrypt(ctx context.Context, c *httpx.Call, req api.ReencryptVersion) (api.SecretMetadata, error) {
	path, n, err := splitVersion(c.Param("path"))
	if err != nil {
		return api.SecretMetadata{}, err
	}
	return h.service.ReencryptVersion(ctx, c.Principal, c.Param("vault"), path, n, req)
}
