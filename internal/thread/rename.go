package thread

import (
	"context"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/store"
)

// Rename gives a thread of p's another title, of 0 to MaxTitle characters, none of
// them control characters, and with it another slug. It keeps its place in lists.
// Errors: Unauthenticated, NotFound, Forbidden, Invalid.
func (s *Service) Rename(ctx context.Context, p access.Principal, threadID string, req api.UpdateThread) (api.Thread, error) {
	m, err := s.gate(ctx, p, access.ThreadWrite, threadID)
	if err != nil {
		return api.Thread{}, err
	}
	if err := checkTitle(req.Title); err != nil {
		return api.Thread{}, err
	}
	m, err = s.editRecord(ctx, m, func(m *meta, _ *store.Batch) error {
		m.Title, m.UpdatedTS = req.Title, s.tick()
		idem.Answer(ctx, m.seen(p))
		return nil
	})
	if err != nil {
		return api.Thread{}, err
	}
	return m.seen(p), nil
}

func checkTitle(title string) error {
	if !isText(title, MaxTitle) {
		return fault.New(fault.Invalid, "title must be at most %d characters of UTF-8, without control characters", MaxTitle)
	}
	return nil
}
