package identity

import (
	"context"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Founded is what Found made.
type Founded struct {
	OrgID, Email, KeyID string
	AdminKey            string // cannot be had again
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
	stored, err := s.passwords.Hash(ctx, req.Password)
	if err != nil {
		return Founded{}, hashFault(err)
	}
	out, err := s.found(ctx, req, stored)
	return out, storeFault(err)
}

// found records and stores what Found makes.
func (s *Service) found(ctx context.Context, req api.SignUp, password string) (out Founded, err error) {
	u, err := s.newUser("", req.Email)
	if err != nil {
		return out, err
	}
	u.DisplayName, u.HasPassword = req.DisplayName, true
	o, err := s.orgFor(&u, req)
	if err != nil {
		return out, err
	}
	key := newKey(keyPrefix)
	k := keyRecord{Role: api.RoleAdmin, Org: o.ID, Prefix: key[:shownOfKey]}
	if k.ID, err = newID(); err != nil {
		return out, err
	}
	if err := s.recordSignUp(ctx, From{}, u, "operator"); err != nil {
		return out, err
	}
	e := From{}.event(u, "api_key.create", access.Allowed)
	e.ResourceType, e.ResourceID, e.Details["role"] = typeAPIKey, k.ID, k.Role
	if err := s.record(ctx, e); err != nil {
		return out, err
	}
	err = s.addOwner(ctx, o, u, password, func(b *store.Batch) error { return s.addKeyRows(b, layout.APIKey(hash(key)), &k) })
	if err != nil {
		return out, err
	}
	return Founded{OrgID: o.ID, Email: u.Email, KeyID: k.ID, AdminKey: key}, nil
}

var errFounded = fault.New(fault.Conflict, "somebody has an account on this server already, so its first org is not made again; ask an owner for an invitation")

// HasUsers reports whether anybody could sign in.
func (s *Service) HasUsers(ctx context.Context) (bool, error) {
	there, err := s.store.Scan(ctx, store.Prefix(layout.Users()), store.ScanOptions{Limit: 1})
	return len(there) > 0, storeFault(err)
}
