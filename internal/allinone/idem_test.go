package allinone

import (
	stdcmp "cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/password"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// mortal is a store that is killed at a commit once it is armed.
type mortal struct {
	store.Store
	dying atomic.Pointer[storetest.DyingStore]
}

func (m *mortal) now() store.Store {
	if d := m.dying.Load(); d != nil {
		return d
	}
	return m.Store
}

func (m *mortal) Get(ctx context.Context, key string) (store.Record, error) {
	return m.now().Get(ctx, key)
}

func (m *mortal) Scan(ctx context.Context, r store.Range, o store.ScanOptions) ([]store.Record, error) {
	return m.now().Scan(ctx, r, o)
}

func (m *mortal) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	return m.now().Commit(ctx, b)
}

func (m *mortal) Close() error { return nil }

// onceRig is servers over stores of one state, with one key process.
type onceRig struct {
	t     testing.TB
	kms   KMS
	base  store.Store
	names *strings.Replacer
	key   string // of the org's owner
	owner string // his ID
	clock atomic.Int64
}

func newOnceRig(t testing.TB) *onceRig {
	t.Helper()
	r := &onceRig{t: t}
	n, err := Open(context.Background(), Config{Now: r.now, WrapKMS: func(k KMS) KMS { r.kms = k; return k }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close(context.Background()) })
	r.base = n.Store
	ctx := context.Background()
	org, err := n.Identity.CreateOrg(ctx, "o", access.Enterprise)
	if err != nil {
		t.Fatal(err)
	}
	u, err := n.Identity.CreateUser(ctx, org.ID, "a@example.com")
	if err == nil {
		r.owner = u.ID
		r.key, err = n.Identity.CreateAPIKey(ctx, u.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.names = strings.NewReplacer()
	by := n
	make := func(call, body, name, member string) string {
		w := r.call(by, call, body, "make "+call+body)
		var out map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code >= 300 {
			t.Fatalf("%s = %d %s", call, w.Code, w.Body)
		}
		if inner, ok := out["agent"].(map[string]any); ok {
			out = inner
		}
		id, _ := out[member].(string)
		return id
	}
	v := make("POST /v1/vaults", `{"name":"v"}`, "vault", "id")
	th := make("POST /v1/threads", `{}`, "thread", "id")
	m := make("POST /v1/threads/"+th+"/messages", `{"body":1}`, "message", "id")
	a := make("POST /v1/agents", `{"name":"a"}`, "agent", "id")
	secret := make("PUT /v1/vaults/"+v+"/secrets/there", `{"value":"v"}`, "secret", "id")
	mate, err := n.Identity.CreateUser(ctx, org.ID, "mate@example.com")
	if err != nil {
		t.Fatal(err)
	}
	by = r.serverOf(r.base, Config{Plain: true})
	clear := make("POST /v1/threads", `{"title":"in clear"}`, "thread", "id")
	said := make("POST /v1/threads/"+clear+"/messages", `{"body":1}`, "message", "id")
	if _, err := (inClear{r.base, sealed.New(r.base, r.kms)}).known(ctx, true); err != nil { // or nobody believes it
		t.Fatal(err)
	}
	r.names = strings.NewReplacer("{member}", mate.ID, "{vault}", v, "{thread}", th, "{message}", m, "{agent}", a, "{secret}", secret, "{clear}", clear, "{inclear}", said)
	return r
}

func (r *onceRig) now() time.Time { return time.Now().Add(time.Duration(r.clock.Load())) }

// quickHash hashes passwords so that hashes of another number of passes are stale.
func quickHash(passes uint32) *password.Hasher {
	return password.New(password.Params{Memory: 64, Passes: passes})
}

// server is one more server over s.
func (r *onceRig) server(s store.Store) *Node {
	r.t.Helper()
	return r.serverOf(s, Config{})
}

func (r *onceRig) serverOf(s store.Store, cfg Config) *Node {
	r.t.Helper()
	n := &Node{Store: s, metrics: newMetrics()}
	cfg.Now, cfg.Log, cfg.Passwords = r.now, slog.New(slog.DiscardHandler), stdcmp.Or(cfg.Passwords, quickHash(1))
	b := &bound{KMS: r.kms, store: s, health: func(context.Context) error { return nil }, adopt: true}
	err := b.prove(context.Background())
	if err == nil {
		err = n.assemble(context.Background(), b, cfg)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { n.Close(context.Background()) })
	return n
}

func (r *onceRig) call(n *Node, call, body, key string) *httptest.ResponseRecorder {
	return r.callUntil(context.Background(), n, call, body, key)
}

// callUntil is call of a client who hangs up when ctx ends.
func (r *onceRig) callUntil(ctx context.Context, n *Node, call, body, key string) *httptest.ResponseRecorder {
	method, path, _ := strings.Cut(r.names.Replace(call), " ")
	q := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(r.names.Replace(body)))
	q.Header.Set("Authorization", "Bearer "+r.key)
	if key != "" {
		q.Header.Set(api.HeaderIdempotencyKey, key)
	}
	w := httptest.NewRecorder()
	n.Handler.ServeHTTP(w, q)
	return w
}

// copied is a store of the rig's state.
func (r *onceRig) copied(old bool) store.Store {
	r.t.Helper()
	s := memstore.New()
	for rec, err := range store.All(context.Background(), r.base, store.Range{}) {
		if old && rec.Key == layout.IdentityStep() {
			continue
		}
		var b store.Batch
		b.Put(rec.Key, rec.Value)
		if err == nil {
			_, err = s.Commit(context.Background(), &b)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return s
}

var volatile = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32,}|[0-9]{14,}`)

// shape is how many rows of each kind there are, but for what is of no call: the trail,
// which keys are in use, and requests' own rows.
func (r *onceRig) shape(s store.Store) map[string]int {
	r.t.Helper()
	out := map[string]int{}
	for rec, err := range store.All(context.Background(), s, store.Range{}) {
		if err != nil {
			r.t.Fatal(err)
		}
		kind, _, _ := strings.Cut(rec.Key, ":")
		if strings.HasPrefix(kind, "trail") || strings.HasPrefix(kind, "audit") || kind == "idem" || strings.HasPrefix(rec.Key, "sealed:") || kind == "job" {
			continue
		}
		out[volatile.ReplaceAllString(rec.Key, "#")]++
	}
	return out
}

var onceCalls = []struct {
	call, body string
	status     int
	weak       bool // an answer that is not kept yet may be lost, or be of what was left to do
	old        bool // the store is from before there were indexes of users, which the call makes first
}{
	{"POST /v1/vaults", `{"name":"n"}`, 201, false, false},
	{"DELETE /v1/vaults/{vault}", "", 204, false, false},
	{"POST /v1/vaults/{vault}/cmek", `{"fingerprint":"` + strings.Repeat("ab", 32) + `"}`, 200, false, false},
	{"PUT /v1/vaults/{vault}/secrets/there", `{"value":"w"}`, 201, false, false},
	{"POST /v1/vaults/{vault}/secret-rotate/there", "", 201, false, false},
	{"DELETE /v1/vaults/{vault}/secrets/there", "", 204, false, false},
	{"POST /v1/threads", `{"title":"t"}`, 200, false, false},
	{"PUT /v1/threads/{thread}", `{"title":"t"}`, 200, false, false},
	{"DELETE /v1/threads/{thread}", "", 204, false, false},
	{"POST /v1/messages", `{"body":1}`, 200, false, false},
	{"POST /v1/threads/{thread}/messages", `{"body":1}`, 200, false, false},
	{"PUT /v1/threads/{thread}/messages/{message}", `{"body":2}`, 200, false, false},
	{"DELETE /v1/threads/{thread}/messages/{message}", "", 204, false, false},
	{"POST /v1/threads/{thread}/messages/{message}/reactions", `{"reaction":"+"}`, 200, false, false},
	{"POST /v1/threads/{thread}/import", `{"ts":1,"body":1}` + "\n" + `{"ts":2,"body":1}`, 200, true, false},
	{"POST /v1/auth/api-keys", `{"name":"k"}`, 201, false, false},
	{"POST /v1/agents", `{"name":"b"}`, 201, false, false},
	{"POST /v1/agents/{agent}/rotate-key", "", 200, false, false},
	{"DELETE /v1/agents/{agent}", "", 204, false, false},
	{"POST /v1/org/signing-keys", "", 201, false, false},
	{"POST /v1/org/invitations", `{"email":"x@example.com"}`, 201, false, false},
	{"POST /v1/secrets/{secret}/share", `{"recipient_type":"anyone_with_link","expires_at":"2099-01-01T00:00:00Z"}`, 201, false, false},
	{"POST /v1/vaults/{vault}/policies", `{"secret_path_pattern":"x","principal_type":"agent","principal_id":"{agent}","permissions":["read"]}`, 201, false, false},
	{"PATCH /v1/auth/me", `{"display_name":"d"}`, 200, false, false},
	{"DELETE /v1/org/members/{member}", "", 204, true, true},
	{"DELETE /v1/threads/{clear}/messages/{inclear}", "", 204, false, false}, // which gives the thread its first DEK before
	{"POST /v1/threads/{clear}/messages/{inclear}/reactions", `{"reaction":"+"}`, 200, false, false},
}

// A server dies at each commit that a write makes, which takes effect or does not. The
// same request to the next server, and once more, leaves what one request does.
func TestAWriteThatIsSentAgainAfterItsServerDiedIsMadeOnce(t *testing.T) {
	t.Parallel()
	r := newOnceRig(t)
	for _, c := range onceCalls {
		t.Run(c.call, func(t *testing.T) {
			r.t = t
			one := r.copied(c.old)
			if w := r.call(r.server(one), c.call, c.body, "k"); w.Code != c.status {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			want := r.shape(one)
			for at, died := 1, true; died; at++ {
				for _, takes := range []bool{false, true} {
					m := &mortal{Store: r.copied(c.old)}
					n := r.server(m)
					m.dying.Store(&storetest.DyingStore{Store: m.Store, At: at, Takes: takes})
					first := r.call(n, c.call, c.body, "k")
					if died = m.dying.Load().Dead(); !died {
						break
					}
					next := r.server(m.Store)
					second := r.call(next, c.call, c.body, "k")
					third := r.call(next, c.call, c.body, "k")
					lost := c.weak && second.Code == 409
					if second.Code != c.status && !lost {
						t.Errorf("killed at commit %d, which took effect: %t: %d, then %d %s", at, takes, first.Code, second.Code, second.Body)
					}
					if !c.weak && first.Code < 300 && second.Body.String() != first.Body.String() || !lost && third.Body.String() != second.Body.String() {
						t.Errorf("killed at commit %d, which took effect: %t: %s\n%s\n%s", at, takes, first.Body, second.Body, third.Body)
					}
					if diff := cmp.Diff(want, r.shape(m.Store)); diff != "" {
						t.Errorf("killed at commit %d, which took effect: %t: made once is -, this is +:\n%s", at, takes, diff)
					}
				}
			}
		})
	}
	r.t = t
}

// hungUp is a store whose client hangs up once the commit that is counted down to took
// effect.
type hungUp struct {
	store.Store
	left   atomic.Int64
	hangUp context.CancelFunc
}

func (h *hungUp) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	rev, err := h.Store.Commit(ctx, b)
	if h.left.Add(-1) == 0 {
		h.hangUp()
	}
	return rev, err
}

// Who hangs up at any moment and comes again hears what was done, which is done once.
func TestWhoHangsUpAndComesAgainHearsTheAnswer(t *testing.T) {
	t.Parallel()
	r := newOnceRig(t)
	for _, c := range onceCalls {
		t.Run(c.call, func(t *testing.T) {
			r.t = t
			one := r.copied(c.old)
			r.call(r.server(one), c.call, c.body, "k")
			want := r.shape(one)
			for at, hung := int64(1), true; hung; at++ {
				ctx, hangUp := context.WithCancel(t.Context())
				s := &hungUp{Store: r.copied(c.old), hangUp: hangUp}
				n := r.server(s)
				s.left.Store(at)
				first := r.callUntil(ctx, n, c.call, c.body, "k")
				if hung = s.left.Load() <= 0; !hung {
					hangUp()
					break
				}
				again := r.call(n, c.call, c.body, "k")
				if again.Code != c.status || first.Code < 300 && again.Body.String() != first.Body.String() {
					t.Errorf("hung up at commit %d: %d %s, then %d %s", at, first.Code, first.Body, again.Code, again.Body)
				}
				if diff := cmp.Diff(want, r.shape(s)); diff != "" {
					t.Errorf("hung up at commit %d: made once is -, this is +:\n%s", at, diff)
				}
			}
		})
	}
	r.t = t
}

// Whoever hears that his password was changed signs in with it, at whichever commit the
// server died. The first of these replaces a hash that is stale, and changes nothing.
func TestAPasswordIsChangedIfItsAnswerSaysSo(t *testing.T) {
	t.Parallel()
	r := newOnceRig(t)
	const was, is = "Correct-Horse-Battery-9", "Correct-Horse-Battery-10"
	stale := r.serverOf(r.base, Config{Passwords: quickHash(2)})
	if err := stale.Identity.SetPassword(t.Context(), r.owner, was); err != nil {
		t.Fatal(err)
	}
	const call, body = "POST /v1/auth/change-password", `{"current_password":"` + was + `","new_password":"` + is + `"}`
	signsIn := func(n *Node, password string) bool {
		return r.call(n, "POST /v1/auth/token", `{"email":"a@example.com","password":"`+password+`"}`, "").Code == 200
	}
	again := 0 // how often it was made by the request that was sent again
	for at, died := 1, true; died; at++ {
		for _, takes := range []bool{false, true} {
			m := &mortal{Store: r.copied(false)}
			n := r.server(m)
			m.dying.Store(&storetest.DyingStore{Store: m.Store, At: at, Takes: takes})
			first := r.call(n, call, body, "k")
			if died = m.dying.Load().Dead(); !died {
				break
			}
			next := r.server(m.Store)
			before := signsIn(next, was)
			second := r.call(next, call, body, "k")
			changed := signsIn(next, is)
			if said := first.Code == 204 || second.Code == 204; said && !changed || !changed && !signsIn(next, was) || second.Code != 204 && second.Code != 409 {
				t.Errorf("killed at commit %d, which took effect: %t: %d, then %d %s; it was changed: %t", at, takes, first.Code, second.Code, second.Body, changed)
			}
			if before && changed {
				again++
			}
		}
	}
	if again < 3 { // the rehash did not take effect; did; the change did not
		t.Errorf("it was made again %d times", again)
	}
}

// Requests of one key that meet, at two servers, are one.
func TestWritesOfOneKeyThatMeetAreOne(t *testing.T) {
	t.Parallel()
	r := newOnceRig(t)
	for _, c := range onceCalls {
		t.Run(c.call, func(t *testing.T) {
			r.t = t
			one, s := r.copied(c.old), &mortal{Store: r.copied(c.old)}
			r.call(r.server(one), c.call, c.body, "k")
			servers := []*Node{r.server(s), r.server(s)}
			answers := make([]*httptest.ResponseRecorder, 8)
			var all sync.WaitGroup
			for i := range answers {
				all.Go(func() { answers[i] = r.call(servers[i%2], c.call, c.body, "k") })
			}
			all.Wait()
			bodies := map[string]bool{}
			for _, w := range answers {
				switch {
				case w.Code == c.status:
					bodies[w.Body.String()] = true
				case w.Code != 409 || w.Header().Get("Retry-After") == "" && !strings.Contains(w.Body.String(), "idempotency"):
					t.Errorf("%d %s", w.Code, w.Body)
				}
			}
			if len(bodies) != 1 && !strings.HasSuffix(c.call, "/import") {
				t.Errorf("%d answers: %v", len(bodies), bodies)
			}
			if diff := cmp.Diff(r.shape(one), r.shape(s)); diff != "" {
				t.Errorf("made once is -, this is +:\n%s", diff)
			}
		})
	}
	r.t = t
}

// A key is forgotten, with its row and its answer, once the day after it is over.
func TestAKeyIsForgottenAfterADay(t *testing.T) {
	t.Parallel()
	r := newOnceRig(t)
	s := &mortal{Store: r.copied(false)}
	n := r.server(s)
	make := func() string { return r.call(n, "POST /v1/auth/api-keys", `{"name":"k"}`, "k").Body.String() }
	first := make()
	r.clock.Store(int64(24*time.Hour - time.Minute))
	if again := make(); again != first {
		t.Errorf("%s\n%s", first, again)
	}
	r.clock.Store(int64(49 * time.Hour))
	if again := make(); again == first || !strings.Contains(again, "1ck_") {
		t.Errorf("after two days: %s", again)
	}
	r.clock.Store(int64(98 * time.Hour))
	r.server(s) // which sweeps
	deadline := time.Now().Add(time.Minute)
	for left := "?"; left != ""; {
		left = ""
		for _, rows := range []string{"idem:", "sealed:idem:"} {
			recs, err := s.Scan(t.Context(), store.Prefix(rows), store.ScanOptions{})
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("%v; rows are left: %s", err, left)
			}
			for _, rec := range recs {
				left += fmt.Sprintln(rec.Key)
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// Of an answer that holds a secret no row of the store holds the secret in clear, nor
// the key that it came with, and it is answered again all the same.
func TestASecretThatIsAnsweredAgainIsInNoRowInClear(t *testing.T) {
	t.Parallel()
	r := newOnceRig(t)
	n := r.server(r.base)
	for _, c := range []struct{ call, body, secret string }{
		{"POST /v1/auth/api-keys", `{"name":"k"}`, "api_key"},
		{"POST /v1/agents", `{"name":"b"}`, "api_key"},
		{"POST /v1/agents/{agent}/rotate-key", "", "api_key"},
		{"POST /v1/org/signing-keys", "", "secret"},
		{"POST /v1/org/invitations", `{"email":"x@example.com"}`, "text"},
		{"POST /v1/secrets/{secret}/share", `{"recipient_type":"anyone_with_link","expires_at":"2099-01-01T00:00:00Z"}`, "share_url"},
	} {
		key := "canary of " + c.call
		first := r.call(n, c.call, c.body, key)
		var out map[string]any
		if err := json.Unmarshal(first.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		secret, _ := out[c.secret].(string)
		secret = secret[strings.LastIndex(secret, "/")+1:]
		if len(secret) < 20 {
			t.Fatalf("%s: no %s in %s", c.call, c.secret, first.Body)
		}
		if again := r.call(n, c.call, c.body, key); again.Body.String() != first.Body.String() {
			t.Errorf("%s is answered %s, and again %s", c.call, first.Body, again.Body)
		}
		for rec, err := range store.All(t.Context(), r.base, store.Range{}) {
			if err != nil {
				t.Fatal(err)
			}
			if row := rec.Key + string(rec.Value); strings.Contains(row, secret) || strings.Contains(row, key) {
				t.Errorf("%s: it lies in clear in %s", c.call, rec.Key)
			}
		}
	}
}

// Without the key an answer is nobody's, and the right to it may be lost.
func TestAnAnswerIsForWhoMayHaveIt(t *testing.T) {
	t.Parallel()
	r := newOnceRig(t)
	n := r.server(r.copied(false))
	const call, body = "POST /v1/auth/api-keys", `{"name":"k"}`
	first := r.call(n, call, body, "k")
	var made api.APIKeyCreated
	if err := json.Unmarshal(first.Body.Bytes(), &made); err != nil {
		t.Fatal(err)
	}
	org, err := n.Identity.CreateOrg(t.Context(), "p", access.Enterprise)
	if err != nil {
		t.Fatal(err)
	}
	u, err := n.Identity.CreateUser(t.Context(), org.ID, "b@example.com")
	if err != nil {
		t.Fatal(err)
	}
	other, err := n.Identity.CreateAPIKey(t.Context(), u.ID)
	if err != nil {
		t.Fatal(err)
	}
	owner := r.key
	r.key = other
	if w := r.call(n, call, body, "k"); w.Code != 201 || strings.Contains(w.Body.String(), made.APIKey) {
		t.Errorf("another principal: %d %s", w.Code, w.Body)
	}
	r.key = owner
	const put = "PUT /v1/vaults/{vault}/secrets/there"
	r.key = made.APIKey // of the same user
	if w := r.call(n, call, body, "k"); w.Body.String() != first.Body.String() {
		t.Errorf("by another credential: %d %s", w.Code, w.Body)
	}
	if w := r.call(n, put, `{"value":"x"}`, "p"); w.Code != 201 {
		t.Fatal(w.Body)
	}
	r.key = owner
	if w := r.call(n, "DELETE /v1/auth/api-keys/"+made.Key.ID, "", "d"); w.Code != 204 {
		t.Fatal(w.Body)
	}
	r.key = made.APIKey
	if w := r.call(n, put, `{"value":"x"}`, "p"); w.Code != 401 {
		t.Errorf("by a dead credential: %d %s", w.Code, w.Body)
	}
}

func BenchmarkIdempotency(b *testing.B) {
	r := newOnceRig(b)
	n := r.server(r.base)
	for _, c := range []struct{ name, call, body string }{
		{"post", "POST /v1/threads/{thread}/messages", `{"body":"` + strings.Repeat("x", 1024) + `"}`},
		{"put", "PUT /v1/vaults/{vault}/secrets/bench", `{"value":"` + strings.Repeat("x", 1024) + `"}`},
	} {
		for _, with := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/key=%t", c.name, with), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					key := ""
					if with {
						key = fmt.Sprintf("8e03978e-40d5-43e8-bc93-%012d-%d", i, time.Now().UnixNano())
					}
					if w := r.call(n, c.call, c.body, key); w.Code >= 300 {
						b.Fatal(w.Body)
					}
				}
			})
		}
	}
}
