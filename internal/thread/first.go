package thread

import (
	"context"
	"encoding/json"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
)

// PostFirst makes a thread of p's, without a title, and posts its first message.
// What Post would refuse makes no thread; when the post fails after that, a thread
// without messages is left. With the idempotency key of an earlier call it goes on in
// the thread that this one made. Errors: those of Create and Post.
func (s *Service) PostFirst(ctx context.Context, p access.Principal, req api.PostMessage, o PostOptions) (json.RawMessage, error) {
	if err := s.check(&req); err != nil {
		return nil, err
	}
	if req.ReplyTo != "" {
		return nil, fault.New(fault.Invalid, "reply_to names no message of a new thread; send thread, too")
	}
	t, err := s.make(ctx, p, api.CreateThread{}, func(m meta) { idem.Ref(ctx, m.ID) })
	if err != nil {
		if t.ID = idem.Resume(ctx); t.ID == "" {
			return nil, err
		}
	}
	return s.PostWith(idem.Apart(ctx), p, t.ID, req, o)
}
