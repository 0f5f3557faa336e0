package server

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/trail"
)

// audit answers the calls on the audit trail.
type audit struct{ reader *trail.Reader }

var jsonLines = httpx.ContentType{"application/x-ndjson"}

func (h audit) rows() []httpx.Row {
	rows := []httpx.Row{
		{Method: "GET", Pattern: "/v1/audit", Handler: httpx.NoBody(http.StatusOK, h.bare)},
		{Method: "GET", Pattern: "/.well-known/keyfold-audit.json", Who: httpx.Public, Handler: httpx.NoBody(http.StatusOK, h.keys)},
	}
	// An org's trail, and the server's own, which is for admin keys: see reads.
	for _, of := range []string{"/v1/audit", operators} {
		admin := of == operators
		rows = append(rows,
			httpx.Row{Method: "GET", Pattern: of + "/events", Admin: admin, Handler: httpx.NoBody(http.StatusOK, h.list)},
			httpx.Row{Method: "GET", Pattern: of + "/verify", Admin: admin, Timeout: time.Minute, Handler: httpx.NoBody(http.StatusOK, h.verify)},
			httpx.Row{Method: "GET", Pattern: of + "/export", Admin: admin, Timeout: time.Hour, Handler: httpx.Stream(jsonLines, h.export)})
	}
	return rows
}

// operators is where the server's own trail is.
const operators = "/admin/audit"

// reads lets nobody but operators read the server's own trail.
func reads(c *httpx.Call) error {
	if strings.Contains(c.Route(), operators) {
		return operates(c)
	}
	return nil
}

func (h audit) list(ctx context.Context, c *httpx.Call) (api.AuditEvents, error) {
	if err := reads(c); err != nil {
		return api.AuditEvents{}, err
	}
	q, limit, err := page(c)
	if err != nil {
		return api.AuditEvents{}, err
	}
	in := trail.Query{ResourceID: q.Get("resource_id"), VaultID: q.Get("vault_id"), ActorID: q.Get("actor_id"), Action: q.Get("action"), Limit: limit}
	if in.From, in.To, err = times(q); err != nil {
		return api.AuditEvents{}, err
	}
	if text := q.Get("offset"); text != "" {
		if in.Offset, err = strconv.Atoi(text); err != nil || in.Offset < 0 {
			return api.AuditEvents{}, fault.New(fault.Invalid, "offset must be a number from 0")
		}
	}
	return h.reader.List(ctx, c.Principal, in)
}

// bare is list for a published command line, which wants the array alone.
func (h audit) bare(ctx context.Context, c *httpx.Call) ([]api.AuditEvent, error) {
	out, err := h.list(ctx, c)
	return out.Events, err
}

func (h audit) verify(ctx context.Context, c *httpx.Call) (out api.AuditVerification, err error) {
	if err := reads(c); err != nil {
		return out, err
	}
	q, limit, err := page(c)
	if err != nil {
		return out, err
	}
	in := trail.VerifyQuery{Limit: limit}
	if in.From, in.To, err = times(q); err != nil {
		return out, err
	}
	return h.reader.Verify(ctx, c.Principal, in)
}

func (h audit) export(ctx context.Context, c *httpx.Call, w io.Writer) error {
	if err := reads(c); err != nil {
		return err
	}
	q, err := c.Query()
	if err != nil {
		return err
	}
	from, to, err := times(q)
	if err != nil {
		return err
	}
	return h.reader.Export(ctx, c.Principal, from, to, w)
}

func (h audit) keys(ctx context.Context, c *httpx.Call) (api.AuditKeys, error) {
	return h.reader.PublicKeys(ctx)
}

// times reads from and to; zero when absent.
func times(q url.Values) (from, to time.Time, err error) {
	for name, t := range map[string]*time.Time{"from": &from, "to": &to} {
		if text := q.Get(name); text != "" {
			if *t, err = time.Parse(time.RFC3339Nano, text); err != nil {
				return from, to, fault.New(fault.Invalid, "%s must be a time such as 2026-01-31T12:00:00Z", name)
			}
		}
	}
	return from, to, nil
}
