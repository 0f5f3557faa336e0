package identity

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/password"
)

func TestAUserSignsInAndOut(t *testing.T) {
	w := newPeople(t)
	up := w.signUp("Ann@Example.com")
	if up.Email != "ann@example.com" || up.TokenType != "Bearer" || up.ExpiresIn != 900 || up.RefreshToken == "" {
		t.Errorf("signed up as %+v", up.Email)
	}
	w.trail.taken()
	tok, p := w.session("ANN@example.com", goodPassword)
	if p.ID != up.UserID || p.OrgID != up.OrgID || p.Role != access.Owner || p.Plan != access.Enterprise || p.Ceiling != nil {
		t.Errorf("a session is %+v", p)
	}
	if diff := cmp.Diff([]string{"auth.success allowed"}, w.trail.taken()); diff != "" {
		t.Error(diff)
	}
	if err := w.SignOut(t.Context(), p, tok.AccessToken, tok.RefreshToken); err != nil {
		t.Fatal(err)
	}
	w.out("after logout", tok.AccessToken)
	_, err := w.Refresh(t.Context(), w.from, tok.RefreshToken)
	wantError(t, "the refresh token after logout", err, fault.Unauthenticated)
	w.in(up.AccessToken) // another session goes on
	other := must(w.Refresh(t.Context(), w.from, up.RefreshToken))(t)
	w.note(other)
	if diff := cmp.Diff([]string{"auth.logout allowed", "auth.failure failed"}, w.trail.taken()); diff != "" {
		t.Error(diff)
	}
	w.must(w.SignOut(t.Context(), p, other.AccessToken, "")) // as a client that keeps no refresh token
	for _, dead := range []string{up.RefreshToken, other.RefreshToken} {
		_, err := w.Refresh(t.Context(), w.from, dead)
		wantError(t, "a refresh token that logout was not told of", err, fault.Unauthenticated)
	}
	key := w.seen(must(w.CreateAPIKey(t.Context(), up.UserID))(t))
	wantError(t, "logout of an API key", w.SignOut(t.Context(), w.in(key), key, ""), fault.Invalid)
	w.in(key)
	w.nowhere()
}

func TestASessionEndsInItsTimeAndGoesOnByRefresh(t *testing.T) {
	w := newPeople(t)
	up := w.signUp(w.email())
	w.clock.add(900*time.Second + 32*time.Second) // and the leeway
	w.out("after its time", up.AccessToken)
	next := must(w.Refresh(t.Context(), w.from, up.RefreshToken))(t)
	w.note(next)
	if p := w.in(next.AccessToken); p.ID != up.UserID || next.ExpiresIn != 900 || next.RefreshToken == up.RefreshToken {
		t.Errorf("goes on as %+v", p)
	}
	for _, bad := range []string{"x", up.AccessToken, next.RefreshToken + "x"} {
		_, err := w.Refresh(t.Context(), w.from, bad)
		wantError(t, "refresh", err, fault.Unauthenticated)
	}
	_, err := w.Refresh(t.Context(), w.from, "")
	wantError(t, "refresh of nothing", err, fault.Invalid)
	w.nowhere()
}

// guesses are the ways to fail, which nothing may tell apart.
func guesses(w *people, known, keyOnly string) map[string]api.SignIn {
	return map[string]api.SignIn{
		"wrong password":  {Email: known, Password: otherPassword},
		"nobody":          {Email: "nobody@example.com", Password: goodPassword},
		"no password set": {Email: keyOnly, Password: goodPassword},
		"long password":   {Email: known, Password: string(make([]byte, 60_000))},
	}
}

