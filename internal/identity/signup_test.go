package identity

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
)

func TestWhoSignsUpOwnsANewOrgOnTheDefaultPlan(t *testing.T) {
	w := newPeople(t)
	w.remake(func(c *Config) { c.DefaultPlan = access.Pro })
	w.trail.taken()
	up := must(w.SignUp(t.Context(), w.from, api.SignUp{Email: "Ann@Example.com", Password: w.seen(goodPassword), DisplayName: "Ann"}))(t)
	w.note(up.Token)
	if diff := cmp.Diff([]string{"auth.signup allowed"}, w.trail.taken()); diff != "" {
		t.Error(diff)
	}
	p := w.in(up.AccessToken)
	if p.Role != access.Owner || p.Plan != access.Pro || p.OrgID != up.OrgID || p.OrgID == w.org.ID {
		t.Errorf("signed up as %+v", p)
	}
	got := must(w.Profile(t.Context(), p))(t)
	want := api.Profile{ID: p.ID, Email: "ann@example.com", DisplayName: "Ann", AuthMethod: "password", Role: "owner", EmailVerified: true, CreatedAt: got.CreatedAt, OrgID: p.OrgID}
	if diff := cmp.Diff(want, got); diff != "" || got.CreatedAt.IsZero() {
		t.Error(diff)
	}
	if o := must(w.OwnOrg(t.Context(), p))(t); o.Name != "Ann" || o.Plan != "pro" {
		t.Errorf("the org is %+v", o)
	}
	w.nowhere()
}

func TestTheConfigurationSaysWhoMaySignUp(t *testing.T) {
	for _, c := range []struct {
		way           SignUp
		open, invited bool
	}{{SignUpOpen, true, true}, {SignUpInvited, false, true}, {SignUpClosed, false, false}, {"", false, false}, {"Open", false, false}} {
		w := newPeople(t)
		w.remake(func(cfg *Config) { cfg.SignUp = c.way })
		email := w.email()
		inv := must(w.Invite(t.Context(), w.owner, api.CreateInvitation{Email: email}))(t)
		_, err := w.SignUp(t.Context(), w.from, api.SignUp{Email: w.email(), Password: goodPassword})
		if (err == nil) != c.open || err != nil && fault.Of(err).Code != fault.Forbidden {
			t.Errorf("%q without an invitation: %v", c.way, err)
		}
		_, err = w.SignUp(t.Context(), w.from, api.SignUp{Email: email, Password: goodPassword, Invitation: inv.Text})
		if (err == nil) != c.invited && c.way != "Open" {
			t.Errorf("%q with an invitation: %v", c.way, err)
		}
	}
}

func TestABadSignUpIsRefusedBeforeAHash(t *testing.T) {
	w := newPeople(t)
	hashes := w.passwords.Hashes()
	good := api.SignUp{Email: "ann@example.com", Password: goodPassword}
	w.unchanged(func() {
		for name, change := range map[string]func(*api.SignUp){
			"no email":        func(r *api.SignUp) { r.Email = "" },
			"no address":      func(r *api.SignUp) { r.Email = "ann" },
			"no password":     func(r *api.SignUp) { r.Password = "" },
			"weak password":   func(r *api.SignUp) { r.Password = "password" },
			"bad name":        func(r *api.SignUp) { r.DisplayName = "a\nb" },
			"bad org":         func(r *api.SignUp) { r.OrgName = strings.Repeat("x", 201) },
			"bad invitation":  func(r *api.SignUp) { r.Invitation = "1inv_" + strings.Repeat("A", 43) },
			"long invitation": func(r *api.SignUp) { r.Invitation = strings.Repeat("A", 60_000) },
		} {
			req := good
			change(&req)
			_, err := w.SignUp(t.Context(), w.from, req)
			wantError(t, name, err, fault.Invalid)
			w.wait()
		}
	})
	if w.passwords.Hashes() != hashes {
		t.Error("a bad sign-up was hashed")
	}
}

