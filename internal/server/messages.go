package server

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/thread"
)

// messages answers the calls on the messages of threads.
type messages struct{ service *thread.Service }

func (h messages) rows() []httpx.Row {
	const all, one = "/v1/threads/{thread}/messages", "/v1/threads/{thread}/messages/{message}"
	rows := []httpx.Row{
		{Method: "POST", Pattern: all, OwnOnce: true, MaxBody: maxMessage, FreeForm: true, Timeout: time.Minute, Handler: httpx.Body(http.StatusOK, h.post)},
		{Method: "GET", Pattern: all, Handler: httpx.NoBody(http.StatusOK, h.list)},
		{Method: "GET", Pattern: one, Handler: httpx.NoBody(http.StatusOK, h.get)},
		{Method: "PUT", Pattern: one, OwnOnce: true, MaxBody: maxMessage, FreeForm: true, Timeout: time.Minute, Handler: httpx.Body(http.StatusOK, h.edit)},
		{Method: "DELETE", Pattern: one, Handler: httpx.Empty(h.delete)},
		{Method: "GET", Pattern: one + "/versions", Handler: httpx.NoBody(http.StatusOK, h.versions)},
		{Method: "GET", Pattern: one + "/reactions", Handler: httpx.NoBody(http.StatusOK, h.reactions)},
		{Method: "POST", Pattern: one + "/reactions", MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.react)},
		{Method: "DELETE", Pattern: one + "/reactions/{identity}", Handler: httpx.Empty(h.unreact)},
		{Method: "POST", Pattern: "/v1/messages", MaxBody: maxMessage, FreeForm: true, Timeout: time.Minute, Handler: httpx.Body(http.StatusOK, h.postTo)},
		{Method: "GET", Pattern: "/v1/messages", Handler: httpx.NoBody(http.StatusOK, h.listOf)},
	}
	for i := range rows {
		rows[i].Keys = true
	}
	return rows
}

func (h messages) post(ctx context.Context, c *httpx.Call, req api.PostMessage) (json.RawMessage, error) {
	o, err := postOptions(c)
	if err != nil {
		return nil, err
	}
	return h.service.PostWith(ctx, c.Principal, c.Param("thread"), req, o)
}

func (h messages) postTo(ctx context.Context, c *httpx.Call, req api.PostToThread) (json.RawMessage, error) {
	o, err := postOptions(c)
	switch {
	case err != nil:
		return nil, err
	case req.Thread != "":
		idem.Skip(ctx)
		return h.service.PostWith(ctx, c.Principal, req.Thread, req.PostMessage, o)
	}
	return h.service.PostFirst(ctx, c.Principal, req.PostMessage, o)
}

func postOptions(c *httpx.Call) (thread.PostOptions, error) {
	key, err := c.Guard(api.HeaderIdempotencyKey)
	return thread.PostOptions{IdempotencyKey: key, Again: c.Replayed}, err
}

func (h messages) list(ctx context.Context, c *httpx.Call) (json.RawMessage, error) {
	q, limit, err := page(c)
	if err != nil {
		return nil, err
	}
	return h.pageOf(ctx, c, c.Param("thread"), q, limit)
}

func (h messages) listOf(ctx context.Context, c *httpx.Call) (json.RawMessage, error) {
	q, limit, err := page(c)
	if err != nil {
		return nil, err
	}
	if q.Get("thread") == "" {
		return nil, fault.New(fault.Invalid, "name the thread: ?thread=ID")
	}
	return h.pageOf(ctx, c, q.Get("thread"), q, limit)
}

func (h messages) pageOf(ctx context.Context, c *httpx.Call, threadID string, q url.Values, limit int) (json.RawMessage, error) {
	deleted, err := yes(q, "include_deleted")
	if err != nil {
		return nil, err
	}
	return h.service.ListMessages(ctx, c.Principal, threadID, thread.MessageQuery{
		Limit: limit, Before: q.Get("before"), After: q.Get("after"), IncludeDeleted: deleted,
	})
}

// yes reads a parameter that is true or false; absent: false.
func yes(q url.Values, name string) (bool, error) {
	if q.Get(name) == "" {
		return false, nil
	}
	is, err := strconv.ParseBool(q.Get(name))
	if err != nil {
		return false, fault.New(fault.Invalid, "%s must be true or false", name)
	}
	return is, nil
}

func (h messages) get(ctx context.Context, c *httpx.Call) (json.RawMessage, error) {
	return h.service.GetMessage(ctx, c.Principal, c.Param("thread"), c.Param("message"))
}

func (h messages) edit(ctx context.Context, c *httpx.Call, req api.EditMessage) (json.RawMessage, error) {
	o, err := postOptions(c)
	if err != nil {
		return nil, err
	}
	return h.service.EditWith(ctx, c.Principal, c.Param("thread"), c.Param("message"), req, o)
}

func (h messages) delete(ctx context.Context, c *httpx.Call) error {
	return h.service.DeleteMessage(ctx, c.Principal, c.Param("thread"), c.Param("message"))
}

func (h messages) versions(ctx context.Context, c *httpx.Call) (json.RawMessage, error) {
	q, limit, err := page(c)
	if err != nil {
		return nil, err
	}
	return h.service.ListVersions(ctx, c.Principal, c.Param("thread"), c.Param("message"), limit, q.Get("cursor"))
}

func (h messages) reactions(ctx context.Context, c *httpx.Call) (api.Reactions, error) {
	return h.service.ListReactions(ctx, c.Principal, c.Param("thread"), c.Param("message"))
}

// react takes the identity from the header where the body has none.
func (h messages) react(ctx context.Context, c *httpx.Call, req api.React) (json.RawMessage, error) {
	identity, err := c.Guard(headerIdentity)
	switch {
	case err != nil:
		return nil, err
	case req.ID == "":
		req.ID = identity
	case identity != "" && identity != req.ID:
		return nil, fault.New(fault.Invalid, "%s and id name two identities; name one", headerIdentity)
	}
	return h.service.React(ctx, c.Principal, c.Param("thread"), c.Param("message"), api.Reaction(req))
}

// headerIdentity says whose a reaction is.
const headerIdentity = "X-Identity"

func (h messages) unreact(ctx context.Context, c *httpx.Call) error {
	return h.service.Unreact(ctx, c.Principal, c.Param("thread"), c.Param("message"), c.Param("identity"))
}
