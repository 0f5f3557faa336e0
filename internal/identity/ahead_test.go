package identity

import (
	"errors"
	"slices"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

func (s *countingStore) Under() store.Store { return s.Store }

func TestTheRowsOfACredentialAreReadTogetherFromItsSecondUseOn(t *testing.T) {
	s := &storetest.Reads{Store: memstore.New()}
	r := newKeyRigOn(t, s)
	ctx := t.Context()
	_, key := r.newAgent(api.CreateAgent{Name: "A"})
	users := must(r.CreateAPIKey(ctx, r.owner.ID))(t)
	for name, bearer := range map[string]string{
		"a user's key":      users,
		"an operator's key": must(r.CreateAdminKey(ctx, r.org.ID))(t),
		"an agent's token":  must(r.AgentToken(ctx, From{}, api.GetAgentToken{APIKey: key}))(t).AccessToken,
	} {
		for use := range 3 {
			s.Told, s.Got = nil, nil
			r.in(bearer)
			slices.Sort(s.Told)
			slices.Sort(s.Got)
			if use == 0 && s.Told != nil || use > 0 && !slices.Equal(s.Told, s.Got) {
				t.Errorf("use %d of %s: told to read ahead %q, and read %q", use, name, s.Told, s.Got)
			}
		}
	}

	given := must(r.CreateUser(ctx, r.org.ID, "given@example.com"))(t)
	if err := r.DeleteAPIKey(ctx, r.owner, r.in(users).Credential); err != nil {
		t.Fatal(err)
	}
	r.out("a key that was deleted", users)
	if err := r.EnsureAPIKey(ctx, given.ID, users); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.Told, s.Got = nil, nil
		if p := r.in(users); p.ID != given.ID {
			t.Fatalf("the key that was given to %s is %s's", given.ID, p.ID)
		}
	}
	if slices.Contains(s.Told, layout.User(r.owner.ID)) || !slices.Contains(s.Told, layout.User(given.ID)) {
		t.Errorf("of a key that is another's now %q is read ahead", s.Told)
	}
	r.store.fail = errors.New("away")
	if _, err := r.Authenticate(ctx, users); err == nil || errors.Is(err, fault.Unauthenticated) {
		t.Errorf("while the store is away: %v", err)
	}
	r.store.fail, s.Told = nil, nil
	if r.in(users); s.Told == nil {
		t.Error("what the store did not answer for is not known any more")
	}
	r.put(layout.User(given.ID), nil)
	r.out("the key of a user who is no more", users)
	s.Told = nil
	if r.out("the same", users); s.Told != nil {
		t.Errorf("of a user who is no more %q is read ahead", s.Told)
	}
}
