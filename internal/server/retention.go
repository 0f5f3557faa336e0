package server

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/thread"
)

// retention answers the calls on how long threads and messages are kept.
type retention struct {
	admin
	threads *thread.Service
}

func (h retention) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "GET", Pattern: "/v1/retention", Handler: httpx.NoBody(http.StatusOK, h.get)},
		{Method: "PUT", Pattern: "/v1/retention", MaxBody: maxSmall, Strict: true, Handler: httpx.Body(http.StatusOK, h.set)},
		{Method: "GET", Pattern: "/v1/retention/preview", Timeout: time.Minute, Handler: httpx.NoBody(http.StatusOK, h.preview)},
		{Method: "GET", Pattern: "/v1/threads/{thread}/hold", Handler: httpx.NoBody(http.StatusOK, h.held)},
		{Method: "PUT", Pattern: "/v1/threads/{thread}/hold", MaxBody: maxSmall, OptionalBody: true, Handler: httpx.Body(http.StatusOK, h.hold)},
		{Method: "DELETE", Pattern: "/v1/threads/{thread}/hold", Handler: httpx.Empty(h.release)},
		{Method: "POST", Pattern: "/admin/jobs/purge", Admin: true, Handler: httpx.NoBody(http.StatusOK, h.purge)},
	}
}

func (h retention) get(ctx context.Context, c *httpx.Call) (api.Retention, error) {
	return h.threads.Retention(ctx, c.Principal)
}

func (h retention) set(ctx context.Context, c *httpx.Call, req api.Retention) (api.Retention, error) {
	return h.threads.SetRetention(ctx, c.Principal, req)
}

func (h retention) preview(ctx context.Context, c *httpx.Call) (api.RetentionPreview, error) {
	q, err := c.Query()
	if err != nil {
		return api.RetentionPreview{}, err
	}
	try, err := tried(q)
	if err != nil {
		return api.RetentionPreview{}, err
	}
	return h.threads.PreviewRetention(ctx, c.Principal, try)
}

// tried is the policy that the query asks about; nil: that which there is.
func tried(q url.Values) (*api.Retention, error) {
	if !q.Has("deleted_days") && !q.Has("message_days") {
		return nil, nil
	}
	var try api.Retention
	for name, days := range map[string]*int{"deleted_days": &try.DeletedDays, "message_days": &try.MessageDays} {
		if !q.Has(name) {
			continue
		}
		n, err := strconv.Atoi(q.Get(name))
		if err != nil {
			return nil, fault.New(fault.Invalid, "%s must be a number of days", name)
		}
		*days = n
	}
	return &try, nil
}

func (h retention) hold(ctx context.Context, c *httpx.Call, req api.PutHold) (api.Hold, error) {
	return h.threads.Hold(ctx, c.Principal, c.Param("thread"), req)
}

func (h retention) held(ctx context.Context, c *httpx.Call) (api.Hold, error) {
	return h.threads.GetHold(ctx, c.Principal, c.Param("thread"))
}

func (h retention) release(ctx context.Context, c *httpx.Call) error {
	return h.threads.Release(ctx, c.Principal, c.Param("thread"))
}

func (h retention) purge(ctx context.Context, c *httpx.Call) (api.PurgeStarted, error) {
	if err := h.gate.Check(ctx, c.Principal, access.Operate, access.Resource{Type: "job", As: "retention.purge"}); err != nil {
		return api.PurgeStarted{}, err
	}
	j, err := h.threads.StartPurge(ctx, h.jobs)
	if err != nil {
		return api.PurgeStarted{}, err
	}
	return api.PurgeStarted{Status: "ok", Message: "retention runs; its progress is at /admin/jobs/" + j.ID, JobID: j.ID}, nil
}
