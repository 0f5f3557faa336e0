package server

import (
	"context"

	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/idem"
)

// once has s do the writes that come with an Idempotency-Key.
func once(s *idem.Service) httpx.Once {
	if s == nil {
		return nil
	}
	return func(ctx context.Context, c *httpx.Call, key string, do func(context.Context) (httpx.Held, error)) (httpx.Held, error) {
		var held httpx.Held
		r := idem.Request{
			Key: key, Principal: c.Principal, Route: c.Route(), Parts: c.Parts(), Body: c.Bytes(),
			Timeout: c.Timeout(), Status: c.Success, Encode: httpx.Encode,
		}
		out, err := s.Do(ctx, r, func(ctx context.Context) (idem.Reply, error) {
			var err error
			held, err = do(ctx)
			return idem.Reply{Status: held.Status, Location: held.Location, Body: held.Body}, err
		})
		held.Status, held.Location, held.Body, held.Replayed = out.Status, out.Location, out.Body, out.Replayed
		return held, err
	}
}
