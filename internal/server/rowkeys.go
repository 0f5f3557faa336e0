package server

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/thread"
)

// rowKeys shows an operator the rows of the store that he may see (layout.Shown), as
// they lie. All others are to him as if they were not there.
type rowKeys struct {
	store store.Store
	gate  access.Gate
}

func (h rowKeys) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "GET", Pattern: "/admin/keys", Admin: true, Handler: httpx.NoBody(http.StatusOK, h.list)},
		{Method: "GET", Pattern: "/admin/keys/{name...}", Admin: true, Handler: h.show},
	}
}

// Bounds of a page of names. The store reads values with them.
const (
	maxNames     = 1000
	maxNameBytes = 16 << 20
)

func (h rowKeys) list(ctx context.Context, c *httpx.Call) (api.StoreKeys, error) {
	limit, cursor, err := shows(c)
	if err != nil {
		return api.StoreKeys{}, err
	}
	q, err := c.Query()
	if err != nil {
		return api.StoreKeys{}, err
	}
	if limit == 0 {
		limit = 100
	}
	if limit > maxNames {
		return api.StoreKeys{}, fault.New(fault.Invalid, "limit must be 1 to %d", maxNames)
	}
	out := api.StoreKeys{Keys: []string{}}
	for _, shown := range layout.Shown() {
		rng, ok := within(shown, q.Get("prefix"), cursor)
		if !ok {
			continue
		}
		opt := store.ScanOptions{Limit: limit - len(out.Keys), MaxBytes: maxNameBytes}
		recs, err := h.store.Scan(ctx, rng, opt)
		if err != nil {
			return api.StoreKeys{}, store.Fault(err)
		}
		size := 0
		for _, rec := range recs {
			out.Keys, size = append(out.Keys, rec.Key), size+len(rec.Value)
		}
		if opt.Full(len(recs), size) {
			out.Pagination.HasMore, out.Pagination.NextCursor = true, out.Keys[len(out.Keys)-1]
			break
		}
	}
	out.Pagination.Count = len(out.Keys)
	return out, nil
}

// within is what begins with both, after the cursor; ok is false when nothing does.
// What is shown and is no beginning is one key.
func within(shown, prefix, cursor string) (rng store.Range, ok bool) {
	switch {
	case strings.HasPrefix(prefix, shown) && strings.HasSuffix(shown, ":"):
		rng = store.Prefix(prefix)
	case !strings.HasPrefix(shown, prefix):
		return rng, false
	case strings.HasSuffix(shown, ":"):
		rng = store.Prefix(shown)
	default:
		rng = store.Range{Start: shown, End: shown + "\x00"}
	}
	if cursor >= rng.Start {
		rng.Start = cursor + "\x00"
	}
	return rng, rng.Start < rng.End
}

// isShown reports whether an operator may see the row of this name.
func isShown(name string) bool {
	for _, shown := range layout.Shown() {
		if name == shown || strings.HasSuffix(shown, ":") && strings.HasPrefix(name, shown) {
			return true
		}
	}
	return false
}

var errNoRow = fault.New(fault.NotFound, "there is no such row that is shown to operators; look at GET /admin/keys")

func (h rowKeys) show(ctx context.Context, c *httpx.Call) error {
	name := c.Param("name")
	what := access.Resource{Type: "row", As: "row.raw"}
	if kind, rest, _ := strings.Cut(name, ":"); isShown(name) {
		what.Details = map[string]string{"kind": kind}
		of, _, _ := strings.Cut(rest, ":")
		what.ID = recorded(of)
	}
	if err := h.gate.Check(ctx, c.Principal, access.Operate, what); err != nil {
		return err
	}
	if !isShown(name) {
		return errNoRow
	}
	rec, err := h.store.Get(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return errNoRow
	} else if err != nil {
		return store.Fault(err)
	}
	if err := thread.CheckSealed(rec); err != nil {
		return err
	}
	c.Send(http.StatusOK, rawType, rec.Value)
	return nil
}
