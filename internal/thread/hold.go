package thread

import (
	"context"
	"errors"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/store"
)

// MaxReason is the greatest number of characters of the reason for a hold.
const MaxReason = 500

// Hold puts a thread, which may be deleted, under a legal hold: from then on
// nothing of it is purged. It is for who runs the org, not for the thread's
// author. Under a hold the thread goes on as before; messages and the thread can
// be deleted, and stay. Of a thread that is held already the reason is changed.
// Errors: Unauthenticated, NotFound (also: it is being purged), Forbidden, Invalid.
func (s *Service) Hold(ctx context.Context, p access.Principal, threadID string, req api.PutHold) (api.Hold, error) {
	var h hold
	err := s.changeHold(ctx, p, threadID, "thread.hold", func(m *meta) error {
		if !isText(req.Reason, MaxReason) {
			return fault.New(fault.Invalid, "reason must be at most %d characters of UTF-8, without control characters", MaxReason)
		}
		h = hold{By: p.ID, Since: s.tick(), Reason: req.Reason}
		if m.Hold != nil {
			h.By, h.Since = m.Hold.By, m.Hold.Since
		}
		m.Hold = &h
		idem.Answer(ctx, api.Hold(h))
		return nil
	})
	return api.Hold(h), err
}

// Release ends the legal hold of a thread, which may be deleted: what is due is
// purged in the next run. A thread that is not held stays as it is. Errors:
// Unauthenticated, NotFound, Forbidden.
func (s *Service) Release(ctx context.Context, p access.Principal, threadID string) error {
	return s.changeHold(ctx, p, threadID, "thread.release", func(m *meta) error {
		m.Hold = nil
		return nil
	})
}

// GetHold returns the legal hold of a thread, which may be deleted, to who may set
// it. Errors: Unauthenticated, NotFound (also: it is not held), Forbidden.
func (s *Service) GetHold(ctx context.Context, p access.Principal, threadID string) (api.Hold, error) {
	m, _, err := s.gateOfHold(ctx, p, threadID, "thread.hold.read")
	switch {
	case err != nil:
		return api.Hold{}, err
	case m.Hold == nil:
		return api.Hold{}, fault.New(fault.NotFound, "the thread is under no legal hold; PUT puts it under one")
	}
	return api.Hold(*m.Hold), nil
}

// gateOfHold is the gate of holds.
func (s *Service) gateOfHold(ctx context.Context, p access.Principal, threadID, as string) (meta, access.Resource, error) {
	m, err := s.record(ctx, threadID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return meta{}, access.Resource{}, store.Fault(err)
	}
	what := access.Resource{OrgID: m.Org, Type: "thread", ID: m.ID, As: as} // without its author, who has no say in it
	return m, what, s.authority.Check(ctx, p, access.ThreadHold, what)
}

// changeHold changes a thread's record.
func (s *Service) changeHold(ctx context.Context, p access.Principal, threadID, as string, change func(*meta) error) error {
	_, what, err := s.gateOfHold(ctx, p, threadID, as)
	if err != nil {
		return err
	}
	err = store.Retry(ctx, func() error {
		m, err := s.record(ctx, threadID)
		if err == nil {
			err = change(&m)
		}
		var b store.Batch
		if err == nil {
			err = m.put(&b)
		}
		if err == nil {
			_, err = s.store.Commit(ctx, &b)
		}
		return err
	})
	if errors.Is(err, store.ErrNotFound) { // purged since
		return access.NotThere
	} else if err != nil {
		return store.Fault(err)
	}
	return s.authority.Done(ctx, p, access.ThreadHold, what)
}
