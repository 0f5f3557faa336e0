package passkey

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	mathrand "math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/storetest"
	"github.com/keyfold/keyfold/internal/token"
)

var (
	ann  = access.Principal{Kind: access.User, ID: "01900000-0000-7000-8000-00000000000a", OrgID: "o1"}
	bob  = access.Principal{Kind: access.User, ID: "01900000-0000-7000-8000-00000000000b", OrgID: "o1"}
	from = identity.From{Addr: netip.MustParseAddr("203.0.113.9"), RequestID: "r1"}
)

// rig is a Service on real challenges; everything else is a fake.
type rig struct {
	*Service
	t     *testing.T
	store *memstore.Store

	mu       sync.Mutex // guards all below
	now      time.Time
	gone     bool
	broken   error
	signedIn []string
	checks   []string
	events   []access.Event

	meanwhile func() // what happens once between a read and its commit
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

func newRig(t *testing.T) *rig {
	r := &rig{t: t, store: memstore.New(), now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	s, err := New(Config{
		Store: meddled{r.store, r}, Gate: r, Recorder: r, Challenges: token.New(token.Config{Store: r.store, Now: r.clock}), People: r,
		RPID: "keys.example.com", Origins: []string{"https://keys.example.com"}, Now: r.clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Service = s
	return r
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) SignedIn(_ context.Context, f identity.From, user, method string, _ time.Time) (api.Token, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f != from || method != "passkey" {
		r.t.Errorf("SignedIn by %q from %+v", method, f)
	}
	if r.gone {
		return api.Token{}, fault.New(fault.Unauthenticated, "he is no more")
	}
	r.signedIn = append(r.signedIn, user)
	return api.Token{AccessToken: "token of " + user}, nil
}

func (r *rig) Recipient(_ context.Context, _ string, _ access.Kind, id string) (string, string, error) {
	return id, id + "@example.com", nil
}

func (r *rig) Check(_ context.Context, p access.Principal, a access.Action, res access.Resource) error {
	r.checks = append(r.checks, res.As)
	return access.Allow(p, a, res, nil, r.clock())
}

func (r *rig) Filter(context.Context, access.Principal, access.Action, access.Resource) (func(string) bool, error) {
	return nil, errors.New("not asked")
}

func (r *rig) Record(_ context.Context, e access.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	return r.broken
}

func (r *rig) beginRegister(p access.Principal) api.PasskeyChallenge {
	r.t.Helper()
	c, err := r.BeginRegister(r.t.Context(), p)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) beginLogin() api.PasskeyChallenge {
	r.t.Helper()
	c, err := r.BeginLogin(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// register gives p a passkey on a new device.
func (r *rig) register(p access.Principal, key crypto.Signer) (*device, api.Passkey) {
	r.t.Helper()
	d := newDevice(r.t, key)
	k, err := r.FinishRegister(r.t.Context(), p, d.create(r.beginRegister(p)))
	if err != nil {
		r.t.Fatal(err)
	}
	return d, k
}

// signsIn checks that an answer begins a session of p's.
func (r *rig) signsIn(what string, p access.Principal, a api.FinishPasskey) {
	r.t.Helper()
	n := len(r.signedIn)
	if got, err := r.FinishLogin(r.t.Context(), from, a); err != nil || got.AccessToken != "token of "+p.ID || len(r.signedIn) != n+1 {
		r.t.Errorf("%s: %+v, %v", what, got, err)
	}
}

// refused checks that an answer is the one refusal, with its reason in the trail.
func (r *rig) refused(what string, a api.FinishPasskey, reason string) {
	r.t.Helper()
	n := len(r.signedIn)
	if got, err := r.FinishLogin(r.t.Context(), from, a); err != errLogin || got != (api.Token{}) || len(r.signedIn) != n {
		r.t.Errorf("%s: %+v, %v", what, got, err)
	}
	e := r.events[len(r.events)-1]
	if e.Action != "auth.failure" || e.Outcome != access.Failed || e.Details["reason"] != reason || e.Details["method"] != "passkey" || e.Addr != from.Addr {
		r.t.Errorf("%s: recorded %+v, want reason %s", what, e, reason)
	}
}

func TestAPasskeySignsItsUserIn(t *testing.T) {
	for name, key := range map[string]crypto.Signer{"P-256": p256(t), "Ed25519": ed(t)} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c := r.beginRegister(ann)
			o := read(t, c).PublicKey
			if o.RP.ID != "keys.example.com" || o.Selection.ResidentKey != "required" || o.Selection.UserVerification != "required" || o.Attestation != "none" || o.User.Name != ann.ID+"@example.com" {
				t.Errorf("options: %s", c.Options)
			}
			d := newDevice(t, key)
			req := d.create(c)
			req.Name = "laptop"
			k, err := r.FinishRegister(t.Context(), ann, req)
			if err != nil || k.Name != "laptop" || k.ID == "" || k.CloneWarning || k.LastUsedAt != nil {
				t.Fatalf("FinishRegister = %+v, %v", k, err)
			}
			if o := read(t, r.beginRegister(ann)).PublicKey; len(o.ExcludeCredentials) != 1 || o.ExcludeCredentials[0].ID != b64(d.id) {
				t.Errorf("a second registration does not exclude the first: %+v", o)
			}
			login := r.beginLogin()
			if o := read(t, login).PublicKey; o.UserVerification != "required" || len(o.AllowCredentials) != 0 || o.RPID != "keys.example.com" {
				t.Errorf("options: %s", login.Options)
			}
			r.signsIn("a device that does not count", ann, d.get(login))
			r.signsIn("again", ann, d.get(r.beginLogin()))
			d.counter = 7
			r.signsIn("it counts", ann, d.get(r.beginLogin()))
			list, err := r.List(t.Context(), ann)
			if err != nil || len(list.Passkeys) != 1 || list.Passkeys[0].LastUsedAt == nil || list.Passkeys[0].ID != k.ID {
				t.Errorf("List = %+v, %v", list, err)
			}
			if err := r.Delete(t.Context(), bob, k.ID); err != errNone {
				t.Errorf("another's Delete = %v", err)
			}
			if err := r.Delete(t.Context(), ann, k.ID); err != nil {
				t.Error(err)
			}
			if err := r.Delete(t.Context(), ann, k.ID); err != errNone {
				t.Errorf("a second Delete = %v", err)
			}
			d.counter++
			r.refused("deleted", d.get(r.beginLogin()), "unknown")
			left, err := r.store.Scan(t.Context(), store.Prefix("passkey"), store.ScanOptions{})
			if err != nil || len(left) != 0 {
				t.Errorf("rows are left: %v, %v", left, err)
			}
			if want := []string{"passkey.begin", "passkey.register", "passkey.begin", "passkey.list", "passkey.delete", "passkey.delete", "passkey.delete"}; !slices.Equal(r.checks, want) {
				t.Errorf("the gate was asked for %v", r.checks)
			}
		})
	}
}

func TestAnAnswerThatIsWrongAnywhereSignsNobodyIn(t *testing.T) {
	r := newRig(t)
	for name, key := range map[string]crypto.Signer{"P-256": p256(t), "Ed25519": ed(t)} {
		good, _ := r.register(ann, key)
		good.counter = 1
		for what, change := range map[string]func(*device){
			"another origin":      func(d *device) { d.origin = "https://keys.example.com.evil.example" },
			"plain HTTP":          func(d *device) { d.origin = "http://keys.example.com" },
			"another port":        func(d *device) { d.origin = "https://keys.example.com:444" },
			"a subdomain":         func(d *device) { d.origin = "https://a.keys.example.com" },
			"another RP ID":       func(d *device) { d.rpID = "example.com" },
			"nobody present":      func(d *device) { d.flags = userVerified },
			"nobody verified":     func(d *device) { d.flags = userPresent },
			"now backed up":       func(d *device) { d.flags |= eligible },
			"backed up wrongly":   func(d *device) { d.flags |= backedUp },
			"another ceremony":    func(d *device) { d.typ = "webauthn.create" },
			"within another page": func(d *device) { d.cross = true },
			"another key":         func(d *device) { d.key = p256(t) },
			"another key's kind":  func(d *device) { d.key = ed(t) },
			"another user":        func(d *device) { d.handle = bob.ID },
			"no user":             func(d *device) { d.handle = "" },
		} {
			bad := *good
			change(&bad)
			r.refused(name+": "+what, bad.get(r.beginLogin()), "answer")
		}
		flip := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
		for _, member := range []string{"signature", "authenticatorData"} {
			r.refused(name+": a bit of "+member, edit(t, good.get(r.beginLogin()), member, flip), "answer")
		}
		r.refused(name+": no signature", edit(t, good.get(r.beginLogin()), "signature", func([]byte) []byte { return nil }), "answer")
		unknown := *good
		unknown.id = make([]byte, 32)
		r.refused(name+": an unknown credential", unknown.get(r.beginLogin()), "unknown")
		// None of it did any harm.
		r.signsIn(name, ann, good.get(r.beginLogin()))
	}
}

// A passkey of bob's, on a device that says it is ann's, and the other way round.
func TestACredentialOfAnotherUserSignsNobodyIn(t *testing.T) {
	r := newRig(t)
	anns, _ := r.register(ann, p256(t))
	bobs, _ := r.register(bob, p256(t))
	bobs.handle, anns.handle = anns.handle, bobs.handle
	r.refused("bob's key as ann", bobs.get(r.beginLogin()), "answer")
	r.refused("ann's key as bob", anns.get(r.beginLogin()), "answer")
	stolen := *bobs
	stolen.id, stolen.handle = anns.id, ann.ID
	r.refused("bob's key under ann's credential", stolen.get(r.beginLogin()), "answer")
}

func TestAChallengeIsGoodOnceAndForItsOwnUse(t *testing.T) {
	r := newRig(t)
	d, _ := r.register(ann, p256(t))
	a := d.get(r.beginLogin())
	r.signsIn("first", ann, a)
	r.refused("replayed", a, "challenge")

	bad := *d
	bad.origin = "https://evil.example"
	c := r.beginLogin()
	r.refused("failed", bad.get(c), "answer")
	r.refused("the same challenge after a failure", d.get(c), "challenge")

	a = d.get(r.beginLogin())
	a.ChallengeID = r.beginLogin().ChallengeID
	r.refused("signed for another challenge", a, "answer")
	r.refused("a registration's challenge", d.get(r.beginRegister(ann)), "challenge")
	a = d.get(r.beginLogin())
	a.ChallengeID = ""
	r.refused("no challenge", a, "challenge")
	a = d.get(r.beginLogin())
	r.mu.Lock()
	r.now = r.now.Add(token.ChallengeTTL)
	r.mu.Unlock()
	r.refused("too late", a, "challenge")

	var ok atomic.Int32
	var wg sync.WaitGroup
	a = d.get(r.beginLogin())
	for range 16 {
		wg.Go(func() {
			if _, err := r.FinishLogin(t.Context(), from, a); err == nil {
				ok.Add(1)
			}
		})
	}
	wg.Wait()
	if ok.Load() != 1 {
		t.Errorf("%d sessions of one challenge", ok.Load())
	}
}

// What a server has just let in is refused by it at once when another removed it.
func TestAPasskeyThatIsRemovedOnOneServerIsRefusedOnTheOther(t *testing.T) {
	a := newRig(t)
	d, k := a.register(ann, p256(t))
	b := newRig(t)
	s, err := New(Config{
		Store: a.store, Gate: b, Recorder: b, Challenges: token.New(token.Config{Store: a.store, Now: b.clock}), People: b,
		RPID: "keys.example.com", Origins: []string{"https://keys.example.com"}, Now: b.clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Service = s
	for range 3 { // warm
		b.signsIn("before", ann, d.get(b.beginLogin()))
	}
	late := d.get(b.beginLogin())
	if err := a.Delete(t.Context(), ann, k.ID); err != nil {
		t.Fatal(err)
	}
	b.refused("a challenge from before", late, "unknown")
	b.refused("after", d.get(b.beginLogin()), "unknown")
}

func TestACounterThatGoesBackMarksThePasskeyForGood(t *testing.T) {
	r := newRig(t)
	d, _ := r.register(ann, p256(t))
	other, _ := r.register(ann, ed(t))
	d.counter = 5
	r.signsIn("5", ann, d.get(r.beginLogin()))
	r.refused("5 again: a copy", d.get(r.beginLogin()), "counter")
	d.counter = 6
	r.refused("6, which is either", d.get(r.beginLogin()), "cloned")
	list, err := r.List(t.Context(), ann)
	if err != nil || !list.Passkeys[0].CloneWarning || list.Passkeys[1].CloneWarning {
		t.Errorf("List = %+v, %v", list, err)
	}
	r.signsIn("another passkey", ann, other.get(r.beginLogin()))
}

// Two copies of one passkey, each with a challenge of its own and the same
// counter: one gets in. And who is deleted in between does not.
func TestAUseIsDecidedByWhoCommits(t *testing.T) {
	r := newRig(t)
	d, _ := r.register(ann, p256(t))
	d.counter = 9
	one, two := d.get(r.beginLogin()), d.get(r.beginLogin())
	r.meanwhile = func() { r.signsIn("the faster copy", ann, two) }
	if _, err := r.FinishLogin(t.Context(), from, one); err != errLogin {
		t.Errorf("the slower copy: %v", err)
	}
	list, err := r.List(t.Context(), ann)
	if err != nil || !list.Passkeys[0].CloneWarning {
		t.Errorf("List = %+v, %v", list, err)
	}

	d, k := r.register(ann, ed(t))
	a := d.get(r.beginLogin())
	r.meanwhile = func() {
		if err := r.Delete(t.Context(), ann, k.ID); err != nil {
			t.Error(err)
		}
	}
	r.refused("deleted meanwhile", a, "unknown")
}

func TestAPasskeyThatIsBackedUpSignsIn(t *testing.T) {
	r := newRig(t)
	d := newDevice(t, p256(t))
	d.flags |= eligible | backedUp
	if _, err := r.FinishRegister(t.Context(), ann, d.create(r.beginRegister(ann))); err != nil {
		t.Fatal(err)
	}
	r.signsIn("backed up", ann, d.get(r.beginLogin()))
	d.flags &^= eligible | backedUp
	r.refused("not any more", d.get(r.beginLogin()), "answer")
}

func TestARegistrationThatIsWrongAnywhereStoresNothing(t *testing.T) {
	r := newRig(t)
	for what, change := range map[string]func(*device){
		"another origin":   func(d *device) { d.origin = "https://evil.example" },
		"another RP ID":    func(d *device) { d.rpID = "evil.example" },
		"nobody present":   func(d *device) { d.flags = userVerified },
		"nobody verified":  func(d *device) { d.flags = userPresent },
		"another ceremony": func(d *device) { d.typ = "webauthn.get" },
		"in another page":  func(d *device) { d.cross = true },
	} {
		d := newDevice(t, p256(t))
		change(d)
		if _, err := r.FinishRegister(t.Context(), ann, d.create(r.beginRegister(ann))); !errors.Is(err, fault.Invalid) || err.Error() != errRegister.Message {
			t.Errorf("%s: %v", what, err)
		}
	}
	d := newDevice(t, p256(t))
	good := d.create(r.beginRegister(ann))
	if _, err := r.FinishRegister(t.Context(), bob, good); err != errRegister {
		t.Errorf("bob answers ann's challenge: %v", err)
	}
	if _, err := r.FinishRegister(t.Context(), ann, good); err != errRegister {
		t.Errorf("ann after that: %v", err)
	}
	if _, err := r.FinishRegister(t.Context(), ann, d.create(r.beginLogin())); err != errRegister {
		t.Errorf("a sign-in's challenge: %v", err)
	}
	long := d.create(r.beginRegister(ann))
	long.Name = strings.Repeat("x", 101)
	if _, err := r.FinishRegister(t.Context(), ann, long); err != errName {
		t.Errorf("a long name: %v", err)
	}
	for _, p := range []access.Principal{ann, bob} {
		if list, err := r.List(t.Context(), p); err != nil || len(list.Passkeys) != 0 {
			t.Errorf("List = %+v, %v", list, err)
		}
	}
	d, _ = r.register(ann, p256(t))
	if _, err := r.FinishRegister(t.Context(), bob, d.create(r.beginRegister(bob))); err != errTaken {
		t.Errorf("bob takes ann's credential over: %v", err)
	}
	d.handle = ann.ID
	d.counter++
	r.signsIn("it is ann's still", ann, d.get(r.beginLogin()))
}

func TestOnlyAPersonWithAnUnlimitedCredentialHasPasskeys(t *testing.T) {
	r := newRig(t)
	limited := ann
	limited.Ceiling = &access.Ceiling{Scopes: []string{"db/*"}}
	for _, p := range []access.Principal{{}, limited, {Kind: access.Agent, ID: "a", OrgID: "o1"}, {Kind: access.EndUser, ID: "e", OrgID: "o1"}, {Kind: access.Operator, ID: "k", OrgID: "o1"}} {
		_, err1 := r.BeginRegister(t.Context(), p)
		_, err2 := r.FinishRegister(t.Context(), p, api.FinishPasskey{})
		err3 := r.Delete(t.Context(), p, ann.ID)
		for i, err := range []error{err1, err2, err3} {
			if !errors.Is(err, fault.Forbidden) && !errors.Is(err, fault.Unauthenticated) {
				t.Errorf("%d by %s: %v", i, p.Ref(), err)
			}
		}
	}
	for range MaxPasskeys {
		r.register(ann, ed(t))
	}
	if _, err := r.BeginRegister(t.Context(), ann); err != errMany {
		t.Errorf("one too many: %v", err)
	}
}

func TestASignInNeedsTheUserAndTheTrail(t *testing.T) {
	r := newRig(t)
	d, k := r.register(ann, p256(t))
	r.gone = true
	r.refused("the user is no more", d.get(r.beginLogin()), "user")
	if e := r.events[len(r.events)-1]; e.OrgID != "o1" || e.ActorID != ann.ID || e.Details["passkey_id"] != k.ID {
		t.Errorf("recorded %+v", e)
	}
	r.gone = false
	d.key = p256(t)
	r.broken = errors.New("disk full")
	if _, err := r.FinishLogin(t.Context(), from, d.get(r.beginLogin())); !errors.Is(err, fault.Unavailable) {
		t.Errorf("a failure that cannot be recorded: %v", err)
	}
}

// Whatever is sent is answered, and signs nobody in.
func TestNoAnswerBreaksTheServer(t *testing.T) {
	r := newRig(t)
	d, _ := r.register(ann, p256(t))
	login, create := d.get(r.beginLogin()).Credential, d.create(r.beginRegister(ann)).Credential
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	for i := range 300 {
		for _, raw := range [][]byte{login, create} {
			bad := mutate(rng, raw)
			if _, err := r.FinishLogin(t.Context(), from, api.FinishPasskey{ChallengeID: r.beginLogin().ChallengeID, Credential: bad}); err != errLogin {
				t.Fatalf("%d: %v", i, err)
			}
			if _, err := r.FinishRegister(t.Context(), ann, api.FinishPasskey{ChallengeID: r.beginRegister(ann).ChallengeID, Credential: bad}); !errors.Is(err, fault.Invalid) {
				t.Fatalf("%d: %v", i, err)
			}
		}
	}
}

// mutate changes bytes of raw, or of the binary in one member of its response.
func mutate(rng *mathrand.Rand, raw []byte) []byte {
	raw = slices.Clone(raw)
	var body map[string]any
	if rng.IntN(2) == 0 || json.Unmarshal(raw, &body) != nil {
		raw[rng.IntN(len(raw))] ^= byte(1 + rng.IntN(255))
		return raw[:len(raw)-rng.IntN(2)*rng.IntN(len(raw))]
	}
	response := body["response"].(map[string]any)
	for member, text := range response {
		b, _ := base64.RawURLEncoding.DecodeString(text.(string))
		for range 1 + rng.IntN(4) {
			b[rng.IntN(len(b))] = byte(rng.IntN(256))
		}
		response[member] = b64(b[:len(b)-rng.IntN(2)*rng.IntN(len(b))])
	}
	raw, _ = json.Marshal(body)
	return raw
}

func TestAServiceNeedsADomainAndOrigins(t *testing.T) {
	for what, c := range map[string]Config{
		"no domain": {Origins: []string{"https://a.example"}}, "no origin": {RPID: "a.example"}, "a URL": {RPID: "https://a.example", Origins: []string{"https://a.example"}},
	} {
		if _, err := New(c); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// plainKey is an idem.Sealer of calls whose answers are no secrets.
type plainKey struct{ idem.Sealer }

func (plainKey) Key(context.Context) ([]byte, error) { return make([]byte, 32), nil }

// A server dies right after it stored a passkey, which is its second commit: sent again
// the request is answered with that passkey.
func TestAPasskeyWhoseServerDiedIsAnsweredWhenItIsSentAgain(t *testing.T) {
	r := newRig(t)
	answer := newDevice(t, p256(t)).create(r.beginRegister(ann))
	finish := func(s store.Store) (out idem.Reply, err error) {
		rows := idem.Wrap(s)
		service, err := New(Config{
			Store: rows, Gate: r, Recorder: r, Challenges: token.New(token.Config{Store: rows, Now: r.clock}), People: r,
			RPID: "keys.example.com", Origins: []string{"https://keys.example.com"}, Now: r.clock,
		})
		if err != nil {
			t.Fatal(err)
		}
		q := idem.Request{Key: "k", Principal: ann, Timeout: time.Minute, Status: func() int { return 201 }, Encode: func(v any) ([]byte, error) { return json.Marshal(v) }}
		return idem.New(idem.Config{Store: s, Sealer: plainKey{}, Now: r.clock}).Do(t.Context(), q, func(ctx context.Context) (idem.Reply, error) {
			k, err := service.FinishRegister(ctx, ann, answer)
			return idem.Reply{Status: 201, Body: []byte(k.ID)}, err
		})
	}
	if out, err := finish(&storetest.DyingStore{Store: r.store, At: 2, Takes: true}); err == nil {
		t.Fatalf("it was not cut off: %s", out.Body)
	}
	list, err := r.List(t.Context(), ann)
	if err != nil || len(list.Passkeys) != 1 {
		t.Fatalf("List = %+v, %v", list, err)
	}
	out, err := finish(r.store)
	if err != nil || !out.Replayed || !strings.Contains(string(out.Body), list.Passkeys[0].ID) {
		t.Errorf("sent again: %+v, %v", out, err)
	}
}
