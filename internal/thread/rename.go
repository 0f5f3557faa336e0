package thread

import (
	"context"
	"errors"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
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
	err = store.Retry(ctx, func() error {
		m.Title, m.UpdatedTS = req.Title, s.tick()
		err := s.rename(ctx, m)
		if errors.Is(err, store.ErrConflict) {
			now, failed := s.load(ctx, m.ID)
			if failed != nil {
				return failed
			}
			m = now
		}
		return err
	})
	if errors.Is(err, store.ErrNotFound) { // deleted since
		return api.Thread{}, access.NotThere
	} else if err != nil {
		return api.Thread{}, store.Fault(err)
	}
	return m.seen(p), nil
}

func (s *Service) rename(ctx context.Context, m meta) error {
	var b store.Batch
	if err := m.put(&b); err != nil {
		return err
	}
	return s.commit(ctx, &b, m.ID, changeThread, "")
}

func checkTitle(title string) error {
	if !isText(title, MaxTitle) {
		return fault.New(fault.Invalid, "title must be at most %d characters of UTF-8, without control characters", MaxTitle)
	}
	return nil
}
