package generationc

import (
	"context"
	stdjson "encoding/json"

	"github.com/go-json-experiment/json"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/thread"
)

// messages answers the calls on the messages of threads.
type messages struct{ service *thread.Service }

func (h messages) post(ctx context.Context, c *httpx.Call, req posted) (keyOf, error) {
	once, err := c.Guard(api.HeaderIdempotencyKey)
	if err != nil {
		return keyOf{}, err
	}
	text, err := h.service.PostWith(ctx, c.Principal, c.Param("thread"), api.PostMessage{Body: req.Body}, thread.PostOptions{IdempotencyKey: once, Again: c.Replayed})
	if err != nil {
		return keyOf{}, err
	}
	m, err := read(text)
	return keyOf{m.ID}, err
}

// list answers in the thread's order, whatever it is asked to sort by: what a page
// begins and ends with is where the next one does.
func (h messages) list(ctx context.Context, c *httpx.Call) (stdjson.RawMessage, error) {
	q, err := readQuery(c)
	if err != nil {
		return nil, err
	}
	page, err := h.service.Page(ctx, c.Principal, c.Param("thread"), thread.MessageQuery{
		Limit: q.limit, Before: q.before, After: q.after, Anchor: q.anchor,
	})
	if err != nil {
		return nil, err
	}
	total, err := h.service.Count(ctx, c.Principal, c.Param("thread"))
	if err != nil {
		return nil, err
	}
	return listOf(c.Param("thread"), page, total)
}

// listOf is a page of messages:
//
//	{"thread":"...","messages":[...],"pagination":{...}}
func listOf(threadKey string, page thread.Page, total int) (stdjson.RawMessage, error) {
	where := pagination{HasBefore: page.HasBefore, HasAfter: page.HasAfter, Total: total}
	out := append(appendText([]byte(`{"thread":`), threadKey), `,"messages":[`...)
	for i, text := range page.Messages {
		if i > 0 {
			out = append(out, ',')
		}
		m, err := read(text)
		if err != nil {
			return nil, err
		}
		out = appendMessage(out, m)
		where.add(m.ID)
	}
	tail, err := json.Marshal(where)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "the place of the page does not encode")
	}
	return append(append(append(out, `],"pagination":`...), tail...), '}'), nil
}

func (h messages) get(ctx context.Context, c *httpx.Call) (stdjson.RawMessage, error) {
	text, err := h.service.GetMessage(ctx, c.Principal, c.Param("thread"), c.Param("message"))
	if err != nil {
		return nil, err
	}
	m, err := read(text)
	return append(appendMessage([]byte(`{"message":`), m), '}'), err
}

func (h messages) edit(ctx context.Context, c *httpx.Call, req posted) (keyOf, error) {
	if req.Body == nil {
		req.Body = stdjson.RawMessage("null") // a body that no message has, where none would keep the one that is there
	}
	once, err := c.Guard(api.HeaderIdempotencyKey)
	if err != nil {
		return keyOf{}, err
	}
	_, err = h.service.EditWith(ctx, c.Principal, c.Param("thread"), c.Param("message"), api.EditMessage{Body: req.Body}, thread.PostOptions{IdempotencyKey: once, Again: c.Replayed})
	return keyOf{c.Param("message")}, err
}

func (h messages) delete(ctx context.Context, c *httpx.Call) (keyOf, error) {
	idem.Echo(ctx, keyOf{c.Param("message")})
	return keyOf{c.Param("message")}, h.service.DeleteMessage(ctx, c.Principal, c.Param("thread"), c.Param("message"))
}
