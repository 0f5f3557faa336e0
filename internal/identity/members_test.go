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
	"github.com/keyfold/keyfold/internal/store"
)

// roles are members of w.org by role, and a second owner as "other".
func (w *people) roles() map[string]access.Principal {
	all := map[string]access.Principal{"owner": w.owner}
	for _, r := range []access.Role{access.Admin, access.Member} {
		_, all[string(r)] = w.join(w.owner, r)
	}
	return all
}

func TestMembersAreListedForTheWholeOrg(t *testing.T) {
	w := newPeople(t)
	all := w.roles()
	for who, p := range all {
		got, err := w.Members(t.Context(), p)
		var roles []string
		for _, m := range got.Members {
			roles = append(roles, m.Role+" "+m.AuthMethod)
		}
		if diff := cmp.Diff([]string{"owner api_key", "admin password", "member password"}, roles); diff != "" || err != nil {
			t.Error(who, err, diff)
		}
	}
	theirs := must(w.Members(t.Context(), w.stranger))(t)
	if len(theirs.Members) != 1 || theirs.Members[0].ID != w.stranger.ID {
		t.Errorf("a stranger sees %+v", theirs)
	}
}

// The table is who may turn whom into what; "-" is removal.
func TestOnlyAnOwnerMakesAndUnmakesOwnersAndAdmins(t *testing.T) {
	for _, c := range []struct {
		who, whom string
		allowed   string // what
	}{
		{"owner", "owner", "owner admin member -"}, // there is another
		{"owner", "admin", "owner admin member -"},
		{"owner", "member", "owner admin member -"},
		{"admin", "owner", ""},
		{"admin", "admin", ""},
		{"admin", "member", "member -"},
		{"member", "owner", ""},
		{"member", "admin", ""},
		{"member", "member", ""},
	} {
		for _, to := range []string{"owner", "admin", "member", "-"} {
			w := newPeople(t)
			me := w.owner
			if c.who != "owner" {
				_, me = w.join(w.owner, access.Role(c.who))
			}
			_, target := w.join(w.owner, access.Role(c.whom))
			w.trail.taken()
			var err error
			if to == "-" {
				err = w.RemoveMember(t.Context(), me, target.ID)
			} else {
				_, err = w.SetRole(t.Context(), me, target.ID, access.Role(to))
			}
			name := fmt.Sprintf("%s turns %s into %s", c.who, c.whom, to)
			events := w.trail.taken()
			if strings.Contains(" "+c.allowed+" ", " "+to+" ") {
				if err != nil || len(events) != 1 {
					t.Errorf("%s: %v, %v", name, err, events)
				}
				continue
			}
			if fault.Of(err).Code != fault.Forbidden || !strings.HasSuffix(events[len(events)-1], " refused") {
				t.Errorf("%s: %v, %v", name, err, events)
			}
			if u, _, err := w.user(t.Context(), target.ID); err != nil || string(u.Role) != c.whom {
				t.Errorf("%s: is %s now", name, u.Role)
			}
		}
		w := newPeople(t)
		me := w.owner
		if c.who != "owner" {
			_, me = w.join(w.owner, access.Role(c.who))
		}
		_, err := w.Invite(t.Context(), me, api.CreateInvitation{Email: w.email(), Role: c.whom})
		if may := c.who == "owner" || c.who == "admin" && c.whom == "member"; may != (err == nil) || !may && fault.Of(err).Code != fault.Forbidden {
			t.Errorf("%s invites %s: %v", c.who, c.whom, err)
		}
	}
}

func TestAnOrgKeepsOneOwner(t *testing.T) {
	w := newPeople(t)
	_, admin := w.join(w.owner, access.Admin)
	w.unchanged(func() {
		_, err := w.SetRole(t.Context(), w.owner, w.owner.ID, access.Admin)
		wantError(t, "the last owner steps down", err, fault.Conflict)
		wantError(t, "the last owner leaves", w.RemoveMember(t.Context(), w.owner, w.owner.ID), fault.Conflict)
	})
	must(w.SetRole(t.Context(), w.owner, admin.ID, access.Owner))(t)
	must(w.SetRole(t.Context(), w.owner, w.owner.ID, access.Member))(t)
	w.owner.Role = access.Member
	_, err := w.SetRole(t.Context(), w.owner, w.owner.ID, access.Owner)
	wantError(t, "a former owner", err, fault.Forbidden)
}

// A principal was authenticated before: the role that counts is the one in the
// step that changes the other's.
func TestARoleThatWasLostMeanwhileCountsNoMore(t *testing.T) {
	w := newPeople(t)
	_, second := w.join(w.owner, access.Owner)
	must(w.SetRole(t.Context(), w.owner, second.ID, access.Member))(t)
	_, err := w.SetRole(t.Context(), second, w.owner.ID, access.Member)
	wantError(t, "an owner of a moment ago", err, fault.Forbidden)
}

