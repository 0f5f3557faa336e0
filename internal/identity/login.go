package identity

import (
	"context"
	"errors"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/token"
)

// How long an access token of a user lives.
const (
	sessionTTL = 15 * time.Minute
	deviceTTL  = 24 * time.Hour // of MethodDevice
)

// The ways to sign in, as the trail names them.
const (
	MethodPassword = "password"
	MethodTOTP     = "password+totp"
	MethodRecovery = "password+recovery_code"
	MethodPasskey  = "passkey"
	MethodDevice   = "device"
	methodSignUp   = "signup"
)

// SignIn signs a user in by password. A user with a second factor gets the
// challenge that VerifyMFA takes. An email that nobody has and a wrong password
// are one error, for the same work. Errors: Invalid, Unauthenticated, TooMany,
// Unavailable.
func (s *Service) SignIn(ctx context.Context, from From, req api.SignIn) (api.SignedIn, error) {
	if req.Email == "" || req.Password == "" {
		return api.SignedIn{}, fault.New(fault.Invalid, "email and password are required")
	}
	email, err := parseEmail(req.Email)
	if err != nil {
		return api.SignedIn{}, err
	}
	began := s.now()
	u, err := s.checkPassword(ctx, from, email, req.Password)
	if err != nil {
		return api.SignedIn{}, err
	}
	switch on, err := s.hasTOTP(ctx, u.ID); {
	case err != nil:
		return api.SignedIn{}, err
	case on:
		return s.challenge(ctx, u, began)
	}
	t, err := s.begin(ctx, from, u, began, MethodPassword)
	return api.SignedIn{Token: t}, err
}

// SignedIn begins a session of a user who has proved in another way than by a
// password who he is; proved is what Proved returned then, zero: he did now.
// Errors: Unauthenticated (the user is no more, or his sessions were ended
// since), Unavailable.
func (s *Service) SignedIn(ctx context.Context, from From, userID, method string, proved time.Time) (api.Token, error) {
	began := s.now()
	u, _, err := s.user(ctx, userID)
	if errors.Is(err, fault.NotFound) || err == nil && !proved.IsZero() && !u.admits(proved, "") {
		return api.Token{}, errCredential
	}
	if err != nil {
		return api.Token{}, err
	}
	return s.begin(ctx, from, u, began, method)
}

// Proved is the time to name to SignedIn later, of what p, a user, does now.
// Errors: Unauthenticated (his credential is dead by now), Unavailable.
func (s *Service) Proved(ctx context.Context, p access.Principal) (time.Time, error) {
	began := s.now()
	u, _, err := s.user(ctx, p.ID)
	issued, isToken := token.IssueTime(p.Credential)
	if errors.Is(err, fault.NotFound) || err == nil && isToken && !u.admits(issued, p.Credential) {
		return time.Time{}, errCredential
	}
	return u.after(began), err
}

// after is a time at which a session may begin: see since.
func (u User) after(began time.Time) time.Time { return since(began, u.NotBefore) }

// begin begins a session and records it; see after.
func (s *Service) begin(ctx context.Context, from From, u User, began time.Time, method string) (t api.Token, err error) {
	e := from.event(u, "auth.success", access.Allowed)
	e.Details["method"] = method
	if method != methodSignUp { // which has its own record
		if err := s.record(ctx, e); err != nil {
			return t, err
		}
	}
	began = u.after(began)
	if method == MethodDevice {
		return s.issue(ctx, u, began, deviceTTL, "")
	}
	refresh, err := s.sessions.IssueRefresh(ctx, u.ID, began)
	if err != nil {
		return t, err
	}
	return s.issue(ctx, u, began, sessionTTL, refresh)
}

// issue makes an access token, which goes with a refresh token unless that is
// "". It lives ttl and the rest of a second, or as long as a token may.
func (s *Service) issue(ctx context.Context, u User, issued time.Time, ttl time.Duration, refresh string) (api.Token, error) {
	text, _, err := s.tokens.Issue(ctx, token.Claims{
		Kind: access.User, ID: u.ID, OrgID: u.Org, Session: token.SessionOf(refresh), IssuedAt: issued,
		Expires: s.now().Add(min(ttl+time.Second-1, token.MaxTTL)).Truncate(time.Second),
	})
	if err != nil {
		return api.Token{}, err
	}
	return api.Token{AccessToken: text, TokenType: "Bearer", ExpiresIn: int(ttl / time.Second), RefreshToken: refresh}, nil
}

