package identity

import (
	"cmp"
	"context"
	"errors"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/password"
	"github.com/keyfold/keyfold/internal/store"
)

// SignUp makes a user and signs him in: the owner of a new org, or what an
// invitation says in its org. The server sends no mail, and so takes the email
// for the user's: it is a name to sign in by, which nobody else has, and not proof of a
// mailbox. That an email is taken is no secret here; who asks is slowed down by
// address. Errors: Invalid, Forbidden (by configuration), TooMany, Unavailable.
func (s *Service) SignUp(ctx context.Context, from From, req api.SignUp) (api.SignedUp, error) {
	if err := s.mayJoin(req); err != nil {
		return api.SignedUp{}, err
	}
	email, err := checkSignUp(req)
	if err != nil {
		return api.SignedUp{}, err
	}
	try, err := s.attempt("signup:"+email, from.Addr)
	if err != nil {
		return api.SignedUp{}, err
	}
	began := s.now()
	req.Email = email
	u, err := s.join(ctx, from, req)
	if code := fault.Of(err).Code; err == nil || code != fault.Invalid {
		try.undo() // it was no guess at an email or an invitation
	}
	if err != nil {
		return api.SignedUp{}, err
	}
	t, err := s.begin(ctx, from, u, began, methodSignUp)
	return api.SignedUp{Token: t, Message: "welcome", Email: u.Email, UserID: u.ID, OrgID: u.Org}, err
}

// mayJoin applies the configuration.
func (s *Service) mayJoin(req api.SignUp) error {
	switch {
	case s.signUp == SignUpClosed:
		return fault.New(fault.Forbidden, "this server takes no sign-ups; ask its operator")
	case s.signUp != SignUpOpen && req.Invitation == "":
		return fault.New(fault.Forbidden, "this server takes sign-ups by invitation; ask an owner or admin of an org for one")
	}
	return nil
}

// checkSignUp reports what is wrong with a sign-up by itself, and returns its email.
func checkSignUp(req api.SignUp) (email string, err error) {
	if email, err = parseEmail(req.Email); err != nil {
		return "", err
	}
	if err := checkPasswordRules(req.Password); err != nil {
		return "", err
	}
	if req.OrgName != "" && !isText(req.OrgName, 200) {
		return "", fault.New(fault.Invalid, "org_name must be at most 200 characters of UTF-8, without control characters")
	}
	return email, checkDisplayName(req.DisplayName)
}

func checkPasswordRules(text string) error {
	if err := password.Check(text); err != nil {
		return fault.New(fault.Invalid, "%s", err.Error())
	}
	return nil
}

func checkDisplayName(name string) error {
	if name != "" && !isText(name, 200) {
		return fault.New(fault.Invalid, "display_name must be at most 200 characters of UTF-8, without control characters")
	}
	return nil
}

// errSignedUp is errTaken for those who sign up: the published API calls it a
// bad request.
var errSignedUp = fault.New(fault.Invalid, "this email has an account already; sign in, or use another")

// join stores the user of a sign-up, and the org if there is no invitation. It
// hashes only when all else is well.
func (s *Service) join(ctx context.Context, from From, req api.SignUp) (User, error) {
	u, err := s.newUser("", req.Email)
	if err != nil {
		return u, err
	}
	u.DisplayName, u.HasPassword = req.DisplayName, true
	if req.Invitation != "" {
		if _, err := s.invitation(ctx, req.Invitation, req.Email); err != nil {
			return u, err
		}
	}
	if _, err := s.idOf(ctx, req.Email); err == nil {
		return u, errSignedUp
	} else if !errors.Is(err, fault.NotFound) {
		return u, err
	}
	hash, err := s.passwords.Hash(ctx, req.Password)
	if err != nil {
		return u, hashFault(err)
	}
	if req.Invitation != "" {
		err = s.joinInvited(ctx, from, &u, req, hash)
	} else {
		err = s.joinNew(ctx, from, &u, req, hash)
	}
	if errors.Is(err, errTaken) {
		err = errSignedUp
	}
	return u, storeFault(err)
}

// joinNew stores u as the owner of a new org.
func (s *Service) joinNew(ctx context.Context, from From, u *User, req api.SignUp, hash string) error {
	o, err := s.orgFor(u, req)
	if err != nil {
		return err
	}
	if err := s.recordSignUp(ctx, from, *u, "new_org"); err != nil {
		return err
	}
	return s.addOwner(ctx, o, *u, hash, func(*store.Batch) error { return nil })
}

// orgFor is an org that is not stored yet, whose owner u becomes.
func (s *Service) orgFor(u *User, req api.SignUp) (Org, error) {
	email := []rune(req.Email)
	o, err := s.newOrg(cmp.Or(req.OrgName, req.DisplayName, string(email[:min(len(email), 200)])), s.plan)
	u.Org, u.Role = o.ID, access.Owner
	return o, err
}

// addOwner commits an org, its owner with the hash of his password, and what
// more adds, which may be asked more than once.
func (s *Service) addOwner(ctx context.Context, o Org, u User, hash string, more func(*store.Batch) error) error {
	return store.Retry(ctx, func() error {
		var b store.Batch
		b.RequireAbsent(layout.Org(o.ID))
		if err := put(&b, layout.Org(o.ID), o); err != nil {
			return err
		}
		if err := more(&b); err != nil {
			return err
		}
		b.Put(layout.Password(u.ID), []byte(hash))
		return s.addUser(ctx, &b, u)
	})
}

// joinInvited stores u as what his invitation says, and uses it up. It is looked
// at anew: it may have been used or withdrawn since, or its maker demoted.
func (s *Service) joinInvited(ctx context.Context, from From, u *User, req api.SignUp, hash string) error {
	recorded := false
	return store.Retry(ctx, func() error {
		inv, err := s.invitation(ctx, req.Invitation, req.Email)
		if err != nil {
			return err
		}
		u.Org, u.Role = inv.Org, inv.Role
		if !recorded {
			if err := s.recordSignUp(ctx, from, *u, "invitation"); err != nil {
				return err
			}
			recorded = true
		}
		var b store.Batch
		b.RequireRevision(layout.Org(inv.Org), inv.orgRev)
		b.RequireRevision(layout.Invitation(inv.Org, inv.ID), inv.rev)
		inv.delete(&b)
		b.Put(layout.Password(u.ID), []byte(hash))
		return s.addUser(ctx, &b, *u)
	})
}

func (s *Service) recordSignUp(ctx context.Context, from From, u User, how string) error {
	e := from.event(u, "auth.signup", access.Allowed)
	e.Details["by"], e.Details["role"] = how, string(u.Role)
	return s.record(ctx, e)
}
