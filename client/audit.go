package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/keyfold/keyfold/api"
)

// AuditQuery selects events. The zero value selects all that the caller may see.
type AuditQuery struct {
	ResourceID string // of the resource, or of the vault that it is in
	ActorID    string
	Action     string    // such as "secret.read"
	From, To   time.Time // From <= time < To; zero: no bound
	Limit      int       // of one page, at most 1000; 0: 100
	Offset     int       // how many to pass over, at most 10000

	// Operator asks for the server's own trail, of what operators did, instead of
	// the org's. It needs an admin key.
	Operator bool
}

// path is where the trail is.
func (q AuditQuery) path(what string) string {
	if q.Operator {
		return "/admin/audit/" + what
	}
	return "/v1/audit/" + what
}

func (q AuditQuery) values() url.Values {
	v := url.Values{}
	set(v, "resource_id", q.ResourceID)
	set(v, "actor_id", q.ActorID)
	set(v, "action", q.Action)
	setInt(v, "limit", q.Limit)
	setInt(v, "offset", q.Offset)
	setTime(v, "from", q.From)
	setTime(v, "to", q.To)
	return v
}

func setTime(q url.Values, name string, t time.Time) {
	if !t.IsZero() {
		q.Set(name, t.UTC().Format(time.RFC3339Nano))
	}
}

// AuditPage returns a page of events, newest first. Where it has NextTo, go on
// from there, also when it is empty.
func (c *Client) AuditPage(ctx context.Context, q AuditQuery) (api.AuditEvents, error) {
	return ask[api.AuditEvents](ctx, c, call{method: "GET", path: q.path("events"), query: q.values()})
}

const (
	auditPage   = 1000
	auditOffset = 10000 // the greatest
)

// AuditEvents returns the newest n events that q selects, however many pages
// that takes. Limit of q is not looked at.
func (c *Client) AuditEvents(ctx context.Context, q AuditQuery, n int) ([]api.AuditEvent, error) {
	var all []api.AuditEvent
	for len(all) < n {
		q.Limit = min(auditPage, n-len(all))
		page, err := c.AuditPage(ctx, q)
		if err != nil {
			return all, err
		}
		all = append(all, page.Events...)
		switch next := q.Offset + len(page.Events); {
		case page.NextTo != nil && page.NextTo.Equal(q.To) && page.NextOffset == q.Offset:
			return all, errNoProgress
		case page.NextTo != nil:
			q.To, q.Offset = *page.NextTo, page.NextOffset
		case len(page.Events) < q.Limit:
			return all, nil
		case next <= auditOffset:
			q.Offset = next
		default:
			return all, errors.New("client: there are more events than can be listed at once; ask for a shorter time")
		}
	}
	return all, nil
}

// VerifyAudit has the server check the trail: from q.From on, or without it the
// newest events before q.To. At most q.Limit (10000; 0: 1000) are checked. Of q
// only these and Operator are looked at.
func (c *Client) VerifyAudit(ctx context.Context, q AuditQuery) (api.AuditVerification, error) {
	return ask[api.AuditVerification](ctx, c, call{method: "GET", path: q.path("verify"), query: AuditQuery{From: q.From, To: q.To, Limit: q.Limit}.values()})
}

// AuditKeys returns the keys that sign the trail's checkpoints, newest first. It
// needs no credential.
func (c *Client) AuditKeys(ctx context.Context) ([]api.AuditKey, error) {
	out, err := ask[api.AuditKeys](ctx, c, call{method: "GET", path: "/.well-known/keyfold-audit.json", public: true})
	return out.Keys, err
}

// ExportAudit returns the trail of q.From <= time < q.To, zero: no bound, as
// package auditcheck reads it; of q only these and Operator are looked at. The
// caller closes it. An export that ends without
// its last line, which has the member end, is cut off.
func (c *Client) ExportAudit(ctx context.Context, q AuditQuery) (io.ReadCloser, error) {
	return c.stream(ctx, call{method: "GET", path: q.path("export"), query: AuditQuery{From: q.From, To: q.To}.values()})
}

// stream makes a call, once, whose answer is read as it comes, however long.
func (c *Client) stream(ctx context.Context, cl call) (io.ReadCloser, error) {
	bearer, err := c.bearer(ctx)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, cl.method, c.base+cl.path, nil)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	req.URL.RawQuery = cl.query.Encode()
	c.setHeaders(req, bearer, false)
	req.Header.Set("Accept", "*/*")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("client: calling %s: %w", c.base, cause(err))
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("client: reading the answer to %s %s: %w", cl.method, cl.path, err)
	}
	return nil, problem(&response{resp.StatusCode, resp.Header, body})
}
