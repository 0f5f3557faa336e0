package generationc

import (
	"context"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/thread"
)

var errTitle = fault.New(fault.Invalid, "title is required")

// threads answers the calls on threads.
type threads struct{ service *thread.Service }

func (h threads) create(ctx context.Context, c *httpx.Call, req titled) (keyOf, error) {
	if req.Title == nil {
		return keyOf{}, errTitle
	}
	idem.As(ctx, asKey)
	t, err := h.service.Create(ctx, c.Principal, api.CreateThread{Title: *req.Title})
	return keyOf{t.ID}, err
}

// asKey is a thread as this generation answers that it was changed.
func asKey(out any) any { return keyOf{out.(api.Thread).ID} }

func (h threads) list(ctx context.Context, c *httpx.Call) (threadList, error) {
	q, err := readQuery(c)
	if err != nil {
		return threadList{}, err
	}
	page, err := h.service.PageThreads(ctx, c.Principal, thread.ThreadQuery{
		Limit: q.limit, Before: q.before, After: q.after, Anchor: q.anchor, ByUpdated: q.byUpdated,
	})
	if err != nil {
		return threadList{}, err
	}
	out := threadList{[]threadText{}, pagination{HasBefore: page.HasBefore, HasAfter: page.HasAfter, Total: page.Total}}
	for _, t := range page.Threads {
		out.Threads = append(out.Threads, threadOf(t))
		out.Pagination.add(t.ID)
	}
	return out, nil
}

func (h threads) get(ctx context.Context, c *httpx.Call) (oneThread, error) {
	t, err := h.service.Get(ctx, c.Principal, c.Param("thread"))
	return oneThread{threadOf(t)}, err
}

func (h threads) rename(ctx context.Context, c *httpx.Call, req titled) (keyOf, error) {
	if req.Title == nil {
		return keyOf{}, errTitle
	}
	idem.As(ctx, asKey)
	t, err := h.service.Rename(ctx, c.Principal, c.Param("thread"), api.UpdateThread{Title: *req.Title})
	return keyOf{t.ID}, err
}

func (h threads) delete(ctx context.Context, c *httpx.Call) (keyOf, error) {
	idem.Echo(ctx, keyOf{c.Param("thread")})
	return keyOf{c.Param("thread")}, h.service.Delete(ctx, c.Principal, c.Param("thread"))
}

// signing signs user IDs.
type signing struct{ service *identity.Service }

func (h signing) sign(ctx context.Context, c *httpx.Call, req api.Sign) (api.Signed, error) {
	return h.service.Sign(ctx, c.Principal, req)
}
