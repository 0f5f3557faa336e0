package thread

import (
	"context"
	"encoding/json"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

// PostFirst makes a thread of p's, without a title, and posts its first message.
// What Post would refuse makes no thread; when the post fails after that, a thread
// without messages is left. Errors: those of Create and Post.
func (s *Service) PostFirst(ctx context.Context, p access.Principal, req api.PostMessage) (json.RawMessage, error) {
	if err := s.check(&req); err != nil {
		return nil, err
	}
	if req.ReplyTo != "" {
		return nil, fault.New(fault.Invalid, "reply_to names no message of a new thread; send thread, too")
	}
	t, err := s.Create(ctx, p, api.CreateThread{})
	if err != nil {
		return nil, err
	}
	return s.Post(ctx, p, t.ID, req)
}
