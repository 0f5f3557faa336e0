package identity

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// idOf returns the ID of the user with an email as parseEmail returns it.
// Errors: NotFound.
func (s *Service) idOf(ctx context.Context, email string) (string, error) {
	if err := s.index(ctx); err != nil {
		return "", err
	}
	rec, err := s.store.Get(ctx, layout.UserEmail(email))
	if errors.Is(err, store.ErrNotFound) {
		return "", errNoUser
	}
	return string(rec.Value), storeFault(err)
}

// index enters the users in the two indexes that a store from before there
// were any holds, once in a store's life: the first time that somebody asks for
// users by email or by org. All that was stored since enters itself. Older users may
// share an email; it is the oldest one's, and the others go on with their API
// keys. A crash leaves some users entered, and the next call begins again.
func (s *Service) index(ctx context.Context) error {
	if s.indexed.Load() {
		return nil
	}
	switch _, err := s.store.Get(ctx, layout.IdentityStep()); {
	case errors.Is(err, store.ErrNotFound):
		if err := s.indexAll(idem.Apart(ctx)); err != nil {
			return err
		}
	case err != nil:
		return storeFault(err)
	}
	s.indexed.Store(true)
	return nil
}

func (s *Service) indexAll(ctx context.Context) error {
	for rec, err := range store.All(ctx, s.store, store.Prefix(layout.Users())) {
		if err == nil {
			err = store.Retry(ctx, func() error { return s.indexOne(ctx, rec.Key) })
		}
		if err != nil {
			return storeFault(err)
		}
	}
	var b store.Batch
	b.Put(layout.IdentityStep(), []byte("1"))
	_, err := s.store.Commit(ctx, &b)
	return storeFault(err)
}

// indexOne enters the user under key, unless it is gone by now.
func (s *Service) indexOne(ctx context.Context, key string) error {
	rec, err := s.store.Get(ctx, key)
	if err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	}
	var u User
	if err := json.Unmarshal(rec.Value, &u); err != nil {
		return fault.New(fault.Damaged, "a record of a user is damaged; restore the store from a backup")
	}
	var b store.Batch
	b.RequireRevision(key, rec.Revision)
	b.Put(layout.OrgUser(u.Org, u.ID), []byte(cmp.Or(u.Role, access.Owner)))
	email := layout.UserEmail(strings.ToLower(u.Email))
	if _, err := s.store.Get(ctx, email); errors.Is(err, store.ErrNotFound) {
		b.RequireAbsent(email)
		b.Put(email, []byte(u.ID))
	} else if err != nil {
		return err
	}
	_, err = s.store.Commit(ctx, &b)
	return err
}
