package idem

import (
	"context"
	"errors"
	"time"

	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Wrap returns s for services whose commits are to carry the rows of the calls that
// they are made for. Every other commit is as it was.
func Wrap(s store.Store) store.Store { return wrapped{s} }

type wrapped struct{ store.Store }

// Under is store.Over's.
func (w wrapped) Under() store.Store { return w.Store }

func (w wrapped) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	c := of(ctx)
	if c == nil || len(b.Writes) == 0 {
		return w.Store.Commit(ctx, b)
	}
	return c.commit(ctx, w.Store, b)
}

// edge is how long before and after midnight the clocks of two servers may show two days.
const edge = 15 * time.Minute

// keys are where the request's row may lie, its own place first: it may have come
// before midnight, or to a server whose clock is past it.
func (c *call) keys() []string {
	keys := []string{c.key(), layout.Idem(c.day-1, c.name)}
	if c.service.now().Add(edge).Unix()/int64(day/time.Second) > c.day {
		keys = append(keys, layout.Idem(c.day+1, c.name))
	}
	return keys
}

func (c *call) key() string { return layout.Idem(c.day, c.name) }

// find reads the row of the call; nil: there is none.
func (s *Service) find(ctx context.Context, c *call) (*row, error) {
	for i, key := range c.keys() {
		rec, err := s.store.Get(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		r, err := parse(rec.Value)
		if err == nil {
			r.day = c.day + []int64{0, -1, 1}[i]
		}
		return r, err
	}
	return nil, nil
}

// swept is how many rows one commit of a sweep removes.
const swept = 500

// Sweep removes the rows, and what lies apart of them, of all days before yesterday.
// Several servers may do so at once.
func (s *Service) Sweep(ctx context.Context) error {
	yesterday := s.now().Unix()/int64(day/time.Second) - 1
	for _, old := range []store.Range{
		{Start: layout.Idems(), End: layout.IdemDay(yesterday)},
		{Start: layout.IdemAnswers(), End: layout.IdemAnswerDay(yesterday)},
	} {
		for {
			recs, err := s.store.Scan(ctx, old, store.ScanOptions{Limit: swept, MaxBytes: 8 << 20})
			if err != nil || len(recs) == 0 {
				if err != nil {
					return err
				}
				break
			}
			var b store.Batch
			for _, rec := range recs {
				b.Delete(rec.Key)
			}
			if _, err := s.store.Commit(ctx, &b); err != nil {
				return err
			}
		}
	}
	return nil
}