func TestAnUnknownEmailAndAWrongPasswordAreOneAnswerForOneWork(t *testing.T) {
	w := newPeople(t)
	known := w.email()
	w.signUp(known)
	keyOnly := must(w.CreateUser(t.Context(), w.org.ID, w.email()))(t).Email
	type work struct{ hashes, reads, events int64 }
	var want *work
	for name, guess := range guesses(w, known, keyOnly) {
		w.trail.taken()
		hashes, reads := w.passwords.Hashes(), w.store.gets.Load()
		_, err := w.signIn(guess.Email, guess.Password)
		if err != errSignIn {
			t.Errorf("%s: %v", name, err)
		}
		got := work{w.passwords.Hashes() - hashes, w.store.gets.Load() - reads, int64(len(w.trail.taken()))}
		if want == nil {
			want = &got
		}
		if got != *want || got.hashes != 1 || got.events != 1 {
			t.Errorf("%s is %+v, another %+v", name, got, *want)
		}
	}
	for _, bad := range []api.SignIn{{}, {Email: known}, {Password: goodPassword}, {Email: "ann", Password: goodPassword}} {
		_, err := w.signIn(bad.Email, bad.Password)
		wantError(t, "a malformed request", err, fault.Invalid)
	}
}

func TestGuessesAreSlowedDownAlikeWithoutAHash(t *testing.T) {
	w := newPeople(t)
	known := w.email()
	w.signUp(known)
	keyOnly := must(w.CreateUser(t.Context(), w.org.ID, w.email()))(t).Email
	var first error
	for name, guess := range guesses(w, known, keyOnly) {
		w.wait()
		w.from.Addr = netip.Addr{} // by account alone
		for range 6 {
			w.signIn(guess.Email, guess.Password)
		}
		w.trail.taken()
		hashes, reads := w.passwords.Hashes(), w.store.gets.Load()
		_, err := w.signIn(guess.Email, guess.Password)
		if f := fault.Of(err); f.Code != fault.TooMany || f.RetryAfter <= 0 {
			t.Errorf("%s: %v", name, err)
		}
		if w.passwords.Hashes() != hashes || w.store.gets.Load() != reads || len(w.trail.taken()) != 0 {
			t.Errorf("%s: a throttled guess was looked at", name)
		}
		if first == nil {
			first = err
		}
		same(t, first, err)
		_, right := w.signIn(guess.Email, goodPassword) // waits as the wrong one does
		same(t, err, right)
	}
	neighbour := w.email()
	w.signUp(neighbour)
	w.session(neighbour, goodPassword) // who is not slowed down
	w.clock.add(5 * time.Minute)
	w.session(known, goodPassword)
	for range 5 { // and the failures are forgotten
		if _, err := w.signIn(known, otherPassword); err != errSignIn {
			t.Errorf("a guess after the right password: %v", err)
		}
	}
	w.session(known, goodPassword)
}

func TestWhoIsTurnedAwayAtAnAccountIsNotSlowedDownAtOthers(t *testing.T) {
	w := newPeople(t)
	known, other := w.email(), w.email()
	w.signUp(known)
	w.signUp(other)
	home := w.from.Addr
	w.from.Addr = netip.MustParseAddr("192.0.2.9")
	for range 6 {
		w.signIn(known, otherPassword)
	}
	w.from.Addr = home
	for range 20 {
		_, err := w.signIn(known, goodPassword)
		wantError(t, "while others guess", err, fault.TooMany)
	}
	w.session(other, goodPassword)
}

func TestAnAddressIsSlowedDownThatTriesManyAccounts(t *testing.T) {
	w := newPeople(t)
	own := w.email()
	w.signUp(own)
	var err error
	for range 20 {
		_, err = w.signIn(w.email(), goodPassword)
		w.signIn(own, goodPassword) // which clears nothing of the others
	}
	wantError(t, "the 20th account from one address", err, fault.TooMany)
	w.from.Addr = netip.MustParseAddr("192.0.2.8")
	w.session(own, goodPassword)
	if a, b := addrKey(netip.MustParseAddr("2001:db8:1:2::1")), addrKey(netip.MustParseAddr("2001:db8:1:2:ffff::1%eth0")); a != b || a == addrKey(netip.MustParseAddr("2001:db8:1:3::1")) {
		t.Errorf("addresses of one network are %q and %q", a, b)
	}
	if addrKey(netip.MustParseAddr("::ffff:192.0.2.8")) != addrKey(w.from.Addr) || addrKey(w.from.Addr) == addrKey(netip.MustParseAddr("192.0.2.9")) {
		t.Error("IPv4 addresses are mixed up")
	}
	if key := addrKey(netip.Addr{}); key != "" {
		t.Errorf("no address is %q, and would be all sockets' that have none", key)
	}
}

