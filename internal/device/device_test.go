package device

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/token"
)

var (
	person  = access.Principal{Kind: access.User, ID: "u1", OrgID: "o1"}
	another = access.Principal{Kind: access.User, ID: "u2", OrgID: "o2"}
	from    = identity.From{Addr: netip.MustParseAddr("203.0.113.9"), RequestID: "r1"}
)

// rig is a Service on real challenges; everything else is a fake.
type rig struct {
	*Service
	t     *testing.T
	store store.Store

	mu       sync.Mutex // guards all below
	now      time.Time
	signedIn []string
	gone     bool
	ended    time.Time // when the sessions of all were
	wait     time.Duration
	wrong    int // attempts that count as wrong
	events   []access.Event
	broken   error

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
	r := &rig{t: t, now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	r.store = meddled{memstore.New(), r}
	r.Service = New(Config{
		Challenges: token.New(token.Config{Store: r.store, Now: r.clock}), People: r, Gate: r, Recorder: r, Guesses: r,
		PublicURL: "https://keys.example.com", Now: r.clock,
	})
	return r
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

func (r *rig) SignedIn(_ context.Context, f identity.From, user, method string, proved time.Time) (api.Token, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if method != "device" || f != from {
		r.t.Errorf("SignedIn by %q from %+v", method, f)
	}
	if !proved.After(r.ended) {
		return api.Token{}, fault.New(fault.Unauthenticated, "his sessions were ended")
	}
	r.signedIn = append(r.signedIn, user)
	return api.Token{AccessToken: "token of " + user, TokenType: "Bearer", ExpiresIn: 86400}, nil
}

func (r *rig) Proved(context.Context, access.Principal) (time.Time, error) { return r.clock(), nil }

func (r *rig) Recipient(_ context.Context, org string, kind access.Kind, id string) (string, string, error) {
	if r.gone || kind != access.User || org != "o"+id[1:] {
		return "", "", fault.New(fault.NotFound, "no such user")
	}
	return id, id + "@example.com", nil
}

func (r *rig) Check(_ context.Context, p access.Principal, a access.Action, res access.Resource) error {
	return access.Allow(p, a, res, nil, r.clock())
}

func (r *rig) Filter(context.Context, access.Principal, access.Action, access.Resource) (func(string) bool, error) {
	return nil, errors.New("not asked")
}

func (r *rig) Record(_ context.Context, e access.Event) error {
	r.events = append(r.events, e)
	return r.broken
}

func (r *rig) Wait(string) time.Duration {
	if r.wait == 0 {
		r.wrong++
	}
	return r.wait
}
func (r *rig) Undo(string) { r.wrong-- }

func (r *rig) begin() api.DeviceCode {
	r.t.Helper()
	c, err := r.Code(r.t.Context(), api.RequestDeviceCode{ClientID: "keyfold-cli"}, from)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) poll(code string) (api.DeviceToken, error) {
	return r.Token(r.t.Context(), api.RequestDeviceToken{DeviceCode: code, GrantType: api.DeviceGrant}, from)
}

// says checks that a poll is answered with word, and no session.
func (r *rig) says(what, code, word string) {
	r.t.Helper()
	got, err := r.poll(code)
	if f := fault.Of(err); err == nil || f.Code != fault.Invalid || f.Type != word || got != (api.DeviceToken{}) {
		r.t.Errorf("%s: %+v, %v (%s), want %s", what, got, err, f.Type, word)
	}
}

func TestADeviceGetsTheSessionOfWhoApprovesOnce(t *testing.T) {
	r := newRig(t)
	c := r.begin()
	if len(c.DeviceCode) != codeLen || len(c.UserCode) != 9 || c.ExpiresIn != 600 || c.Interval != 5 ||
		c.VerificationURI != "https://keys.example.com/device" || c.VerificationURIComplete != c.VerificationURI+"?user_code="+c.UserCode {
		t.Errorf("Code = %+v", c)
	}
	r.says("nobody has looked", c.DeviceCode, api.DevicePending)
	typed := strings.ToLower(strings.ReplaceAll(c.UserCode, "-", " "))
	q, err := r.Look(t.Context(), person, typed)
	if err != nil || q.UserCode != c.UserCode || q.ClientID != "keyfold-cli" || q.IPAddress != from.Addr.String() || !q.ExpiresAt.Equal(r.clock().Add(10*time.Minute)) {
		t.Errorf("Look = %+v, %v", q, err)
	}
	r.advance(5 * time.Second)
	r.says("one has looked", c.DeviceCode, api.DevicePending)
	if err := r.Approve(t.Context(), person, typed); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"approved by another": r.Approve(t.Context(), another, c.UserCode), "denied": r.Deny(t.Context(), person, c.UserCode),
	} {
		if err != errNoCode {
			t.Errorf("decided already, then %s: %v", what, err)
		}
	}
	if len(r.events) != 1 {
		t.Errorf("recorded %+v", r.events)
	}
	got, err := r.poll(c.DeviceCode)
	want := api.DeviceToken{Token: api.Token{AccessToken: "token of u1", TokenType: "Bearer", ExpiresIn: 86400}, Email: "u1@example.com", UserID: "u1", OrgID: "o1"}
	if err != nil || got != want {
		t.Errorf("Token = %+v, %v", got, err)
	}
	r.says("again", c.DeviceCode, api.DeviceExpired)
	if rows, _ := r.store.Scan(t.Context(), store.Range{}, store.ScanOptions{}); len(rows) != 0 {
		t.Errorf("%d rows remain", len(rows))
	}
}

func TestOfManyPollsOneGetsTheSession(t *testing.T) {
	r := newRig(t)
	c := r.begin()
	if err := r.Approve(t.Context(), person, c.UserCode); err != nil {
		t.Fatal(err)
	}
	var got atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := r.poll(c.DeviceCode); err == nil {
				got.Add(1)
			} else if err != errExpired {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got.Load() != 1 || len(r.signedIn) != 1 {
		t.Errorf("%d polls got a session, %d sessions began", got.Load(), len(r.signedIn))
	}
}

func TestOfTwoDecisionsTheFirstCounts(t *testing.T) {
	r := newRig(t)
	c := r.begin()
	r.meanwhile = func() {
		if err := r.Deny(t.Context(), person, c.UserCode); err != nil {
			t.Error(err)
		}
	}
	if err := r.Approve(t.Context(), another, c.UserCode); err != errNoCode {
		t.Errorf("denied meanwhile: %v", err)
	}
	r.says("then", c.DeviceCode, api.DeviceDenied)
}

func TestNoWayToASessionButAnApproval(t *testing.T) {
	r := newRig(t)
	c := r.begin()
	other := r.begin()
	if err := r.Approve(t.Context(), person, other.UserCode); err != nil {
		t.Fatal(err)
	}
	r.says("another code was approved", c.DeviceCode, api.DevicePending)
	for what, code := range map[string]string{
		"unknown": newCode(), "the user code": c.UserCode, "empty": "", "cut": c.DeviceCode[:len(c.DeviceCode)-1],
		"a letter changed": c.DeviceCode[:len(c.DeviceCode)-2] + "__",
	} {
		r.says(what, code, api.DeviceExpired)
	}
	_, err := r.Token(t.Context(), api.RequestDeviceToken{DeviceCode: other.DeviceCode, GrantType: "password"}, from)
	if fault.Of(err).Type != api.DeviceGrantErr {
		t.Errorf("another grant: %v", err)
	}
	if err := r.Deny(t.Context(), person, c.UserCode); err != nil {
		t.Fatal(err)
	}
	r.says("denied", c.DeviceCode, api.DeviceDenied)
	r.says("denied, again", c.DeviceCode, api.DeviceExpired)

	c = r.begin()
	r.advance(CodeTTL)
	r.says("too late", c.DeviceCode, api.DeviceExpired)
	if err := r.Approve(t.Context(), person, c.UserCode); err != errNoCode {
		t.Errorf("approved too late: %v", err)
	}

	c = r.begin()
	if err := r.Approve(t.Context(), person, c.UserCode); err != nil {
		t.Fatal(err)
	}
	r.gone = true
	r.says("who approved is no more", c.DeviceCode, api.DeviceExpired)
	r.gone = false

	c = r.begin()
	if err := r.Approve(t.Context(), person, c.UserCode); err != nil {
		t.Fatal(err)
	}
	r.advance(time.Minute)
	r.ended = r.clock().Add(-time.Second)
	r.says("who approved has ended his sessions", c.DeviceCode, api.DeviceExpired)
	if len(r.signedIn) != 0 {
		t.Errorf("sessions began: %v", r.signedIn)
	}
}

// A user code that comes again belongs to the newer device; the older device,
// which has another device code, gets nothing of it.
func TestADeviceCodeIsItsOwnRecordsAlone(t *testing.T) {
	r := newRig(t)
	c := r.begin()
	err := r.Challenges.ChangeChallenge(t.Context(), kind, userCode(c.DeviceCode), func(ch *token.Challenge) error {
		return encode(ch, pending{Device: hash("another"), ClientID: "x", User: "u1", Org: "o1"})
	})
	if err != nil {
		t.Fatal(err)
	}
	r.says("somebody else's", c.DeviceCode, api.DeviceExpired)
	if len(r.signedIn) != 0 {
		t.Errorf("sessions began: %v", r.signedIn)
	}
}

func TestAPollThatComesTooSoonMakesTheIntervalLonger(t *testing.T) {
	r := newRig(t)
	c := r.begin()
	r.says("first", c.DeviceCode, api.DevicePending)
	r.advance(5*time.Second - time.Nanosecond)
	r.says("too soon", c.DeviceCode, api.DeviceSlowDown)
	r.advance(10*time.Second - time.Nanosecond)
	r.says("still too soon", c.DeviceCode, api.DeviceSlowDown)
	r.advance(15 * time.Second)
	r.says("in time", c.DeviceCode, api.DevicePending)
	if err := r.Approve(t.Context(), person, c.UserCode); err != nil {
		t.Fatal(err)
	}
	if _, err := r.poll(c.DeviceCode); err != nil {
		t.Errorf("approved: %v", err)
	}
}

func TestOnlyAPersonWithAnUnlimitedCredentialDecides(t *testing.T) {
	r := newRig(t)
	c := r.begin()
	limited := person
	limited.Ceiling = &access.Ceiling{Scopes: []string{"db/*"}}
	for _, p := range []access.Principal{{}, {Kind: access.Agent, ID: "a1", OrgID: "o1"}, {Kind: access.EndUser, ID: "e1", OrgID: "o1"}, {Kind: access.Operator, ID: "k1", OrgID: "o1"}, limited} {
		for name, decide := range map[string]func(context.Context, access.Principal, string) error{"Approve": r.Approve, "Deny": r.Deny} {
			if err := decide(t.Context(), p, c.UserCode); !errors.Is(err, fault.Forbidden) && !errors.Is(err, fault.Unauthenticated) {
				t.Errorf("%s by %s: %v", name, p.Ref(), err)
			}
		}
	}
	r.says("then", c.DeviceCode, api.DevicePending)
	if r.wrong != 0 || len(r.events) != 0 {
		t.Errorf("%d guesses, events %v", r.wrong, r.events)
	}
}

func TestGuessesOfUserCodesAreCountedAndEnd(t *testing.T) {
	r := newRig(t)
	c := r.begin()
	for _, text := range []string{"", "BCDF", "BCDF-GHJA", "BCDF-GHJK", "BCDFGHJKL"} {
		if _, err := r.Look(t.Context(), person, text); err != errNoCode {
			t.Errorf("Look(%q) = %v", text, err)
		}
		if err := r.Approve(t.Context(), person, text); err != errNoCode {
			t.Errorf("Approve(%q) = %v", text, err)
		}
	}
	if r.wrong != 10 {
		t.Errorf("%d wrong guesses, not 10", r.wrong)
	}
	if _, err := r.Look(t.Context(), person, c.UserCode); err != nil || r.wrong != 10 {
		t.Errorf("a right one: %v, %d wrong", err, r.wrong)
	}
	r.wait = time.Minute
	for name, err := range map[string]error{"Approve": r.Approve(t.Context(), person, c.UserCode), "Deny": r.Deny(t.Context(), person, c.UserCode)} {
		if f := fault.Of(err); f.Code != fault.TooMany || f.RetryAfter != time.Minute {
			t.Errorf("%s while it waits: %v", name, err)
		}
	}
}

func TestTheStoreHoldsNoCodeOfADevice(t *testing.T) {
	r := newRig(t)
	c := r.begin()
	r.says("poll", c.DeviceCode, api.DevicePending)
	rows, err := r.store.Scan(t.Context(), store.Range{}, store.ScanOptions{})
	if err != nil || len(rows) == 0 {
		t.Fatal(rows, err)
	}
	for _, rec := range rows {
		for _, secret := range []string{c.DeviceCode, c.UserCode, userCode(c.DeviceCode)} {
			if strings.Contains(rec.Key+string(rec.Value), secret) {
				t.Errorf("%s holds %q", rec.Key, secret)
			}
		}
	}
}

func TestADecisionIsRecordedOrNotMade(t *testing.T) {
	r := newRig(t)
	c := r.begin()
	r.broken = errors.New("disk full")
	if err := r.Approve(t.Context(), person, c.UserCode); !errors.Is(err, fault.Unavailable) {
		t.Errorf("Approve = %v", err)
	}
	r.says("then", c.DeviceCode, api.DevicePending)
	r.broken = nil
	if err := r.Deny(t.Context(), person, c.UserCode); err != nil {
		t.Error(err)
	}
	if e := r.events[len(r.events)-1]; e.Action != "device.deny" || e.ActorID != "u1" || e.OrgID != "o1" || e.Details["client_id"] != "keyfold-cli" {
		t.Errorf("recorded %+v", e)
	}
}

func TestUserCodesHaveTheirFormAndSpread(t *testing.T) {
	seen := map[string]bool{}
	letters := map[rune]int{}
	for range 2000 {
		code := userCode(newCode())
		if back, ok := parseUserCode(show(code)); !ok || back != code {
			t.Fatalf("%q is read as %q, %v", show(code), back, ok)
		}
		seen[code] = true
		for _, l := range code {
			letters[l]++
		}
	}
	if len(seen) < 1999 || len(letters) != len(userAlphabet) {
		t.Errorf("%d codes of 2000, %d letters", len(seen), len(letters))
	}
	for l, n := range letters {
		if n < 600 || n > 1000 { // 800 in the mean, with a deviation of 28
			t.Errorf("%c is %d times in 16000", l, n)
		}
	}
}

func TestAClientNamesItself(t *testing.T) {
	r := newRig(t)
	for _, id := range []string{"", strings.Repeat("x", 101), "a\nb", "\xff", "a\u202eb"} {
		if _, err := r.Code(t.Context(), api.RequestDeviceCode{ClientID: id}, from); !errors.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", id, err)
		}
	}
}
