package server

import (
	"cmp"
	"context"
	"time"

	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/thread"
)

// events answers GET /v1/threads/{thread}/events. Before each batch and each
// heartbeat it is asked anew who calls and whether he may read.
func (h threads) events(ctx context.Context, c *httpx.Call, out *httpx.EventStream) error {
	q, err := c.Query()
	if err != nil {
		return err
	}
	last, err := c.Guard("Last-Event-ID") // which is newer than the URL of a client that comes again
	if err != nil {
		return err
	}
	p := c.Principal
	f, err := h.service.Follow(ctx, p, c.Param("thread"), cmp.Or(last, q.Get("after")))
	if err != nil {
		return err
	}
	defer f.Close()
	beat := time.NewTimer(httpx.Heartbeat)
	defer beat.Stop()
	for {
		events, err := f.Next(ctx, p)
		if err != nil {
			return err
		}
		if err := send(out, f, events); err != nil {
			return err
		}
		beat.Reset(httpx.Heartbeat)
		select {
		case <-f.News():
		case <-beat.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if p, err = c.Again(ctx); err != nil {
			return err
		}
	}
}

// send sends events or, where there are none, a heartbeat.
func send(out *httpx.EventStream, f *thread.Following, events []thread.Event) error {
	if len(events) == 0 && !f.Behind() {
		out.Beat(f.Position())
	}
	for _, e := range events {
		out.Add(e.ID, e.Kind, e.Data)
	}
	return out.Flush()
}