// Nobody comes by an account through its email: not by signing up with it, and
// not by any other case of its letters.
func TestATakenEmailIsNobodyElses(t *testing.T) {
	w := newPeople(t)
	email := w.email()
	up := w.signUp(email)
	hashes := w.passwords.Hashes()
	w.unchanged(func() {
		for _, form := range []string{email, strings.ToUpper(email)} {
			_, err := w.SignUp(t.Context(), w.from, api.SignUp{Email: form, Password: otherPassword})
			if err != errSignedUp {
				t.Errorf("sign-up as %s: %v", form, err)
			}
			_, err = w.CreateUser(t.Context(), w.org.ID, form)
			wantError(t, "CreateUser", err, fault.Conflict)
			_, err = w.EnsureUser(t.Context(), w.org.ID, form)
			wantError(t, "EnsureUser", err, fault.Conflict)
		}
	})
	if w.passwords.Hashes() != hashes {
		t.Error("a sign-up with a taken email was hashed")
	}
	// an invitation to somebody who has an account elsewhere looks like any other, and moves nobody
	inv := must(w.Invite(t.Context(), w.owner, api.CreateInvitation{Email: email, Role: "owner"}))(t)
	_, err := w.SignUp(t.Context(), w.from, api.SignUp{Email: email, Password: otherPassword, Invitation: inv.Text})
	wantError(t, "an invitation for a taken email", err, errSignedUp)
	if _, p := w.session(email, goodPassword); p.OrgID != up.OrgID {
		t.Errorf("moved to %+v", p)
	}
	_, err = w.signIn(email, otherPassword)
	wantError(t, "the other's password", err, fault.Unauthenticated)
}

func TestAnEmailThatManySignUpWithAtOnceIsOnes(t *testing.T) {
	w := newPeople(t)
	email := w.email()
	var mu sync.Mutex
	won := 0
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			_, err := w.SignUp(t.Context(), From{}, api.SignUp{Email: email, Password: goodPassword})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if err != errSignedUp {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d have the email", won)
	}
}

func TestAnInvitationIsForOneEmailOnce(t *testing.T) {
	w := newPeople(t)
	email := w.email()
	inv := must(w.Invite(t.Context(), w.owner, api.CreateInvitation{Email: strings.ToUpper(email), Role: "admin"}))(t)
	w.seen(inv.Text)
	if i := inv.Invitation; i.Email != email || i.Role != "admin" || i.InvitedBy != w.owner.ID || i.ExpiresAt.Sub(i.CreatedAt) != 7*24*time.Hour {
		t.Errorf("the invitation is %+v", i)
	}
	use := func(email string) (api.SignedUp, error) {
		w.wait()
		return w.SignUp(t.Context(), w.from, api.SignUp{Email: email, Password: goodPassword, Invitation: inv.Text})
	}
	w.unchanged(func() {
		_, err := use(w.email())
		wantError(t, "another's invitation", err, errInvitation)
	})
	w.nowhere()
	up := must(use(email))(t)
	if p := w.in(up.AccessToken); p.OrgID != w.org.ID || p.Role != access.Admin {
		t.Errorf("joined as %+v", p)
	}
	for _, again := range []string{email, w.email()} {
		_, err := use(again)
		wantError(t, "a used invitation", err, errInvitation)
	}
	if left := must(w.Invitations(t.Context(), w.owner))(t); len(left.Invitations) != 0 {
		t.Errorf("left are %+v", left)
	}
	for key := range w.dump() {
		if strings.HasPrefix(key, "invitation") {
			t.Errorf("%s is left", key)
		}
	}
}

func TestAnInvitationThatManyUseAtOnceLetsOneIn(t *testing.T) {
	w := newPeople(t)
	email := w.email()
	inv := must(w.Invite(t.Context(), w.owner, api.CreateInvitation{Email: email}))(t)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			w.SignUp(t.Context(), From{}, api.SignUp{Email: email, Password: goodPassword, Invitation: inv.Text})
		})
	}
	wg.Wait()
	if all := must(w.Members(t.Context(), w.owner))(t); len(all.Members) != 2 {
		t.Errorf("members are %+v", all)
	}
}

