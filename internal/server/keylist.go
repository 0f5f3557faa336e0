package server

import (
	"context"
	"net/http"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/keylist"
)

// keyList shows operators the KEKs, and the DEKs of threads.
type keyList struct{ service *keylist.Service }

func (h keyList) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "GET", Pattern: "/admin/encryption/keys", Admin: true, Timeout: time.Minute, Handler: httpx.NoBody(http.StatusOK, h.keks)},
		{Method: "GET", Pattern: "/admin/encryption/deks", Admin: true, Timeout: time.Minute, Handler: httpx.NoBody(http.StatusOK, h.deks)},
	}
}

func (h keyList) keks(ctx context.Context, c *httpx.Call) (api.EncryptionKeys, error) {
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
	return h.service.KEKs(ctx, keylist.Query{Limit: limit, Cursor: cursor, Count: count})
}

func (h keyList) deks(ctx context.Context, c *httpx.Call) (api.EncryptionDEKs, error) {
	if err := operates(c); err != nil {
		return api.EncryptionDEKs{}, err
	}
	q, err := c.Query()
	if err != nil {
		return api.EncryptionDEKs{}, err
	}
	return h.service.DEKs(ctx, q["thread_id"])
}
