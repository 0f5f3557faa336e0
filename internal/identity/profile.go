package identity

import (
	"context"
	"errors"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Profile returns what is kept of p, a user. Errors: Forbidden.
func (s *Service) Profile(ctx context.Context, p access.Principal) (api.Profile, error) {
	if err := s.gate.Check(ctx, p, access.ProfileRead, self(p, "")); err != nil {
		return api.Profile{}, err
	}
	u, _, err := s.user(ctx, p.ID)
	if err != nil {
		return api.Profile{}, err
	}
	return s.profile(ctx, u)
}

func (s *Service) profile(ctx context.Context, u User) (api.Profile, error) {
	on, err := s.hasTOTP(ctx, u.ID)
	return api.Profile{
		ID: u.ID, Email: u.Email, DisplayName: u.DisplayName, AuthMethod: u.authMethod(), Role: string(u.Role),
		EmailVerified:   true, // there is no mail to verify it by: see SignUp
		MarketingEmails: u.Marketing, TOTPEnabled: on, CreatedAt: u.Created, OrgID: u.Org,
	}, err
}

// UpdateProfile changes what is kept of p, a user. Errors: Forbidden, Invalid.
func (s *Service) UpdateProfile(ctx context.Context, p access.Principal, req api.UpdateProfile) (api.Profile, error) {
	if err := s.gate.Check(ctx, p, access.ProfileWrite, self(p, "profile.update")); err != nil {
		return api.Profile{}, err
	}
	if req.DisplayName != nil {
		if err := checkDisplayName(*req.DisplayName); err != nil {
			return api.Profile{}, err
		}
	}
	var out api.Profile
	_, err := s.changeUser(ctx, p.ID, func(u *User, _ *store.Batch) (err error) {
		set(&u.DisplayName, req.DisplayName)
		set(&u.Marketing, req.MarketingEmails)
		out, err = s.profile(ctx, *u)
		idem.Answer(ctx, out)
		return err
	})
	return out, err
}

// ChangePassword gives p, a user, another password, and ends all other sessions:
// refresh tokens too, so that this one ends with its access token. A wrong
// current password counts as a failed sign-in. Errors: Forbidden, Invalid,
// Unauthenticated, TooMany, Unavailable.
func (s *Service) ChangePassword(ctx context.Context, p access.Principal, req api.ChangePassword) error {
	_, err := s.ChangePasswordAndGoOn(ctx, p, req, "")
	return err
}

// ChangePasswordAndGoOn is ChangePassword for who keeps a refresh token, too: the
// session that it is of goes on by the token next, if it is a live one of p's. So
// nobody who showed a second factor is asked for it again, and nobody who did not
// gets a session by the password alone. refresh may be used up when err is not nil;
// next stands for it then.
func (s *Service) ChangePasswordAndGoOn(ctx context.Context, p access.Principal, req api.ChangePassword, refresh string) (next string, err error) {
	if err := s.gate.Check(ctx, p, access.ProfileWrite, self(p, "auth.password_change")); err != nil {
		return "", err
	}
	if err := checkPasswordRules(req.NewPassword); err != nil {
		return "", err
	}
	if err := idem.Look(ctx); err != nil { // or the password, which is another by now, would be a wrong guess
		return "", err
	}
	if err := s.provePassword(ctx, p, req.CurrentPassword); err != nil {
		return "", err
	}
	idem.Several(ctx)
	live, next, err := s.redeemOwn(ctx, p, refresh)
	if err != nil {
		return next, err
	}
	if err := s.setPassword(ctx, p.ID, req.NewPassword, p.Credential); err != nil || !live {
		return next, err
	}
	now := s.now()
	u, _, err := s.user(ctx, p.ID)
	if err != nil {
		return "", err
	}
	return s.sessions.IssueRefresh(ctx, u.ID, u.after(now))
}

// redeemOwn takes refresh, which may be "", for the next token of its session, and
// reports whether that is a live one of p's.
func (s *Service) redeemOwn(ctx context.Context, p access.Principal, refresh string) (live bool, next string, err error) {
	if refresh == "" {
		return false, "", nil
	}
	session, next, err := s.sessions.Redeem(ctx, refresh)
	if errors.Is(err, fault.Unauthenticated) {
		return false, "", nil
	}
	if err != nil || session.UserID != p.ID {
		return false, next, err
	}
	u, _, err := s.user(ctx, p.ID)
	switch {
	case err != nil:
		return false, next, err
	case !u.admits(session.Since, ""):
		return false, "", nil
	}
	return true, next, nil
}

var errCurrentPassword = fault.New(fault.Unauthenticated, "the current password is wrong")

// provePassword has p, a user, show his password once more.
func (s *Service) provePassword(ctx context.Context, p access.Principal, given string) error {
	u, _, err := s.user(ctx, p.ID)
	if err != nil {
		return err
	}
	found, err := s.checkPassword(ctx, from(p), u.Email, given)
	if err == errSignIn || err == nil && found.ID != u.ID { // an older user whose email is another's
		return errCurrentPassword
	}
	return err
}

// SetPassword gives a user a password, if it is not his yet, and then ends his
// sessions. It is for whoever runs the server. Errors: Invalid, NotFound,
// Unavailable.
func (s *Service) SetPassword(ctx context.Context, userID, text string) error {
	if err := checkPasswordRules(text); err != nil {
		return err
	}
	rec, err := s.store.Get(ctx, layout.Password(userID))
	if err == nil {
		if ok, _, err := s.passwords.Verify(ctx, string(rec.Value), text); ok || err != nil {
			return hashFault(err)
		}
	}
	return s.setPassword(ctx, userID, text, "")
}

// setPassword stores a password and ends the sessions that began with another,
// but for the one that is spared. When it fails half way the password is set
// and all sessions but the very latest are over.
func (s *Service) setPassword(ctx context.Context, userID, text, spared string) error {
	hash, err := s.passwords.Hash(ctx, text)
	if err != nil {
		return hashFault(err)
	}
	if _, err := s.changeUser(ctx, userID, func(u *User, b *store.Batch) error {
		b.Put(layout.Password(userID), []byte(hash))
		u.HasPassword = true
		u.endSessions(s.now(), spared)
		return nil
	}); err != nil {
		return err
	}
	return s.endSessions(ctx, userID, spared)
}
