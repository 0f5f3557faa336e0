package identity

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// oldRows is a store from before there were roles and indexes: two users of one
// org, and one of another who has an email of theirs.
var oldRows = map[string]string{
	"org:0194f3a0-0000-7000-8000-000000000001":  `{"id":"0194f3a0-0000-7000-8000-000000000001","name":"One","plan":"enterprise","created":"2026-01-02T03:04:05Z"}`,
	"org:0194f3a0-0000-7000-8000-000000000002":  `{"id":"0194f3a0-0000-7000-8000-000000000002","name":"Two","plan":"free","created":"2026-01-02T03:04:05Z"}`,
	"user:0194f3a0-0000-7000-8000-00000000000a": `{"id":"0194f3a0-0000-7000-8000-00000000000a","org":"0194f3a0-0000-7000-8000-000000000001","email":"Ann@Example.com","created":"2026-01-02T03:04:05Z"}`,
	"user:0194f3a0-0000-7000-8000-00000000000b": `{"id":"0194f3a0-0000-7000-8000-00000000000b","org":"0194f3a0-0000-7000-8000-000000000001","email":"bob@example.com","created":"2026-01-02T03:04:05Z"}`,
	"user:0194f3a0-0000-7000-8000-00000000000c": `{"id":"0194f3a0-0000-7000-8000-00000000000c","org":"0194f3a0-0000-7000-8000-000000000002","email":"ann@example.com","created":"2026-01-02T03:04:05Z"}`,
}

const (
	oldOrg  = "0194f3a0-0000-7000-8000-000000000001"
	oldAnn  = "0194f3a0-0000-7000-8000-00000000000a"
	oldTwin = "0194f3a0-0000-7000-8000-00000000000c" // has Ann's email
)

// oldStore holds oldRows; its rig's own users come later.
func oldStore(t testing.TB) *countingStore {
	t.Helper()
	s := &countingStore{Store: memstore.New()}
	var b store.Batch
	for key, value := range oldRows {
		b.Put(key, []byte(value))
	}
	must(s.Commit(t.Context(), &b))(t)
	return s
}

func TestOlderUsersOwnTheirOrgAndAreFoundFromTheFirstQuestionOn(t *testing.T) {
	s := oldStore(t)
	w := New(Config{Store: s})
	key := must(w.CreateAPIKey(t.Context(), oldAnn))(t)
	if p := must(w.Authenticate(t.Context(), key))(t); p.Role != access.Owner {
		t.Errorf("before the step: %+v", p)
	}
	// a new user with an older one's email is refused, though no index said so
	_, err := w.CreateUser(t.Context(), oldOrg, "BOB@example.com")
	wantError(t, "an older user's email", err, fault.Conflict)
	u := must(w.EnsureUser(t.Context(), oldOrg, "ann@example.com"))(t)
	if u.ID != oldAnn || u.Role != access.Owner {
		t.Errorf("Ann is %+v", u)
	}
	if id, _, err := w.Recipient(t.Context(), oldOrg, access.User, "Ann@example.com"); id != oldAnn || err != nil {
		t.Errorf("Recipient = %s, %v", id, err)
	}
	if p := must(w.Member(t.Context(), oldTwin))(t); p.Role != access.Owner || p.Plan != access.Free {
		t.Errorf("the twin is %+v", p)
	}
	got := map[string]string{}
	for _, prefix := range []string{"useremail:", "orguser:" + oldOrg} {
		for rec, err := range store.All(t.Context(), s, store.Prefix(prefix)) {
			if err != nil {
				t.Fatal(err)
			}
			got[rec.Key] = string(rec.Value)
		}
	}
	want := map[string]string{
		layout.UserEmail("ann@example.com"):                            oldAnn,
		layout.UserEmail("bob@example.com"):                            "0194f3a0-0000-7000-8000-00000000000b",
		layout.OrgUser(oldOrg, oldAnn):                                 "owner",
		layout.OrgUser(oldOrg, "0194f3a0-0000-7000-8000-00000000000b"): "owner",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if next := must(w.CreateUser(t.Context(), oldOrg, "new@example.com"))(t); next.Role != access.Member {
		t.Errorf("the next user is %s", next.Role)
	}
}

// The step may stop anywhere, and is gone through again.
func TestAStepThatWasCutOffIsDoneAtTheNextQuestion(t *testing.T) {
	for cut := range 4 {
		s := oldStore(t)
		left := cut
		dying := &dyingStore{Store: s, left: &left}
		_, err := New(Config{Store: dying}).CreateUser(t.Context(), oldOrg, "new@example.com")
		if err == nil {
			t.Fatalf("after %d commits: no error", cut)
		}
		w := New(Config{Store: s})
		_, err = w.CreateUser(t.Context(), oldOrg, "bob@example.com")
		wantError(t, "an older user's email", err, fault.Conflict)
		if id, _, err := w.Recipient(t.Context(), oldOrg, access.User, "ann@example.com"); id != oldAnn || err != nil {
			t.Errorf("after %d commits: Recipient = %s, %v", cut, id, err)
		}
		if _, err := s.Get(t.Context(), layout.IdentityStep()); err != nil {
			t.Errorf("after %d commits: %v", cut, err)
		}
	}
}

// dyingStore takes so many commits.
type dyingStore struct {
	store.Store
	left *int
}

func (s *dyingStore) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	if *s.left--; *s.left < 0 {
		return 0, errors.New("disk")
	}
	return s.Store.Commit(ctx, b)
}