func TestGuessesAtOnceGainNothing(t *testing.T) {
	w := newPeople(t)
	known := w.email()
	w.signUp(known)
	w.clock.frozen = true
	hashes := w.passwords.Hashes()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { w.SignIn(t.Context(), From{}, api.SignIn{Email: known, Password: otherPassword}) })
	}
	wg.Wait()
	if n := w.passwords.Hashes() - hashes; n > 6 {
		t.Errorf("%d of 50 guesses at one moment were looked at", n)
	}
}

func TestWhatCouldNotBeDecidedIsNoFailure(t *testing.T) {
	w := newPeople(t)
	known := w.email()
	w.signUp(known)
	for range 20 {
		w.store.fail = errors.New("disk")
		_, err := w.signIn(known, goodPassword)
		wantError(t, "while the store fails", err, fault.Internal)
		w.store.fail = nil
	}
	w.session(known, goodPassword)
}

func TestTooManyHashesAtOnceAreAnsweredWithATimeToWait(t *testing.T) {
	if f := fault.Of(hashFault(password.ErrBusy)); f.Code != fault.Unavailable || f.RetryAfter != time.Second {
		t.Errorf("answered %v after %v", f.Code, f.RetryAfter)
	}
}

func TestNothingIsAnsweredThatIsNotRecorded(t *testing.T) {
	w := newPeople(t)
	known := w.email()
	up := w.signUp(known)
	w.trail.fail = errors.New("disk")
	_, err := w.signIn(known, goodPassword)
	wantError(t, "a good sign-in", err, fault.Unavailable)
	_, err = w.signIn(known, otherPassword)
	wantError(t, "a failed sign-in", err, fault.Unavailable)
	_, err = w.SignedIn(t.Context(), w.from, up.UserID, MethodPasskey, time.Time{})
	wantError(t, "a sign-in by other means", err, fault.Unavailable)
	wantError(t, "logout", w.SignOut(t.Context(), access.Principal{}, up.AccessToken, ""), fault.Unavailable)
	w.unchanged(func() {
		_, err := w.SignUp(t.Context(), w.from, api.SignUp{Email: w.email(), Password: goodPassword})
		wantError(t, "sign-up", err, fault.Unavailable)
	})
	w.trail.fail = nil
	w.in(up.AccessToken)
}

func TestAStaleHashIsReplacedAtAGoodSignInOnly(t *testing.T) {
	w := newPeople(t)
	known := w.email()
	up := w.signUp(known)
	before := w.dump()[layout.Password(up.UserID)]
	w.remake(func(c *Config) { c.Passwords = cheap(2) })
	w.signIn(known, otherPassword)
	if got := w.dump()[layout.Password(up.UserID)]; got != before {
		t.Error("a failed sign-in changed the hash")
	}
	w.session(known, goodPassword)
	after := w.dump()[layout.Password(up.UserID)]
	if ok, stale, err := cheap(2).Verify(t.Context(), after, goodPassword); !ok || stale || err != nil {
		t.Errorf("the hash is %.25s, %v %v", after, stale, err)
	}
	w.session(known, goodPassword)
	if got := w.dump()[layout.Password(up.UserID)]; got != after {
		t.Error("a fresh hash was replaced")
	}
	w.put(layout.Password(up.UserID), "$argon2id$damaged")
	_, err := w.signIn(known, goodPassword)
	wantError(t, "a damaged hash", err, fault.Damaged)
}

