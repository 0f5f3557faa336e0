package identity

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/guard"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/token"
)

// keyRig is a Service over a real KMS, real tokens and the real gate, with two
// orgs; the store, the trail, the policies and the clock are the test's.
type keyRig struct {
	*Service
	t        testing.TB
	config   Config
	store    *countingStore
	clock    *clock
	trail    *trail
	patterns *patterns
	org      Org
	owner    access.Principal // of org
	stranger access.Principal // owner of the other org
	secrets  []string         // texts that may be nowhere
}

type clock struct {
	mu     sync.Mutex
	now    time.Time
	frozen bool
}

// Now goes on with each call, as time does, unless it is frozen.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.frozen {
		c.now = c.now.Add(time.Microsecond)
	}
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type trail struct {
	mu     sync.Mutex
	events []access.Event
	fail   error
}

func (r *trail) Record(_ context.Context, e access.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail == nil {
		r.events = append(r.events, e)
	}
	return r.fail
}

// taken returns the events since the last call, as "action outcome".
func (r *trail) taken() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		out = append(out, e.Action+" "+string(e.Outcome))
	}
	r.events = nil
	return out
}

type patterns struct {
	of  map[string][]string
	err error
}

func (p *patterns) Patterns(_ context.Context, kind access.Kind, id string) ([]string, error) {
	if kind != access.Agent {
		return nil, errors.New("of another kind")
	}
	return p.of[id], p.err
}

func (*patterns) Rules(context.Context, string, access.Kind, string) ([]access.Rule, error) {
	return nil, nil
}

func newKeyRig(t testing.TB) *keyRig { return newKeyRigOn(t, memstore.New()) }

func newKeyRigOn(t testing.TB, s store.Store) *keyRig {
	t.Helper()
	root, err := keyring.CreateFileRoot(filepath.Join(t.TempDir(), "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := kms.New(context.Background(), kms.Config{Store: memstore.New(), Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	r := &keyRig{
		t: t, store: &countingStore{Store: s}, clock: &clock{now: time.Unix(1_790_000_000, 0)},
		trail: new(trail), patterns: &patterns{of: map[string][]string{}},
	}
	box := sealed.New(r.store, k)
	r.config = Config{
		Store: r.store, Recorder: r.trail, Box: box, Patterns: r.patterns, Now: r.clock.Now,
		Gate:   guard.New(guard.Config{Rules: r.patterns, Recorder: r.trail, Now: r.clock.Now}),
		Tokens: token.New(token.Config{Store: r.store, Box: box, Now: r.clock.Now}),
	}
	r.Service = New(r.config)
	r.org, r.owner = r.newOrg("Org", access.Enterprise)
	_, r.stranger = r.newOrg("Other", access.Enterprise)
	return r
}

// must returns v, and ends the test at an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (r *keyRig) newOrg(name string, plan access.Plan) (Org, access.Principal) {
	r.t.Helper()
	o := must(r.CreateOrg(r.t.Context(), name, plan))(r.t)
	return o, r.newUser(o, access.Owner)
}

// newUser makes a user of that role and returns who his key is.
func (r *keyRig) newUser(o Org, role access.Role) access.Principal {
	r.t.Helper()
	u := must(r.CreateUser(r.t.Context(), o.ID, fmt.Sprintf("u%d@example.com", r.clock.Now().UnixNano())))(r.t)
	if u.Role != role {
		u.Role = role
		r.put(layout.User(u.ID), u)
	}
	return r.in(r.seen(must(r.CreateAPIKey(r.t.Context(), u.ID))(r.t)))
}

// in is who bearer is.
func (r *keyRig) in(bearer string) access.Principal {
	r.t.Helper()
	return must(r.Authenticate(r.t.Context(), bearer))(r.t)
}

// out tests that bearer is nobody.
func (r *keyRig) out(what, bearer string) {
	r.t.Helper()
	if p, err := r.Authenticate(r.t.Context(), bearer); err != errCredential || p != (access.Principal{}) {
		r.t.Errorf("%s: %+v, %v", what, p, err)
	}
}

// seen notes a text that may not be stored, recorded or told again.
func (r *keyRig) seen(text string) string {
	r.secrets = append(r.secrets, text)
	return text
}

func (r *keyRig) put(key string, v any) {
	r.t.Helper()
	var b store.Batch
	if v == nil {
		b.Delete(key)
	} else if err := put(&b, key, v); err != nil {
		r.t.Fatal(err)
	}
	must(r.store.Commit(r.t.Context(), &b))(r.t)
}

// newAgent makes an agent of the owner's.
func (r *keyRig) newAgent(req api.CreateAgent) (api.Agent, string) {
	r.t.Helper()
	if req.Name == "" {
		req.Name = "robot"
	}
	made := must(r.CreateAgent(r.t.Context(), r.owner, req))(r.t)
	return made.Agent, r.seen(made.APIKey)
}

func (r *keyRig) token(key string) string {
	r.t.Helper()
	return r.seen(must(r.AgentToken(r.t.Context(), From{}, api.GetAgentToken{APIKey: key}))(r.t).AccessToken)
}

// refuses tests that the agent's key, with that agent ID, gives no token, and
// that this is in the trail.
func (r *keyRig) refuses(what, key, id string) {
	r.t.Helper()
	r.trail.taken()
	got, err := r.AgentToken(r.t.Context(), From{}, api.GetAgentToken{APIKey: key, AgentID: id})
	if err != errCredential || got.AccessToken != "" {
		r.t.Errorf("%s: %v", what, err)
	}
	if diff := cmp.Diff([]string{"auth.failure failed"}, r.trail.taken()); diff != "" {
		r.t.Errorf("%s: %s", what, diff)
	}
}

func (r *keyRig) dump() map[string]string {
	r.t.Helper()
	all := map[string]string{}
	for rec, err := range store.All(context.Background(), r.store, store.Range{Start: "\x00"}) {
		if err != nil {
			r.t.Fatal(err)
		}
		all[rec.Key] = string(rec.Value)
	}
	return all
}

// unchanged runs f and tests that the store is as it was.
func (r *keyRig) unchanged(f func()) {
	r.t.Helper()
	before := r.dump()
	f()
	if diff := cmp.Diff(before, r.dump()); diff != "" {
		r.t.Error("the store was changed:", diff)
	}
}

// silent tests that no text that was seen is in the store, the trail or what
// else there is, beyond the characters that tell keys apart.
func (r *keyRig) silent(others ...any) {
	r.t.Helper()
	all := fmt.Sprintf("%+v %#v %+v", others, r.trail.events, r.dump())
	for _, text := range r.secrets {
		if strings.Contains(all, text[shownOfKey:]) {
			r.t.Errorf("%s... is somewhere", text[:shownOfKey])
		}
	}
}

func wantFault(t testing.TB, what string, err error, want fault.Code) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %s", what, err, want)
	}
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	return string(must(json.Marshal(v))(t))
}

func ptr[T any](v T) *T { return &v }