func TestAnOlderTwinIsRemovedWithoutItsTwinsEmail(t *testing.T) {
	w := newPeople(t)
	s := oldStore(t)
	w.store.Store = s
	w.remake(func(*Config) {})
	twin := must(w.Member(t.Context(), oldTwin))(t)
	admin := must(w.CreateUser(t.Context(), twin.OrgID, "boss@example.com"))(t)
	must(w.SetRole(t.Context(), twin, admin.ID, access.Owner))(t)
	boss := must(w.Member(t.Context(), admin.ID))(t)
	w.must(w.RemoveMember(t.Context(), boss, oldTwin))
	if id, _, err := w.Recipient(t.Context(), oldOrg, access.User, "ann@example.com"); id != oldAnn || err != nil {
		t.Errorf("Ann's email is %q's now, %v", id, err)
	}
	bob := must(w.byEmail(t.Context(), oldOrg, "bob@example.com"))(t)
	w.must(w.RemoveMember(t.Context(), must(w.Member(t.Context(), bob.ID))(t), oldAnn))
	if up := w.signUp("ann@example.com"); up.UserID == oldAnn {
		t.Error("Ann is back")
	}
}

// The email of the older twin leads to the other's password.
func TestAnOlderTwinShowsItsOwnPassword(t *testing.T) {
	w := newPeople(t)
	w.store.Store = oldStore(t)
	w.remake(func(*Config) {})
	w.must(w.SetPassword(t.Context(), oldAnn, goodPassword))
	w.must(w.SetPassword(t.Context(), oldTwin, otherPassword))
	w.session("Ann@example.com", goodPassword)
	twin := must(w.Member(t.Context(), oldTwin))(t)
	err := w.ChangePassword(t.Context(), twin, api.ChangePassword{CurrentPassword: goodPassword, NewPassword: otherPassword})
	wantError(t, "by the other's password", err, errCurrentPassword)
}

func TestUsersAreFoundInTheirOrgAlone(t *testing.T) {
	w := newPeople(t)
	up, p := w.join(w.owner, access.Member)
	for _, name := range []string{p.ID, up.Email, "PERSON1@example.com"} {
		if id, email, err := w.Recipient(t.Context(), w.org.ID, access.User, name); id != p.ID || email != up.Email || err != nil {
			t.Errorf("%s is %s %s, %v", name, id, email, err)
		}
		_, _, err := w.Recipient(t.Context(), w.stranger.OrgID, access.User, name)
		wantError(t, "from another org", err, fault.NotFound)
		_, _, err = w.Recipient(t.Context(), w.org.ID, access.Agent, name)
		wantError(t, "as an agent", err, fault.NotFound)
	}
	for _, name := range []string{"", "@", "x", "a@", w.org.ID} {
		_, _, err := w.Recipient(t.Context(), w.org.ID, access.User, name)
		wantError(t, "nobody", err, fault.NotFound)
	}
	_, err := w.Member(t.Context(), w.org.ID)
	wantError(t, "nobody", err, fault.NotFound)
}

func TestAPlanIsTheOperatorsAndEndsInItsTime(t *testing.T) {
	w := newPeople(t)
	op := w.in(must(w.CreateAdminKey(t.Context(), w.org.ID))(t))
	org, key := w.stranger.OrgID, must(w.CreateAPIKey(t.Context(), w.stranger.ID))(t)
	set := func(plan access.Plan, until time.Time) { w.must(w.SetPlan(t.Context(), op, org, plan, until)) }
	is := func(plan access.Plan, until time.Time) {
		t.Helper()
		got, ends, err := w.Plan(t.Context(), org)
		if got != plan || !ends.Equal(until) || err != nil {
			t.Errorf("the plan is %s until %v, %v; want %s until %v", got, ends, err, plan, until)
		}
		if p, q := must(w.Member(t.Context(), w.stranger.ID))(t), w.in(key); p.Plan != plan || q.Plan != plan {
			t.Errorf("a member's plan is %s and %s, want %s", p.Plan, q.Plan, plan)
		}
	}
	never, soon := time.Time{}, w.clock.Now().Add(time.Hour)
	is(access.Enterprise, never)
	set(access.Free, never)
	is(access.Free, never)
	set(access.Business, soon)
	set(access.Pro, soon) // free is still what follows
	is(access.Pro, soon)
	w.clock.add(time.Hour)
	is(access.Free, never)
	set(access.Pro, w.clock.Now().Add(time.Hour))
	set(access.Business, never)
	w.clock.add(2 * time.Hour)
	is(access.Business, never)
	w.unchanged(func() {
		for _, p := range []access.Principal{w.owner, w.stranger, {}} {
			if err := w.SetPlan(t.Context(), p, org, access.Enterprise, never); err == nil {
				t.Errorf("%+v set a plan", p)
			}
		}
		wantError(t, "a plan that there is not", w.SetPlan(t.Context(), op, org, "gold", never), fault.Invalid)
		wantError(t, "an org that there is not", w.SetPlan(t.Context(), op, w.owner.ID, access.Free, never), fault.NotFound)
	})
}
