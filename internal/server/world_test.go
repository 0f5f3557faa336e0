package server_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// canary is the plaintext of secrets and messages here. It may be in the
// answer to a read by its owner, and nowhere else: in no other answer, no log
// line, no row of a store.
const canary = "plaintext-canary-7d21"

// world is a server with an owner, a mate in the same org, and a stranger: an
// owner of another.
type world struct {
	*keyfoldtest.Server
	t              *testing.T
	mate, stranger string // API keys
	admin          string // an admin key, of tests that make one
	heard          *listener
}

func newWorld(t *testing.T, opts ...keyfoldtest.Option) *world {
	t.Helper()
	s := keyfoldtest.Start(t, opts...)
	w := &world{Server: s, t: t, mate: s.NewUser(s.Owner.OrgID).APIKey, stranger: s.NewOrg("enterprise").APIKey, heard: newListener(t)}
	t.Cleanup(func() { w.MustNotHold(t, canary, w.APIKey, w.mate, w.stranger) })
	w.use(w.APIKey, w.mate, w.stranger)
	return w
}

// use uses keys once, so that what a first use notes or makes is there.
func (w *world) use(keys ...string) {
	w.t.Helper()
	for _, key := range keys {
		for _, path := range []string{"/v1/org/members", "/v1/audit/events?limit=1", "/v1/auth/jwt-public-key"} {
			r := httptest.NewRequestWithContext(w.t.Context(), "GET", path, nil)
			r.Header.Set("Authorization", "Bearer "+key)
			w.Node().Handler.ServeHTTP(httptest.NewRecorder(), r)
		}
	}
}

// newAdmin makes an admin key.
func (w *world) newAdmin() string {
	w.t.Helper()
	key := w.NewAdminKey()
	w.use(key)
	return key
}

// scenario is one call and what must and must not be in its answer.
type scenario struct {
	key    string // whose call; "": the owner's; "-": nobody's
	call   string // "METHOD /path"
	header []string
	body   string

	status  int
	want    []string // parts of the body
	forbid  []string // beside the canary
	headers []string // of the answer: "Name: value", or "Name:" for absent
	reads   bool     // the canary is allowed: the owner reads
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// do makes the call of sc and checks its answer.
func (w *world) do(sc scenario) answer {
	w.t.Helper()
	method, path, _ := strings.Cut(sc.call, " ")
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.URL+path, strings.NewReader(sc.body))
	if err != nil {
		w.t.Fatal(err)
	}
	switch sc.key {
	case "":
		r.Header.Set("Authorization", "Bearer "+w.APIKey)
	case "-":
	default:
		r.Header.Set("Authorization", "Bearer "+sc.key)
	}
	for i := 0; i < len(sc.header); i += 2 {
		r.Header.Add(sc.header[i], sc.header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(r) // which follows no redirect
	if err != nil {
		w.t.Fatalf("%s: %v", sc.call, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatalf("%s: %v", sc.call, err)
	}
	a := answer{res.StatusCode, res.Header, string(body)}
	w.heard.hear(r, sc.body, a)
	w.check(sc, a)
	return a
}

// text is what a GET that is not answered in JSON answers.
func (w *world) text(key, path string) string {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), "GET", w.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		w.t.Fatalf("GET %s = %d: %s, %v", path, res.StatusCode, body, err)
	}
	w.heard.hear(r, "", answer{res.StatusCode, res.Header, string(body)})
	return string(body)
}

// check compares a with sc and with what holds of every answer.
func (w *world) check(sc scenario, a answer) {
	w.t.Helper()
	if a.status != sc.status {
		w.t.Errorf("%s = %d, want %d: %s", sc.call, a.status, sc.status, a.body)
	}
	for _, part := range sc.want {
		if !strings.Contains(a.body, part) {
			w.t.Errorf("%s lacks %q: %s", sc.call, part, a.body)
		}
	}
	for _, part := range append(sc.forbid, w.APIKey, w.mate, w.stranger) {
		if strings.Contains(a.body, part) {
			w.t.Errorf("%s holds %q: %s", sc.call, part, a.body)
		}
	}
	if !sc.reads && strings.Contains(a.body, canary) {
		w.t.Errorf("%s shows the plaintext: %s", sc.call, a.body)
	}
	for _, h := range sc.headers {
		name, value, _ := strings.Cut(h, ":")
		if got := a.header.Get(name); got != strings.TrimSpace(value) {
			w.t.Errorf("%s: header %s is %q, want %q", sc.call, name, got, value)
		}
	}
	if !strings.HasPrefix(sc.call, "HEAD ") { // which has no body to look at
		checkForm(w.t, sc.call, a)
	}
}

// checkForm holds any answer to the ground rules.
func checkForm(t testing.TB, call string, a answer) {
	t.Helper()
	contentType := a.header.Get("Content-Type")
	switch {
	case a.status >= 300 && a.status < 400:
		t.Errorf("%s is sent elsewhere: %d", call, a.status)
	case a.status >= 400:
		var p api.Problem
		_, path, _ := strings.Cut(call, " ")
		isProblem := contentType == "application/problem+json" || contentType == "application/json" && isGenerationC(path)
		if err := json.Unmarshal([]byte(a.body), &p); err != nil || !isProblem {
			t.Errorf("%s: %q is no problem (%s)", call, a.body, contentType)
		} else if p.Status != a.status || p.Type == "" || p.Title == "" || p.Detail == "" || p.Error != p.Detail && p.Error != p.Type || p.RequestID == "" {
			t.Errorf("%s: problem lacks a member: %s", call, a.body)
		}
	case a.status == 204:
		if a.body != "" || contentType != "" {
			t.Errorf("%s: 204 with %q (%s)", call, a.body, contentType)
		}
	case contentType != "application/json" || !json.Valid([]byte(a.body)):
		t.Errorf("%s: %q is no JSON (%s)", call, a.body, contentType)
	}
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Request-Id") == "" {
		t.Errorf("%s: headers are %v", call, a.header)
	}
}