func TestSignOutEverywhereEndsAllSessions(t *testing.T) {
	w := newPeople(t)
	email := w.email()
	up := w.signUp(email)
	w.clock.frozen = true // so that the rest happens at one moment
	second, p := w.session(email, goodPassword)
	key := w.seen(must(w.CreateAPIKey(t.Context(), p.ID))(t))
	device := must(w.SignedIn(t.Context(), w.from, p.ID, MethodDevice, time.Time{}))(t)
	if device.ExpiresIn != 86400 || device.RefreshToken != "" {
		t.Errorf("a device's session lasts %d", device.ExpiresIn)
	}
	if err := w.SignOutEverywhere(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	for _, dead := range []string{up.AccessToken, second.AccessToken, device.AccessToken} {
		w.out("a session from before", dead)
	}
	for _, dead := range []string{up.RefreshToken, second.RefreshToken} {
		_, err := w.Refresh(t.Context(), w.from, dead)
		wantError(t, "a refresh token from before", err, fault.Unauthenticated)
	}
	w.in(key) // is no session
	tok, p := w.session(email, goodPassword)
	next := must(w.Refresh(t.Context(), w.from, tok.RefreshToken))(t)
	w.in(next.AccessToken)
	w.clock.frozen = false
	proved := must(w.Proved(t.Context(), p))(t)
	w.in(must(w.SignedIn(t.Context(), w.from, p.ID, MethodDevice, proved))(t).AccessToken)
	w.must(w.SignOutEverywhere(t.Context(), p))
	_, err := w.SignedIn(t.Context(), w.from, p.ID, MethodDevice, proved)
	wantError(t, "what was approved before", err, fault.Unauthenticated)
	_, err = w.Proved(t.Context(), p)
	wantError(t, "an approval under way, by a session that is over", err, fault.Unauthenticated)
	must(w.Proved(t.Context(), w.in(key)))(t)
}

// Either of NotBefore and the end of refresh tokens would do alone.
func TestASessionEndsInTwoWays(t *testing.T) {
	w := newPeople(t)
	email := w.email()
	up := w.signUp(email)
	p := w.in(up.AccessToken)
	w.must(w.SignOutEverywhere(t.Context(), p))
	if _, _, err := w.config.Sessions.Redeem(t.Context(), up.RefreshToken); !errors.Is(err, fault.Unauthenticated) {
		t.Errorf("the refresh token is not over by itself: %v", err)
	}
	tok, p := w.session(email, goodPassword)
	w.remake(func(c *Config) { c.Sessions = forgetful{c.Sessions} })
	w.must(w.SignOutEverywhere(t.Context(), p))
	if _, err := w.Refresh(t.Context(), w.from, tok.RefreshToken); err != errRefresh {
		t.Errorf("the refresh token is over by NotBefore: %v", err)
	}
}

// forgetful ends no refresh tokens.
type forgetful struct{ Sessions }

func (forgetful) RevokeAll(context.Context, string) error { return nil }

// A refresh that read the user's row just before the end of all sessions must not
// leave a session behind.
func TestNoSessionSlipsThroughItsEnd(t *testing.T) {
	w := newPeople(t)
	email := w.email()
	up := w.signUp(email)
	p := w.in(up.AccessToken)
	var slipped api.Token
	w.store.beforeCommit = func() { // the first commit of SignOutEverywhere; its time is taken
		w.clock.add(maxSkew)
		slipped, _ = w.Refresh(t.Context(), w.from, up.RefreshToken)
	}
	if err := w.SignOutEverywhere(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if slipped.AccessToken == "" {
		t.Fatal("the refresh did not get in between")
	}
	w.out("a session that was refreshed meanwhile", slipped.AccessToken)
	_, err := w.Refresh(t.Context(), w.from, slipped.RefreshToken)
	wantError(t, "its refresh token", err, fault.Unauthenticated)
}

func TestAFailedSignInIsInTheTrailOfItsOrg(t *testing.T) {
	w := newPeople(t)
	known := w.email()
	up := w.signUp(known)
	w.trail.taken()
	w.signIn(known, otherPassword)
	w.signIn("nobody@example.com", otherPassword)
	events := slices.Clone(w.trail.events)
	if len(events) != 2 {
		t.Fatalf("%d events", len(events))
	}
	for i, want := range []access.Event{
		{OrgID: up.OrgID, ActorType: "user", ActorID: up.UserID, ResourceType: "user", ResourceID: up.UserID},
		{ActorType: "anonymous"},
	} {
		want.Action, want.Outcome, want.Addr, want.RequestID = "auth.failure", access.Failed, w.from.Addr, w.from.RequestID
		want.Details = map[string]string{"method": "password"}
		if diff := cmp.Diff(want, events[i], cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
	}
}
