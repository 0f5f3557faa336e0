package server

import (
	"context"
	"net/http"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/thread"
)

// participants answers the calls on who takes part in threads.
type participants struct{ service *thread.Service }

func (h participants) rows() []httpx.Row {
	const all, one = "/v1/threads/{thread}/participants", "/v1/threads/{thread}/participants/{participant}"
	return []httpx.Row{
		{Method: "GET", Pattern: all, Keys: true, Handler: httpx.NoBody(http.StatusOK, h.list)},
		{Method: "PUT", Pattern: one, Keys: true, MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.set)},
		{Method: "DELETE", Pattern: one, Keys: true, Handler: httpx.Empty(h.remove)},
	}
}

func (h participants) list(ctx context.Context, c *httpx.Call) (api.Participants, error) {
	return h.service.Participants(ctx, c.Principal, c.Param("thread"))
}

func (h participants) set(ctx context.Context, c *httpx.Call, req api.PutParticipant) (api.Participant, error) {
	return h.service.SetParticipant(ctx, c.Principal, c.Param("thread"), c.Param("participant"), req)
}

func (h participants) remove(ctx context.Context, c *httpx.Call) error {
	q, err := c.Query()
	if err != nil {
		return err
	}
	endUser, err := yes(q, "end_user")
	if err != nil {
		return err
	}
	return h.service.RemoveParticipant(ctx, c.Principal, c.Param("thread"), c.Param("participant"), endUser)
}