func TestAnInvitationDiesWithItsTimeItsMakerAndByHand(t *testing.T) {
	for name, kill := range map[string]func(w *people, by access.Principal, id string){
		"expired":               func(w *people, _ access.Principal, _ string) { w.clock.add(time.Hour) },
		"withdrawn":             func(w *people, _ access.Principal, id string) { w.must(w.Uninvite(w.t.Context(), w.owner, id)) },
		"its maker was removed": func(w *people, by access.Principal, _ string) { w.must(w.RemoveMember(w.t.Context(), w.owner, by.ID)) },
		"its maker was demoted": func(w *people, by access.Principal, _ string) {
			must(w.SetRole(w.t.Context(), w.owner, by.ID, access.Member))(w.t)
		},
		"its maker's role fell": func(w *people, by access.Principal, _ string) {
			must(w.SetRole(w.t.Context(), w.owner, by.ID, access.Admin))(w.t)
		},
		"nothing, by comparison": nil,
	} {
		w := newPeople(t)
		_, by := w.join(w.owner, access.Owner)
		email := w.email()
		at := w.clock.Now().Add(time.Hour)
		inv := must(w.Invite(t.Context(), by, api.CreateInvitation{Email: email, Role: "owner", ExpiresAt: &at}))(t)
		if kill != nil {
			kill(w, by, inv.Invitation.ID)
		}
		_, err := w.SignUp(t.Context(), w.from, api.SignUp{Email: email, Password: goodPassword, Invitation: inv.Text})
		if kill == nil && err != nil || kill != nil && err != errInvitation {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (w *people) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// Between the look at an invitation and its use its maker may fall, and so on.
func TestWhatASignUpHangsOnIsLookedAtInItsOwnStep(t *testing.T) {
	w := newPeople(t)
	_, by := w.join(w.owner, access.Owner)
	email := w.email()
	inv := must(w.Invite(t.Context(), by, api.CreateInvitation{Email: email, Role: "owner"}))(t)
	w.store.beforeCommit = func() { must(w.SetRole(t.Context(), w.owner, by.ID, access.Member))(t) }
	_, err := w.SignUp(t.Context(), w.from, api.SignUp{Email: email, Password: goodPassword, Invitation: inv.Text})
	wantError(t, "an invitation of somebody demoted meanwhile", err, errInvitation)

	email = w.email()
	inv = must(w.Invite(t.Context(), w.owner, api.CreateInvitation{Email: email}))(t)
	w.store.beforeCommit = func() { w.must(w.Uninvite(t.Context(), w.owner, inv.Invitation.ID)) }
	_, err = w.SignUp(t.Context(), w.from, api.SignUp{Email: email, Password: goodPassword, Invitation: inv.Text})
	wantError(t, "an invitation that was withdrawn meanwhile", err, errInvitation)

	email = w.email()
	w.store.beforeCommit = func() { w.signUp(email) }
	_, err = w.SignUp(t.Context(), w.from, api.SignUp{Email: email, Password: goodPassword})
	wantError(t, "an email that somebody else got meanwhile", err, errSignedUp)
	w.store.beforeCommit = func() { w.signUp(email + "x") }
	_, err = w.CreateUser(t.Context(), w.org.ID, email+"x")
	wantError(t, "likewise for a user that is made", err, fault.Conflict)
}

func TestInvitationsAreTheirOrgsAndBounded(t *testing.T) {
	w := newPeople(t)
	email := w.email()
	inv := must(w.Invite(t.Context(), w.owner, api.CreateInvitation{Email: email}))(t)
	wantError(t, "another org's", w.Uninvite(t.Context(), w.stranger, inv.Invitation.ID), fault.NotFound)
	for _, id := range []string{"", "x", inv.Invitation.ID + ":", strings.Repeat("a", 5000)} {
		wantError(t, "no ID", w.Uninvite(t.Context(), w.owner, id), fault.NotFound)
	}
	if theirs := must(w.Invitations(t.Context(), w.stranger))(t); len(theirs.Invitations) != 0 {
		t.Errorf("a stranger sees %+v", theirs)
	}
	mine := must(w.Invitations(t.Context(), w.owner))(t)
	if diff := cmp.Diff([]api.Invitation{inv.Invitation}, mine.Invitations); diff != "" {
		t.Error(diff)
	}
	past, far := w.clock.Now().Add(-time.Second), w.clock.Now().Add(31*24*time.Hour)
	for name, req := range map[string]api.CreateInvitation{
		"no email": {}, "no address": {Email: "x"}, "no role": {Email: email, Role: "boss"}, "past": {Email: email, ExpiresAt: &past}, "far": {Email: email, ExpiresAt: &far},
	} {
		_, err := w.Invite(t.Context(), w.owner, req)
		wantError(t, name, err, fault.Invalid)
	}
	up, _ := w.join(w.owner, access.Member)
	_, err := w.Invite(t.Context(), w.owner, api.CreateInvitation{Email: up.Email})
	wantError(t, "a member", err, fault.Conflict)
	for i := range maxInvitations - 1 {
		id := fmt.Sprint(i)
		w.put(layout.Invitation(w.org.ID, id), invitation{ID: id, Org: w.org.ID, Expires: w.clock.Now().Add(time.Hour)})
	}
	_, err = w.Invite(t.Context(), w.owner, api.CreateInvitation{Email: w.email()})
	wantError(t, "one too many", err, fault.Conflict)
	w.clock.add(2 * time.Hour)
	must(w.Invite(t.Context(), w.owner, api.CreateInvitation{Email: w.email()}))(t)
	if left := must(w.invitations(t.Context(), w.org.ID))(t); len(left) != 2 {
		t.Errorf("%d rows are left after a sweep, want 2", len(left))
	}
}