func TestTwoOwnersCannotUnmakeEachOther(t *testing.T) {
	for range 20 {
		w := newPeople(t)
		_, second := w.join(w.owner, access.Owner)
		var wg sync.WaitGroup
		wg.Go(func() { w.SetRole(t.Context(), w.owner, second.ID, access.Member) })
		wg.Go(func() { w.RemoveMember(t.Context(), second, w.owner.ID) })
		wg.Wait()
		owners := 0
		for rec, err := range store.All(t.Context(), w.store, store.Prefix(layout.OrgUser(w.org.ID, ""))) {
			if err != nil {
				t.Fatal(err)
			}
			if string(rec.Value) == "owner" {
				owners++
			}
		}
		if owners != 1 {
			t.Fatalf("%d owners are left", owners)
		}
	}
	// and one after the other, with the second between the first's look and its step
	w := newPeople(t)
	_, second := w.join(w.owner, access.Owner)
	w.store.beforeCommit = func() { must(w.SetRole(t.Context(), second, w.owner.ID, access.Member))(t) }
	_, err := w.SetRole(t.Context(), w.owner, second.ID, access.Member)
	wantError(t, "the second", err, fault.Forbidden)
}

func TestARemovedMemberIsOutAtOnceAndLeavesNothing(t *testing.T) {
	w := newPeople(t)
	up, p := w.join(w.owner, access.Member)
	key := w.seen(must(w.CreateAPIKey(t.Context(), p.ID))(t))
	w.in(key)
	w.enroll(p)
	w.must(w.RemoveMember(t.Context(), w.owner, p.ID))
	w.out("a session", up.AccessToken)
	w.out("an API key", key)
	_, err := w.Refresh(t.Context(), w.from, up.RefreshToken)
	wantError(t, "refresh", err, fault.Unauthenticated)
	_, err = w.signIn(up.Email, goodPassword)
	if err != errSignIn {
		t.Errorf("signs in: %v", err)
	}
	_, err = w.SignedIn(t.Context(), w.from, p.ID, MethodPasskey, time.Time{})
	wantError(t, "a passkey", err, fault.Unauthenticated)
	for name, value := range w.dump() {
		if !strings.HasPrefix(name, "token") && (strings.Contains(name, p.ID) || strings.Contains(value, p.ID)) {
			t.Errorf("%s is left", name)
		}
	}
	if again := w.signUp(up.Email); again.UserID == p.ID || again.OrgID == w.org.ID {
		t.Errorf("the email's next user is the old one: %+v", again.UserID)
	}
	wantError(t, "a second time", w.RemoveMember(t.Context(), w.owner, p.ID), fault.NotFound)
}

func TestOfARemovedMemberADamagedKeyStaysAndNoOther(t *testing.T) {
	w := newPeople(t)
	_, p := w.join(w.owner, access.Member)
	keys := make([]string, 3)
	for i := range keys {
		keys[i] = w.seen(must(w.CreateAPIKey(t.Context(), p.ID))(t))
	}
	for _, damaged := range keys[:2] {
		var b store.Batch
		b.Put(layout.APIKey(hash(damaged)), []byte("{"))
		must(w.store.Commit(t.Context(), &b))(t)
	}
	wantError(t, "removing", w.RemoveMember(t.Context(), w.owner, p.ID), fault.Damaged)
	rows := w.dump()
	for i, key := range keys {
		if _, there := rows[layout.APIKey(hash(key))]; there != (i < 2) {
			t.Errorf("key %d is there: %t", i, there)
		}
	}
}

func TestAnotherOrgsMemberIsNotThere(t *testing.T) {
	w := newPeople(t)
	w.newAgent(api.CreateAgent{Name: "A"})
	for _, org := range []string{w.org.ID, w.stranger.OrgID} {
		must(w.CreateAdminKey(t.Context(), org))(t)
	}
	w.unchanged(func() {
		for _, id := range []string{w.stranger.ID, w.stranger.OrgID, "", "x", w.org.ID, w.stranger.ID + ":x", strings.Repeat("a", 5000)} {
			_, err := w.SetRole(t.Context(), w.owner, id, access.Member)
			wantError(t, "SetRole", err, fault.NotFound)
			wantError(t, "RemoveMember", w.RemoveMember(t.Context(), w.owner, id), fault.NotFound)
		}
		for _, id := range []string{w.owner.ID, w.stranger.ID, w.stranger.OrgID} {
			w.must(w.dropRemains(t.Context(), id)) // whatever brings it there
		}
		_, err := w.SetRole(t.Context(), w.owner, w.owner.ID, "boss")
		wantError(t, "a role that there is not", err, fault.Invalid)
	})
	_, agentKey := w.newAgent(api.CreateAgent{Scopes: []string{"**"}})
	agent := w.in(w.token(agentKey))
	wantError(t, "an agent", w.RemoveMember(t.Context(), agent, w.owner.ID), fault.Forbidden)
	_, err := w.Members(t.Context(), agent)
	wantError(t, "an agent", err, fault.Forbidden)
	_, err = w.Profile(t.Context(), agent)
	wantError(t, "an agent", err, fault.Forbidden)
}
