package server

import (
	"context"
	"net/url"
	"strconv"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/thread"
)

// threads answers the calls on threads; see messages too.
type threads struct{ service *thread.Service }

func (h threads) create(ctx context.Context, c *httpx.Call, req api.CreateThread) (api.Thread, error) {
	return h.service.Create(ctx, c.Principal, req)
}

func (h threads) list(ctx context.Context, c *httpx.Call) (api.Threads, error) {
	q, limit, err := page(c)
	if err != nil {
		return api.Threads{}, err
	}
	return h.service.List(ctx, c.Principal, thread.ListQuery{
		Title: q.Get("title"), Slug: q.Get("slug"), Limit: limit, Cursor: q.Get("cursor"),
	})
}

func (h threads) get(ctx context.Context, c *httpx.Call) (api.Thread, error) {
	return h.service.Get(ctx, c.Principal, c.Param("thread"))
}

// retitled is an api.UpdateThread that may lack its title, which would be taken away.
type retitled struct {
	Title *string `json:"title"`
}

func (h threads) update(ctx context.Context, c *httpx.Call, req retitled) (api.Thread, error) {
	if req.Title == nil {
		return api.Thread{}, fault.New(fault.Invalid, "title is required")
	}
	return h.service.Rename(ctx, c.Principal, c.Param("thread"), api.UpdateThread{Title: *req.Title})
}

func (h threads) delete(ctx context.Context, c *httpx.Call) error {
	return h.service.Delete(ctx, c.Principal, c.Param("thread"))
}

// flag reads a query parameter that is true or false; absent it is false.
func flag(q url.Values, name string) (bool, error) {
	switch q.Get(name) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, fault.New(fault.Invalid, "%s is true or false", name)
}

// page reads the query and its limit, which is 0 when absent. The domain knows
// how great a limit may be.
func page(c *httpx.Call) (url.Values, int, error) {
	q, err := c.Query()
	if err != nil || !q.Has("limit") {
		return q, 0, err
	}
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit < 1 {
		return nil, 0, fault.New(fault.Invalid, "limit must be a number from 1")
	}
	return q, limit, nil
}
