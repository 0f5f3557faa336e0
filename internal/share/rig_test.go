package share

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/vault"
)

const (
	orgID    = "01900000-0000-7000-8000-000000000001"
	vaultID  = "01900000-0000-7000-8000-000000000002"
	secretID = "01900000-0000-7000-8000-000000000003"
	value    = "plaintext-canary-5b1e"
)

var (
	maker    = access.Principal{Kind: access.User, ID: "01900000-0000-7000-8000-00000000000a", OrgID: orgID, Addr: netip.MustParseAddr("192.0.2.1")}
	mate     = access.Principal{Kind: access.User, ID: "01900000-0000-7000-8000-00000000000b", OrgID: orgID}
	agent    = access.Principal{Kind: access.Agent, ID: "01900000-0000-7000-8000-00000000000c", OrgID: orgID, Ceiling: &access.Ceiling{Scopes: []string{"db/**"}}}
	stranger = access.Principal{Kind: access.User, ID: mate.ID, OrgID: "01900000-0000-7000-8000-0000000000ff"}
	nobody   = access.Principal{Addr: netip.MustParseAddr("203.0.113.9"), RequestID: "r1"}
)

// rig is a Service on a memstore; everything else is a fake that says what the
// test wants.
type rig struct {
	*Service
	t *testing.T

	mu     sync.Mutex // guards all below
	now    time.Time
	may    bool  // the maker may share
	gone   bool  // the maker is no member any more
	left   bool  // the maker is of another org by now
	broken error // what the recorder answers
	secret vault.Read
	fails  error // what ReadShared answers before it counts
	busy   error // what Verify answers
	events []access.Event
	asked  access.Principal // whom Filter was asked about

	meanwhile func() // what happens once between a read and its commit
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, may: true, now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	r.secret = vault.Read{Secret: api.Secret{ID: secretID, Path: "db/password", Type: "generic", Value: value, Version: 3}}
	r.Service = New(Config{
		Store: meddled{memstore.New(), r}, Gate: r, Recorder: r, Vault: r, People: r, Passwords: r, PublicURL: "https://keys.example.com", Now: r.clock,
	})
	return r
}

// meddled is a store in which things happen before a commit.
type meddled struct {
	*memstore.Store
	r *rig
}

func (m meddled) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	if f := m.r.meanwhile; f != nil {
		m.r.meanwhile = nil
		f()
	}
	return m.Store.Commit(ctx, b)
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) advance(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

func (r *rig) Record(_ context.Context, e access.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	return r.broken
}

func (r *rig) Check(_ context.Context, p access.Principal, a access.Action, res access.Resource) error {
	if p.Kind != access.User {
		if res.ID != "" && !isID(res.ID) {
			r.t.Errorf("a text of the caller's is recorded: %q", res.ID)
		}
		return nil // a gate that is too kind
	}
	if a != access.SecretShare || res.VaultID != vaultID || res.Path != "db/password" || res.OwnerID == "" {
		r.t.Errorf("the gate was asked for %s on %+v", a, res)
	}
	if !r.may || p.ID != maker.ID {
		return fault.New(fault.Forbidden, "no")
	}
	return nil
}

func (r *rig) Filter(ctx context.Context, p access.Principal, a access.Action, res access.Resource) (func(string) bool, error) {
	r.mu.Lock()
	r.asked = p
	r.mu.Unlock()
	return func(path string) bool { return path == "db/password" && r.Check(ctx, p, a, res) == nil }, nil
}

func (r *rig) Locate(_ context.Context, org, id string) (vault.Located, error) {
	if org != orgID || id != secretID {
		return vault.Located{}, fault.New(fault.NotFound, "no such secret")
	}
	return vault.Located{OrgID: org, OwnerID: maker.ID, VaultID: vaultID, Path: "db/password", Fingerprint: r.secret.CMEKFingerprint}, nil
}

func (r *rig) ReadShared(_ context.Context, sh vault.Shared, count func() error) (vault.Read, error) {
	if sh.OrgID != orgID || sh.VaultID != vaultID || sh.SecretID != secretID || sh.Path != "db/password" {
		r.t.Errorf("ReadShared of %+v", sh)
	}
	switch {
	case r.fails != nil:
		return vault.Read{}, r.fails
	case sh.Intents:
		return vault.Read{}, fault.New(fault.Forbidden, "have it used")
	case r.secret.CMEKFingerprint != "" && r.secret.CMEKFingerprint != sh.Fingerprint:
		return vault.Read{}, vault.ErrShareSealed
	}
	if err := count(); err != nil {
		return vault.Read{}, err
	}
	return r.secret, nil
}

func (r *rig) Member(_ context.Context, id string) (access.Principal, error) {
	if r.gone || id != maker.ID {
		return access.Principal{}, fault.New(fault.NotFound, "no such user")
	}
	p := access.Principal{Kind: access.User, ID: id, OrgID: orgID}
	if r.left {
		p.OrgID = stranger.OrgID
	}
	return p, nil
}

func (r *rig) Recipient(_ context.Context, org string, kind access.Kind, who string) (id, email string, err error) {
	switch {
	case org != orgID:
	case kind == access.User && (who == mate.ID || who == "mate@example.com"):
		return mate.ID, "mate@example.com", nil
	case kind == access.Agent && who == agent.ID:
		return agent.ID, "", nil
	}
	return "", "", fault.New(fault.NotFound, "no such recipient")
}

func (r *rig) Hash(_ context.Context, text string) (string, error) { return "hash of " + text, nil }

func (r *rig) Verify(_ context.Context, hash, text string) (ok, stale bool, err error) {
	return hash == "hash of "+text && r.busy == nil, false, r.busy
}

// share makes a share of maker's that ends in an hour, and returns what opens
// it: its ID, or the last part of its link.
func (r *rig) share(edit func(*api.CreateShare)) (id, text string) {
	r.t.Helper()
	end := r.clock().Add(time.Hour)
	req := api.CreateShare{RecipientType: api.ShareLink, ExpiresAt: &end}
	if edit != nil {
		edit(&req)
	}
	c, err := r.Create(r.t.Context(), maker, secretID, req)
	if err != nil {
		r.t.Fatal(err)
	}
	text, ok := strings.CutPrefix(c.ShareURL, "https://keys.example.com/v1/share/")
	if !ok || !strings.HasPrefix(text, c.ID) {
		r.t.Fatalf("the link is %q", c.ShareURL)
	}
	return c.ID, text
}

// refused checks that an opening is refused with code and gives nothing out.
func (r *rig) refused(what string, p access.Principal, text, passphrase string, code fault.Code) {
	r.t.Helper()
	out, err := r.Open(r.t.Context(), p, text, passphrase)
	if !errors.Is(err, code) || out != (api.SharedSecret{}) {
		r.t.Errorf("%s: Open = %+v, %v; want %s", what, out, err, code)
	}
	if code == fault.NotFound && err != errNone {
		r.t.Errorf("%s: %v is not the one answer", what, err)
	}
}

// opens checks that an opening gives the value out, as the n-th.
func (r *rig) opens(what string, p access.Principal, text, passphrase string, n int) {
	r.t.Helper()
	out, err := r.Open(r.t.Context(), p, text, passphrase)
	if err != nil || out.Value != r.secret.Secret.Value || out.AccessCount != n {
		r.t.Errorf("%s: Open = %+v, %v; want access %d", what, out, err, n)
	}
}

// last is the newest event.
func (r *rig) last() access.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events[len(r.events)-1]
}

func ptr[T any](v T) *T { return &v }
