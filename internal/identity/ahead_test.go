package identity

import (
	"context"
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// aheadStore notes what it is told to read together, and what is read.
type aheadStore struct {
	store.Store
	told, got []string
}

func (s *aheadStore) Ahead(ctx context.Context, keys ...string) context.Context {
	s.told = append(s.told, keys...)
	return ctx
}

func (s *aheadStore) Get(ctx context.Context, key string) (store.Record, error) {
	s.got = append(s.got, key)
	return s.Store.Get(ctx, key)
}

func (s *countingStore) Under() store.Store { return s.Store }

func TestTheRowsOfACredentialAreReadTogetherFromItsSecondUseOn(t *testing.T) {
	s := &aheadStore{Store: memstore.New()}
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
			s.told, s.got = nil, nil
			r.in(bearer)
			slices.Sort(s.told)
			slices.Sort(s.got)
			if use == 0 && s.told != nil || use > 0 && !slices.Equal(s.told, s.got) {
				t.Errorf("use %d of %s: told to read ahead %q, and read %q", use, name, s.told, s.got)
			}
		}
	}
	r.put(layout.User(r.owner.ID), nil)
	r.out("the key of a user who is no more", users)
}

func TestWhereTheRowsOfCredentialsAreIsForgottenInTheEnd(t *testing.T) {
	var c credentialRows
	for i := range 2*maxCredentialRows + 1 {
		c.remember(sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(i >> 16)}), "own", access.Principal{})
		if n := len(c.known); n == 0 || n > maxCredentialRows {
			t.Fatalf("%d are remembered", n)
		}
	}
}
