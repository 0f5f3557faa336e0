package identity

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/password"
	"github.com/keyfold/keyfold/internal/throttle"
	"github.com/keyfold/keyfold/internal/token"
)

// Passwords that keep the rules.
const (
	goodPassword  = "Kelp-forest-29!"
	otherPassword = "Moss-garden-58?"
)

// people is a rig for what users do, with real sessions and backoff, and cheap
// hashes.
type people struct {
	*keyRig
	from From
	n    int
}

func newPeople(t testing.TB) *people {
	t.Helper()
	w := &people{keyRig: newKeyRig(t), from: From{netip.MustParseAddr("192.0.2.7"), "req-1"}}
	w.config.Sessions = w.config.Tokens.(*token.Service)
	w.config.Backoff = throttle.NewBackoff(throttle.BackoffConfig{Now: w.clock.Now})
	w.config.Passwords = cheap(1)
	w.config.SignUp = SignUpOpen
	w.Service = New(w.config)
	return w
}

func cheap(passes uint32) *password.Hasher {
	return password.New(password.Params{Memory: 64, Passes: passes})
}

// remake makes the Service anew, as another server on the same store.
func (w *people) remake(change func(*Config)) {
	change(&w.config)
	w.Service = New(w.config)
}

// email is one that nobody has.
func (w *people) email() string {
	w.n++
	return fmt.Sprintf("person%d@example.com", w.n)
}

// signUp makes an owner of a new org and returns his session.
func (w *people) signUp(email string) api.SignedUp {
	w.t.Helper()
	out := must(w.SignUp(w.t.Context(), w.from, api.SignUp{Email: email, Password: w.seen(goodPassword)}))(w.t)
	w.note(out.Token)
	return out
}

func (w *people) note(t api.Token) {
	w.seen(t.AccessToken)
	if t.RefreshToken != "" {
		w.seen(t.RefreshToken)
	}
}

func (w *people) signIn(email, password string) (api.SignedIn, error) {
	w.t.Helper()
	out, err := w.SignIn(w.t.Context(), w.from, api.SignIn{Email: email, Password: password})
	if err == nil && !out.MFARequired {
		w.note(out.Token)
	}
	return out, err
}

// session signs in, which must work, and returns who that is.
func (w *people) session(email, password string) (api.Token, access.Principal) {
	w.t.Helper()
	out := must(w.signIn(email, password))(w.t)
	return out.Token, w.in(out.AccessToken)
}

// join makes a user of p's org by an invitation.
func (w *people) join(p access.Principal, role access.Role) (api.SignedUp, access.Principal) {
	w.t.Helper()
	email := w.email()
	inv := must(w.Invite(w.t.Context(), p, api.CreateInvitation{Email: email, Role: string(role)}))(w.t)
	w.seen(inv.Text)
	out := must(w.SignUp(w.t.Context(), w.from, api.SignUp{Email: email, Password: goodPassword, Invitation: inv.Text}))(w.t)
	w.note(out.Token)
	return out, w.in(out.AccessToken)
}

// wait lets backoff forget.
func (w *people) wait() { w.clock.add(24 * time.Hour) }

// same tests that two errors are one answer.
func same(t testing.TB, a, b error) {
	t.Helper()
	x, y := fault.Of(a), fault.Of(b)
	if a == nil || b == nil || x.Code != y.Code || x.Message != y.Message || x.Type != y.Type || x.RetryAfter.Round(time.Second) != y.RetryAfter.Round(time.Second) {
		t.Errorf("told apart: %v (%v), %v (%v)", a, x.RetryAfter, b, y.RetryAfter)
	}
}

func wantError(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// nowhere tests that no text of the test's is kept, told or recorded in clear.
func (w *people) nowhere(others ...any) {
	w.t.Helper()
	all := fmt.Sprintf("%+v %#v %+v", others, w.trail.events, w.dump())
	for _, text := range w.secrets {
		if strings.Contains(all, text) || len(text) > 30 && strings.Contains(all, text[len(text)-20:]) {
			w.t.Errorf("%.6s... is somewhere", text)
		}
	}
}
