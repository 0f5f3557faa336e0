package server

import (
	"context"
	"net/http"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/keklist"
)

// keks shows operators the KEKs.
type keks struct{ service *keklist.Service }

func (h keks) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "GET", Pattern: "/admin/encryption/keys", Admin: true, Timeout: time.Minute, Handler: httpx.NoBody(http.StatusOK, h.list)},
	}
}

func (h keks) list(ctx context.Context, c *httpx.Call) (api.EncryptionKeys, error) {
	limit, cursor, err := shows(c)
	if err != nil {
		return api.EncryptionKeys{}, err
	}
	q, err := c.Query()
	if err != nil {
		return api.EncryptionKeys{}, err
	}
	count, err := flag(q, "count")
	if err != nil {
		return api.EncryptionKeys{}, err
	}
	return h.service.List(ctx, keklist.Query{Limit: limit, Cursor: cursor, Count: count})
}