// Refresh goes on with a session. The refresh token is used up; the answer has
// the next. Errors: Unauthenticated, Unavailable.
func (s *Service) Refresh(ctx context.Context, from From, text string) (api.Token, error) {
	if text == "" {
		return api.Token{}, fault.New(fault.Invalid, "refresh_token is required")
	}
	now := s.now()
	session, next, err := s.sessions.Redeem(ctx, text)
	var u User
	if session.UserID != "" { // also of one that was used before
		var err error
		if u, _, err = s.user(ctx, session.UserID); err != nil && !errors.Is(err, fault.NotFound) {
			return api.Token{}, err
		}
	}
	if err != nil || u.ID == "" || !u.admits(session.Since, "") {
		return api.Token{}, s.refuseRefresh(ctx, from, u, next, err)
	}
	return s.issue(ctx, u, u.after(now), sessionTTL, next)
}

var errRefresh = fault.New(fault.Unauthenticated, "the refresh token is not a live one; sign in again")

// refuseRefresh records that a session did not go on, which err may say why,
// and ends it.
func (s *Service) refuseRefresh(ctx context.Context, from From, u User, next string, err error) error {
	if err != nil && !errors.Is(err, fault.Unauthenticated) {
		return err
	}
	if next != "" {
		if err := s.sessions.RevokeRefresh(ctx, next); err != nil {
			return err
		}
	}
	e := from.event(u, "auth.failure", access.Failed)
	e.Details["method"] = "refresh"
	if err := s.record(ctx, e); err != nil {
		return err
	}
	return errRefresh
}

// SignOut ends an access token at once, with the session that it is of, and the
// session of a refresh token, if the caller has one of another. Errors: Invalid (an API key is no session).
func (s *Service) SignOut(ctx context.Context, p access.Principal, bearer, refresh string) error {
	claims, err := s.tokens.Verify(ctx, bearer)
	if errors.Is(err, fault.Unauthenticated) {
		return fault.New(fault.Invalid, "this ends a session, and an API key is none; delete the key instead: DELETE /v1/auth/api-keys/{id}")
	}
	if err != nil {
		return err
	}
	if err := s.record(ctx, logout(p)); err != nil {
		return err
	}
	if err := s.sessions.Revoke(ctx, claims); err != nil || refresh == "" {
		return err
	}
	return s.sessions.RevokeRefresh(ctx, refresh)
}

// SignOutEverywhere ends all sessions of p, a user, this one too, and last: who was cut
// off before the others were over can come again with it.
func (s *Service) SignOutEverywhere(ctx context.Context, p access.Principal) error {
	if err := s.gate.Check(ctx, p, access.ProfileWrite, self(p, "auth.logout_all")); err != nil {
		return err
	}
	if err := idem.Repeatable(ctx); err != nil {
		return err
	}
	if err := s.endSessions(ctx, p.ID, p.Credential); err != nil {
		return err
	}
	return s.endSessions(ctx, p.ID, "")
}

// endSessions ends all sessions of a user but the one that is spared. It moves
// NotBefore twice: a refresh that read the row before the first time began
// before the second, and is over; one that reads it after the first is refused.
func (s *Service) endSessions(ctx context.Context, userID, spared string) error {
	for range 2 {
		if _, err := s.changeUser(ctx, userID, func(u *User, _ *store.Batch) error {
			u.endSessions(s.now(), spared)
			return nil
		}); err != nil {
			return err
		}
	}
	return s.sessions.RevokeAll(ctx, userID)
}

// endSessions moves NotBefore past every session that began under the row.
func (u *User) endSessions(now time.Time, spared string) {
	u.NotBefore, u.Spared = endNow(now, u.NotBefore), spared
}
