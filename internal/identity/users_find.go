package identity

import (
	"context"
	"errors"
	"strings"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
)

// The calls here are for packages that have decided already that the answer may
// be known.

// Member returns a user as he stands now, without a ceiling. Errors: NotFound.
func (s *Service) Member(ctx context.Context, userID string) (access.Principal, error) {
	u, _, err := s.user(ctx, userID)
	if err != nil {
		return access.Principal{}, err
	}
	var o Org
	if _, err := s.get(ctx, layout.Org(u.Org), &o); err != nil {
		return access.Principal{}, err
	}
	plan, _ := o.planAt(s.now())
	return access.Principal{Kind: access.User, ID: u.ID, OrgID: u.Org, Plan: plan, Role: u.Role}, nil
}

// Recipient finds a user of the org by ID or email, in whatever case, or an
// agent by ID. email is "" of an agent. Errors: NotFound.
func (s *Service) Recipient(ctx context.Context, orgID string, kind access.Kind, idOrEmail string) (id, email string, err error) {
	switch {
	case kind == access.Agent:
		a, _, err := s.agent(ctx, orgID, idOrEmail)
		return a.ID, "", err
	case kind == access.User && strings.Contains(idOrEmail, "@"):
		u, err := s.byEmail(ctx, orgID, idOrEmail)
		return u.ID, u.Email, err
	case kind == access.User && isID(idOrEmail):
		u, _, err := s.user(ctx, idOrEmail)
		if err == nil && u.Org != orgID || errors.Is(err, fault.NotFound) {
			return "", "", errNoUser
		}
		return u.ID, u.Email, err
	}
	return "", "", errNoUser
}

// byEmail returns the user of the org with this email, in whatever case. Errors:
// NotFound, also of what is no email.
func (s *Service) byEmail(ctx context.Context, org, email string) (User, error) {
	email, err := parseEmail(email)
	if err != nil {
		return User{}, errNoUser
	}
	id, err := s.idOf(ctx, email)
	if err != nil {
		return User{}, err
	}
	u, _, err := s.user(ctx, id)
	if err == nil && u.Org != org || errors.Is(err, fault.NotFound) {
		return User{}, errNoUser
	}
	return u, err
}
