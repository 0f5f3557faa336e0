package policy

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

const (
	v1      = "01900000-0000-7000-8000-0000000000a1"
	v2      = "01900000-0000-7000-8000-0000000000a2"
	mateID  = "01900000-0000-7000-8000-00000000000b"
	agentID = "01900000-0000-7000-8000-00000000000c"
)

var owner = access.Principal{Kind: access.User, ID: "01900000-0000-7000-8000-000000000001", OrgID: "o", Role: access.Member}

// world is a Service over two vaults of owner's.
type world struct {
	*Service
	*hookStore
	t     testing.TB
	gate  *accesstest.Gate
	known error
	now   time.Time
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, hookStore: &hookStore{Store: memstore.New()}, gate: new(accesstest.Gate), now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	w.Service = New(Config{
		Store: w.hookStore, Gate: w.gate, Vaults: w, Now: func() time.Time { return w.now },
		Known: func(context.Context, string, access.Kind, string) error { return w.known },
	})
	w.set(layout.VaultMeta(v1), "owner")
	w.set(layout.VaultMeta(v2), "owner")
	return w
}

// Resource is what a vault.Service answers.
func (w *world) Resource(ctx context.Context, _ access.Principal, vaultID string) (access.Resource, store.Revision, error) {
	rec, err := w.hookStore.Get(ctx, layout.VaultMeta(vaultID))
	if err != nil {
		return access.Resource{}, 0, nil
	}
	return access.Resource{OrgID: "o", OwnerID: owner.ID, VaultID: vaultID, Type: "vault", ID: vaultID}, rec.Revision, nil
}

func (w *world) grant(vaultID, user, pattern string, permissions ...string) api.Policy {
	return w.give(vaultID, "user", user, pattern, permissions)
}

func (w *world) grantAgent(vaultID, agent, pattern string, permissions ...string) api.Policy {
	return w.give(vaultID, "agent", agent, pattern, permissions)
}

func (w *world) give(vaultID, kind, id, pattern string, permissions []string) api.Policy {
	w.t.Helper()
	p, err := w.Create(w.t.Context(), owner, vaultID, api.CreatePolicy{SecretPathPattern: pattern, PrincipalType: kind, PrincipalID: id, Permissions: permissions})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) wantList(vaultID string, want ...api.Policy) {
	w.t.Helper()
	got, err := w.List(w.t.Context(), owner, vaultID)
	if err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff(append([]api.Policy{}, want...), got.Policies); diff != "" {
		w.t.Error(diff)
	}
}

// rows is the store: values by key.
func (w *world) rows() map[string]string {
	w.t.Helper()
	out := map[string]string{}
	for rec, err := range store.All(context.Background(), w.hookStore.Store, store.Range{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		out[rec.Key] = string(rec.Value)
	}
	return out
}

func (w *world) set(key, value string) { w.commit(func(b *store.Batch) { b.Put(key, []byte(value)) }) }
func (w *world) unset(key string)      { w.commit(func(b *store.Batch) { b.Delete(key) }) }

// commit writes past the Service.
func (w *world) commit(fill func(*store.Batch)) {
	w.t.Helper()
	var b store.Batch
	fill(&b)
	if _, err := w.hookStore.Store.Commit(context.Background(), &b); err != nil {
		w.t.Fatal(err)
	}
}

// hookStore lets a test come before a commit, or fail it.
type hookStore struct {
	store.Store
	beforeCommit func() // once
	failCommit   error
}

func (s *hookStore) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	if f := s.beforeCommit; f != nil {
		s.beforeCommit = nil
		f()
	}
	if s.failCommit != nil {
		return 0, s.failCommit
	}
	return s.Store.Commit(ctx, b)
}