// vault makes a vault of the owner's and returns its path. With sealed it has
// CMEK under fingerprint.
func (w *world) vault(sealed bool) string {
	w.t.Helper()
	a := w.do(scenario{call: "POST /v1/vaults", body: `{"name":"v"}`, status: 201})
	path := "/v1/vaults/" + decode[api.Vault](w.t, a).ID
	if sealed {
		w.do(scenario{call: "POST " + path + "/cmek", body: `{"fingerprint":"` + fingerprint + `"}`, status: 200})
	}
	return path
}

// thread makes a thread of the owner's and returns its path.
func (w *world) thread() string {
	w.t.Helper()
	a := w.do(scenario{call: "POST /v1/threads", body: `{"title":"T"}`, status: 200})
	return "/v1/threads/" + decode[api.Thread](w.t, a).ID
}

func decode[T any](t testing.TB, a answer) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%q: %v", a.body, err)
	}
	return v
}

// object returns the members of a JSON object.
func object(t testing.TB, a answer) map[string]any {
	t.Helper()
	return decode[map[string]any](t, a)
}

// rows is the server's store but for the trail, which also has what was refused, and
// the counts of guesses, which servers over one store keep there: revisions by key.
func (w *world) rows() map[string]store.Revision {
	w.t.Helper()
	out := map[string]store.Revision{}
	for rec, err := range store.All(w.t.Context(), w.Node().Store, store.Range{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		if !strings.HasPrefix(rec.Key, "trail") && !strings.HasPrefix(rec.Key, layout.Guesses("")) {
			out[rec.Key] = rec.Revision
		}
	}
	return out
}

// unchanged runs do and fails when it changed rows.
func (w *world) unchanged(do func()) {
	w.t.Helper()
	before := w.rows()
	do()
	after := w.rows()
	for key, rev := range after {
		if before[key] != rev {
			w.t.Errorf("row %q was written", key)
		}
		delete(before, key)
	}
	for key := range before {
		w.t.Errorf("row %q was deleted", key)
	}
}
