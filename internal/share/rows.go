package share

import (
	"context"
	"errors"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// errNone is the one answer to a share that does not open.
var errNone = fault.New(fault.NotFound, "there is no such share, or no longer; ask whoever shared the secret for a new one")

// get reads a share. It is errNone when there is none.
func (s *Service) get(ctx context.Context, id string) (row, store.Revision, error) {
	if !isID(id) {
		return row{}, 0, errNone
	}
	rec, err := s.Store.Get(ctx, layout.Share(id))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return row{}, 0, errNone
	case err != nil:
		return row{}, 0, store.Fault(err)
	}
	var r row
	if err := json.Unmarshal(rec.Value, &r, json.RejectUnknownMembers(true)); err != nil {
		return row{}, 0, fault.Wrap(fault.Damaged, err, "what is stored of this share is damaged; make a new one")
	}
	return r, rec.Revision, nil
}

// isID reports whether id is in the form of a UUID, so that it is one part of a key.
func isID(id string) bool { return len(id) == 36 && strings.Trim(id, "0123456789abcdef-") == "" }

// put adds r to b.
func put(b *store.Batch, r row) error {
	value, err := json.Marshal(r)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "a share does not encode")
	}
	b.Put(layout.Share(r.ID), value)
	return nil
}

// change lets edit change a share in one step against every other change. edit
// may run more than once; its error is the answer, and then nothing changed.
func (s *Service) change(ctx context.Context, id string, edit func(*row) error) (out row, err error) {
	err = s.retry(ctx, func() error {
		r, rev, err := s.get(ctx, id)
		if err != nil {
			return err
		}
		if err := edit(&r); err != nil {
			return err
		}
		b := new(store.Batch)
		b.RequireRevision(layout.Share(id), rev)
		if err := put(b, r); err != nil {
			return err
		}
		out = r
		return s.commit(ctx, b)
	})
	return out, err
}

// remove deletes a share at rev, and its index entries.
func (s *Service) remove(ctx context.Context, r row, rev store.Revision) error {
	b := new(store.Batch)
	b.RequireRevision(layout.Share(r.ID), rev)
	b.Delete(layout.Share(r.ID))
	for _, key := range r.index() {
		b.Delete(key)
	}
	return s.commit(ctx, b)
}

// index is the keys of r's index entries.
func (r row) index() []string {
	keys := []string{layout.ShareBy(r.OrgID, r.Maker, r.ID), layout.ShareEnd(r.ExpiresAt.Unix(), r.ID)}
	if r.Kind != "" {
		keys = append(keys, layout.ShareFor(r.OrgID, string(r.Kind), r.RecipientID, r.ID))
	}
	return keys
}

// commit applies b. ErrConflict passes: it is for retry.
func (s *Service) commit(ctx context.Context, b *store.Batch) error {
	_, err := s.Store.Commit(ctx, b)
	if err == nil || errors.Is(err, store.ErrConflict) {
		return err
	}
	return store.Fault(err)
}

func (s *Service) retry(ctx context.Context, try func() error) error {
	err := store.Retry(ctx, try)
	if err != nil && err == ctx.Err() {
		return fault.Wrap(fault.Unavailable, err, "too many calls met at this share; try again")
	}
	return err
}

// recordFault answers for what could not be recorded and so must not be done.
func recordFault(err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return fault.Wrap(fault.Unavailable, err, "this could not be recorded and so it was not done; try again")
}
