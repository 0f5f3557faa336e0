package identity

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

func TestAProfileChangesByWhatIsSent(t *testing.T) {
	w := newPeople(t)
	p := w.in(w.signUp(w.email()).AccessToken)
	want := must(w.Profile(t.Context(), p))(t)
	for _, req := range []api.UpdateProfile{{DisplayName: ptr("Ann")}, {MarketingEmails: ptr(true)}, {}, {DisplayName: ptr("")}} {
		set(&want.DisplayName, req.DisplayName)
		set(&want.MarketingEmails, req.MarketingEmails)
		got := must(w.UpdateProfile(t.Context(), p, req))(t)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	_, err := w.UpdateProfile(t.Context(), p, api.UpdateProfile{DisplayName: ptr(strings.Repeat("é", 201))})
	wantError(t, "a long name", err, fault.Invalid)
}

func TestAnotherPasswordEndsTheOtherSessions(t *testing.T) {
	w := newPeople(t)
	email := w.email()
	other := w.signUp(email)
	tok, p := w.session(email, goodPassword)
	change := func(current, next string) error {
		w.trail.taken()
		return w.ChangePassword(t.Context(), p, api.ChangePassword{CurrentPassword: current, NewPassword: next})
	}
	wantError(t, "a weak password", change(goodPassword, "weak"), fault.Invalid)
	if err := change(otherPassword, otherPassword); err != errCurrentPassword {
		t.Errorf("a wrong current password: %v", err)
	}
	if diff := cmp.Diff([]string{"auth.password_change allowed", "auth.failure failed"}, w.trail.taken()); diff != "" {
		t.Error(diff)
	}
	w.in(other.AccessToken)
	w.clock.frozen = true
	w.must(change(goodPassword, w.seen(otherPassword)))
	w.in(tok.AccessToken)
	w.out("another session", other.AccessToken)
	for _, refresh := range []string{other.RefreshToken, tok.RefreshToken} {
		_, err := w.Refresh(t.Context(), w.from, refresh)
		wantError(t, "a refresh token from before", err, fault.Unauthenticated)
	}
	_, err := w.signIn(email, goodPassword)
	wantError(t, "the old password", err, errSignIn)
	next, _ := w.session(email, otherPassword)
	w.must(w.SignOutEverywhere(t.Context(), p))
	w.out("the spared session", tok.AccessToken)
	w.out("the next session", next.AccessToken)
	w.nowhere()
}

func TestAnotherPasswordLeavesTheSessionOfItsBrowser(t *testing.T) {
	w := newPeople(t)
	email := w.email()
	other := w.signUp(email)
	tok, p := w.session(email, goodPassword)
	w.clock.frozen = true
	current := goodPassword
	change := func(p access.Principal, next, refresh string) string {
		t.Helper()
		out, err := w.ChangePasswordAndGoOn(t.Context(), p, api.ChangePassword{CurrentPassword: current, NewPassword: next}, refresh)
		w.must(err)
		current = next
		return out
	}
	next := change(p, w.seen(otherPassword), tok.RefreshToken)
	for _, refresh := range []string{other.RefreshToken, tok.RefreshToken} {
		_, err := w.Refresh(t.Context(), w.from, refresh)
		wantError(t, "a refresh token from before", err, fault.Unauthenticated)
	}
	on := must(w.Refresh(t.Context(), w.from, next))(t)
	w.out("another session", other.AccessToken)
	w.in(tok.AccessToken)

	// Who has no session that is live gets none, though he knows the password.
	for _, c := range []struct{ name, refresh string }{ // the first ends what is left of the others
		{"one that should have ended", must(w.sessions.IssueRefresh(t.Context(), p.ID, w.clock.now.Add(-time.Hour)))(t)},
		{"none", ""}, {"one from before", tok.RefreshToken}, {"one that was used", next}, {"no token", "1rt_x"},
	} {
		w.clock.now = w.clock.now.Add(time.Minute)
		next, err := w.ChangePasswordAndGoOn(t.Context(), w.in(on.AccessToken), api.ChangePassword{CurrentPassword: current, NewPassword: otherPassword}, c.refresh)
		if err != nil || next != "" {
			t.Errorf("%s: the session goes on, by %q, or %v", c.name, next, err)
		}
	}

	// Another's session is not p's, and goes on by itself.
	w.clock.now = w.clock.now.Add(time.Minute)
	his := w.signUp(w.email())
	mine, _ := w.session(email, otherPassword)
	next = change(w.in(mine.AccessToken), goodPassword, his.RefreshToken)
	tok = must(w.Refresh(t.Context(), w.from, next))(t)
	if got := w.in(tok.AccessToken); got.ID == p.ID {
		t.Error("a refresh token of another begins a session")
	}
	w.nowhere()
}

// A sign-in that read the old hash just before must not leave a session behind.
func TestNoSignInByTheOldPasswordOutlivesIt(t *testing.T) {
	w := newPeople(t)
	email := w.email()
	p := w.in(w.signUp(email).AccessToken)
	var slipped api.Token
	w.store.beforeCommit = func() { // the new password is hashed, and NotBefore taken
		w.clock.add(maxSkew)
		out, _ := w.SignIn(t.Context(), w.from, api.SignIn{Email: email, Password: goodPassword})
		slipped = out.Token
	}
	w.must(w.ChangePassword(t.Context(), p, api.ChangePassword{CurrentPassword: goodPassword, NewPassword: otherPassword}))
	if slipped.AccessToken == "" {
		t.Fatal("the sign-in did not get in between")
	}
	w.out("a session by the old password", slipped.AccessToken)
	_, err := w.Refresh(t.Context(), w.from, slipped.RefreshToken)
	wantError(t, "its refresh token", err, fault.Unauthenticated)
}

// What comes after the new password may fail; the sessions are over with it.
func TestANewPasswordAndTheEndOfSessionsAreOneStep(t *testing.T) {
	w := newPeople(t)
	email := w.email()
	other := w.signUp(email)
	_, p := w.session(email, goodPassword)
	w.store.beforeCommit = func() { w.store.fail = errors.New("disk") } // of all reads from then on
	err := w.ChangePassword(t.Context(), p, api.ChangePassword{CurrentPassword: goodPassword, NewPassword: otherPassword})
	wantError(t, "a change that failed half way", err, fault.Internal)
	w.store.fail = nil
	w.session(email, otherPassword)
	w.out("a session from before", other.AccessToken)
}

func TestACurrentPasswordIsNotGuessed(t *testing.T) {
	w := newPeople(t)
	email := w.email()
	p := w.in(w.signUp(email).AccessToken)
	for range 6 {
		w.ChangePassword(t.Context(), p, api.ChangePassword{CurrentPassword: "x", NewPassword: otherPassword})
	}
	err := w.ChangePassword(t.Context(), p, api.ChangePassword{CurrentPassword: goodPassword, NewPassword: otherPassword})
	wantError(t, "the seventh", err, fault.TooMany)
}

func TestALimitedKeyChangesNoPassword(t *testing.T) {
	w := newPeople(t)
	email := w.email()
	p := w.in(w.signUp(email).AccessToken)
	key := must(w.AddAPIKey(t.Context(), p, api.CreateAPIKey{Name: "k", Scopes: []string{"ci/*"}}))(t)
	limited := w.in(w.seen(key.APIKey))
	wantError(t, "password", w.ChangePassword(t.Context(), limited, api.ChangePassword{CurrentPassword: goodPassword, NewPassword: otherPassword}), fault.Forbidden)
	wantError(t, "sessions", w.SignOutEverywhere(t.Context(), limited), fault.Forbidden)
	_, err := w.BeginTOTP(t.Context(), limited, api.BeginTOTP{Password: goodPassword})
	wantError(t, "second factor", err, fault.Forbidden)
}

func TestAnOperatorSetsAPassword(t *testing.T) {
	w := newPeople(t)
	u := must(w.EnsureUser(t.Context(), w.org.ID, "Dev@example.com"))(t)
	if again := must(w.EnsureUser(t.Context(), w.org.ID, "dev@EXAMPLE.com"))(t); again.ID != u.ID || u.Role != access.Member {
		t.Errorf("users are %+v and %+v", u, again)
	}
	w.must(w.SetPassword(t.Context(), u.ID, w.seen(goodPassword)))
	tok, _ := w.session(u.Email, goodPassword)
	w.unchanged(func() { w.must(w.SetPassword(t.Context(), u.ID, goodPassword)) })
	w.in(tok.AccessToken)
	w.must(w.SetPassword(t.Context(), u.ID, otherPassword))
	w.out("a session by the password before", tok.AccessToken)
	wantError(t, "a weak password", w.SetPassword(t.Context(), u.ID, "weak"), fault.Invalid)
	wantError(t, "nobody's", w.SetPassword(t.Context(), w.org.ID, goodPassword), fault.NotFound)
	w.nowhere()
}
