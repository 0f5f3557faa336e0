package identity

import (
	"context"
	"errors"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Founded is what Found made.
type Founded struct {
	OrgID, Email string
	AdminKey     string // cannot be had again
}

// Found makes the first org of a server, its owner and an admin key, all in one
// commit. The server's operator calls it, whatever is configured as to sign-up;
// the invitation is not looked at. Errors: Invalid, Conflict (there is a user
// already), Unavailable.
func (s *Service) Found(ctx context.Context, req api.SignUp) (Founded, error) {
	email, err := checkSignUp(req)
	if err != nil {
		return Founded{}, err
	}
	req.Email = email
	switch there, err := s.HasUsers(ctx); {
	case err != nil:
		return Founded{}, err
	case there:
		return Founded{}, errFounded
	}
	u, err := s.newUser("", email)
	if err != nil {
		return Founded{}, err
	}
	u.DisplayName, u.HasPassword = req.DisplayName, true
	hash, err := s.passwords.Hash(ctx, req.Password)
	if err != nil {
		return Founded{}, hashFault(err)
	}
	key := newKey(keyPrefix)
	err = s.joinNew(ctx, From{}, &u, req, hash, "operator", func(b *store.Batch, o Org) error {
		return s.addKeyRows(b, layout.APIKey(hashOf(key)), &keyRecord{Role: api.RoleAdmin, Org: o.ID, Prefix: key[:shownOfKey]})
	})
	if errors.Is(err, errTaken) {
		err = errFounded
	}
	if err != nil {
		return Founded{}, storeFault(err)
	}
	return Founded{u.Org, email, key}, nil
}

var errFounded = fault.New(fault.Conflict, "somebody has an account on this server already, so its first org is not made again; ask an owner for an invitation")

// HasUsers reports whether anybody could sign in.
func (s *Service) HasUsers(ctx context.Context) (bool, error) {
	there, err := s.store.Scan(ctx, store.Prefix(layout.User("")), store.ScanOptions{Limit: 1})
	return len(there) > 0, storeFault(err)
}
