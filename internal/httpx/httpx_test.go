package httpx

import (
	"bytes"
	"context"
	stdjson "encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

// canary must be in no answer and no log line.
const canary = "canary-4f1c"

type in struct {
	Name string             `json:"name"`
	N    int                `json:"n"`
	Free stdjson.RawMessage `json:"free"`
}

func echo(_ context.Context, c *Call, v in) (in, error) {
	if v.Name == "" {
		return in{}, fault.New(fault.Invalid, "name is required")
	}
	return v, nil
}

// rows is a table with one row of each kind.
func rows() []Row {
	return []Row{
		{Method: "GET", Pattern: "/open", Who: Public, Handler: NoBody(200, func(_ context.Context, c *Call) (string, error) {
			return c.Principal.ID, nil
		})},
		{Method: "GET", Pattern: "/once", Who: Public, Optional: true, Handler: NoBody(200, func(context.Context, *Call) (string, error) { return "value", nil })},
		{Method: "GET", Pattern: "/things", Handler: NoBody(200, func(context.Context, *Call) (string, error) { return "list", nil })},
		{Method: "POST", Pattern: "/things", MaxBody: 1000, Handler: Body(201, echo)},
		{Method: "POST", Pattern: "/large", MaxBody: 1 << 20, Handler: Body(201, echo)},
		{Method: "POST", Pattern: "/free", MaxBody: 1000, FreeForm: true, Handler: Body(200, func(_ context.Context, _ *Call, v in) (stdjson.RawMessage, error) {
			return v.Free, nil
		})},
		{Method: "POST", Pattern: "/maybe", MaxBody: 1000, OptionalBody: true, Handler: Body(200, func(_ context.Context, _ *Call, v in) (in, error) { return v, nil })},
		{Method: "GET", Pattern: "/things/{id}", Handler: NoBody(200, func(_ context.Context, c *Call) (string, error) { return c.Param("id"), nil })},
		{Method: "DELETE", Pattern: "/things/{thing}", Handler: Empty(func(_ context.Context, c *Call) error { return nil })},
		{Method: "GET", Pattern: "/things/{id}/parts/{path...}", Handler: NoBody(200, func(_ context.Context, c *Call) (string, error) {
			return c.Param("id") + "|" + c.Param("path"), nil
		})},
		{Method: "GET", Pattern: "/things/{id}/fixed", Handler: NoBody(200, func(context.Context, *Call) (string, error) { return "fixed", nil })},
		{Method: "GET", Pattern: "/query", Handler: NoBody(200, func(_ context.Context, c *Call) (string, error) {
			q, err := c.Query()
			return q.Get("q"), err
		})},
		{Method: "POST", Pattern: "/wait", MaxBody: 1000, OptionalBody: true, Timeout: 30 * time.Millisecond, Handler: Body(200, func(ctx context.Context, _ *Call, _ in) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		})},
		{Method: "GET", Pattern: "/panic", Handler: NoBody(200, func(context.Context, *Call) (string, error) {
			if key := []byte(canary); len(key) > 0 {
				panic("lost " + string(key))
			}
			return "", nil
		})},
		{Method: "GET", Pattern: "/panic/late", Handler: func(_ context.Context, c *Call) error {
			c.Send(200, JSON, []byte("{}"))
			panic("late")
		}},
		{Method: "GET", Pattern: "/fail/{code}", Handler: NoBody(200, func(_ context.Context, c *Call) (string, error) {
			return "", fault.Wrap(fault.Code(c.Param("code")), errors.New("cause of "+c.Param("code")), "said so").WithType(c.Header("X-Type"))
		})},
		{Method: "GET", Pattern: "/unnamed", Handler: NoBody(200, func(context.Context, *Call) (string, error) {
			return "", errors.New("the unnamed " + canary)
		})},
		{Method: "GET", Pattern: "/unwritable", Handler: NoBody(200, func(context.Context, *Call) (string, error) { return "\xff", nil })},
	}
}

// testLog is a log that a test can read while a server writes it.
type testLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *testLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func testMux(_ testing.TB, origins ...string) (*Mux, *testLog) {
	log := new(testLog)
	return New(Config{
		Rows: rows(),
		Authenticate: func(_ context.Context, bearer string) (access.Principal, error) {
			if bearer != "good" {
				return access.Principal{}, fault.New(fault.Unauthenticated, "this key is not known")
			}
			return access.Principal{Kind: access.User, ID: "u1", OrgID: "o1"}, nil
		},
		CORSOrigins: origins,
		Log:         slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}), log
}

// do sends a request of method and target with alternating header names and values.
func do(m http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer good")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return serve(m, r)
}

func serve(m http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	m.ServeHTTP(w, r)
	return w
}

// checkProblem fails unless w is a whole problem of that status.
func checkProblem(t *testing.T, w *httptest.ResponseRecorder, status int, detail string) api.Problem {
	t.Helper()
	var p api.Problem
	if err := stdjson.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%d %q is no problem: %v", w.Code, w.Body, err)
	}
	if w.Code != status || p.Status != status || !strings.Contains(p.Detail, detail) {
		t.Errorf("answer is %d %+v, want %d with %q", w.Code, p, status, detail)
	}
	if p.Type == "" || p.Title == "" || p.Detail == "" || p.Error != p.Detail || p.RequestID != w.Header().Get("X-Request-Id") {
		t.Errorf("problem lacks a member: %+v", p)
	}
	if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("Content-Type of a problem is %q", ct)
	}
	return p
}

func TestARowIsFoundByMethodAndPath(t *testing.T) {
	m, _ := testMux(t)
	for _, c := range []struct{ method, target, want string }{
		{"GET", "/open", `""`},
		{"GET", "/things", `"list"`},
		{"GET", "/things/7", `"7"`},
		{"GET", "/things/fixed", `"fixed"`}, // an ID
		{"GET", "/things/7/fixed", `"fixed"`},
		{"GET", "/%74hings/a%20b", `"a b"`},
		{"GET", "/things/a%2Fb", `"a/b"`},
		{"GET", "/things/https:%2F%2Fa%2F..%2Fb", `"https://a/../b"`}, // an end user's ID may be any text
		{"GET", "/things/7/parts/a/b", `"7|a/b"`},
		{"GET", "/things/7/parts/a%2Fb", `"7|a/b"`},
		{"GET", "/things/7/parts/a%2Fb/c", `"7|a/b/c"`},
		{"GET", "/things/7/parts/", `"7|"`},
		{"GET", "/things/7/parts/a/", `"7|a/"`},
		{"GET", "/things/7/parts/a%20b%252F", `"7|a b%2F"`},
		{"GET", "/query?q=a%20b", `"a b"`},
	} {
		w := do(m, c.method, c.target, "")
		if w.Code != 200 || w.Body.String() != c.want || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s %s = %d %s, want %s", c.method, c.target, w.Code, w.Body, c.want)
		}
	}
	if w := do(m, "DELETE", "/things/7", ""); w.Code != 204 || w.Body.Len() != 0 || w.Header().Get("Content-Type") != "" {
		t.Errorf("DELETE = %d %q, want 204 and nothing", w.Code, w.Body)
	}
}

func TestNoPathIsEverRedirected(t *testing.T) {
	m, _ := testMux(t)
	for _, c := range []struct {
		target string
		status int
		detail string
	}{
		{"//open", 400, "segment"},
		{"/things//x", 400, "segment"},
		{"/things/./x", 400, "segment"},
		{"/things/../open", 400, "segment"},
		{"/things/..", 400, "segment"},
		{"/things/.", 400, "segment"},
		{"/things/%2e%2e/open", 400, "segment"},
		{"/things/%2E", 400, "segment"},
		{"/things/a%2Fb//c", 400, "segment"},
		{"/things/7/parts/a%2F..%2Fb", 400, "segment"},
		{"/things/7/parts/a%2F%2Fb", 400, "segment"},
		{"/things/7/parts/a%2F/b", 400, "segment"},
		{"/things/%00", 400, "control"},
		{"/things/a%0Ab", 400, "control"},
		{"/things/%ff", 400, "UTF-8"},
		{"/things/", 404, "no such route"},
		{"/open/", 404, "no such route"},
		{"/things/7/parts", 404, "no such route"}, // ServeMux would add a slash here
		{"/", 404, "no such route"},
		{"/nowhere", 404, "no such route"},
		{"/OPEN", 404, "no such route"},
		{"/things/...", 200, ""}, // unusual, but no dot segment
	} {
		w := do(m, "GET", c.target, "")
		if c.status != 200 {
			checkProblem(t, w, c.status, c.detail)
		} else if w.Code != 200 {
			t.Errorf("GET %s = %d", c.target, w.Code)
		}
		if w.Header().Get("Location") != "" {
			t.Errorf("GET %s sends the client elsewhere", c.target)
		}
	}
	checkProblem(t, do(m, "OPTIONS", "*", ""), 404, "no such route")
}

func TestAWrongMethodHearsTheRightOnes(t *testing.T) {
	m, _ := testMux(t)
	for _, c := range []struct{ method, target, allow string }{
		{"PUT", "/things", "GET, POST"},
		{"PATCH", "/things/7", "DELETE, GET"},
		{"HEAD", "/things", "GET, POST"}, // a HEAD would be a read that nobody counts
		{"HEAD", "/once", "GET"},
		{"OPTIONS", "/open", "GET"},
	} {
		w := do(m, c.method, c.target, "")
		checkProblem(t, w, 405, "Allow")
		if w.Header().Get("Allow") != c.allow {
			t.Errorf("%s %s: Allow is %q, want %q", c.method, c.target, w.Header().Get("Allow"), c.allow)
		}
	}
	if w := do(m, "HEAD", "/open", ""); w.Code != 200 {
		t.Errorf("HEAD of a public row = %d", w.Code)
	}
}

func TestOnlyALiveCredentialPasses(t *testing.T) {
	m, _ := testMux(t)
	for _, c := range []struct{ name, auth, key, detail string }{
		{"none", "", "", "send an API key"},
		{"no scheme", "good", "", "send an API key"},
		{"basic", "Basic good", "", "send an API key"},
		{"empty bearer", "Bearer ", "", "send an API key"},
		{"wrong", "Bearer bad", "", "not known"},
		{"wrong with a right key", "Bearer bad", "good", "not known"},
		{"two words", "Bearer good good", "", "not known"},
		{"wrong key", "", "bad", "not known"},
	} {
		w := do(m, "GET", "/things", "", "Authorization", c.auth, "X-API-Key", c.key)
		checkProblem(t, w, 401, c.detail)
		if w.Header().Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: no WWW-Authenticate", c.name)
		}
	}
	for _, c := range []struct{ auth, key string }{{"Bearer good", ""}, {"bearer  good ", ""}, {"", "good"}, {"Bearer good", "bad"}} {
		if w := do(m, "GET", "/things", "", "Authorization", c.auth, "X-API-Key", c.key); w.Code != 200 {
			t.Errorf("%q, %q = %d", c.auth, c.key, w.Code)
		}
	}
	if w := do(m, "GET", "/open", "", "Authorization", "Bearer stale"); w.Code != 200 || w.Body.String() != `""` {
		t.Errorf("a public row with a stale key = %d %s", w.Code, w.Body)
	}
}

func TestAnOptionalCredentialNamesItsPrincipalOrIsPassedOver(t *testing.T) {
	m, _ := testMux(t)
	m.routes.add(&Row{Method: "GET", Pattern: "/optional", Who: Public, Optional: true, Handler: NoBody(200, func(_ context.Context, c *Call) (string, error) {
		return c.Principal.ID, nil
	})})
	for auth, want := range map[string]string{"Bearer good": `"u1"`, "Bearer stale": `""`, "": `""`, "Basic x": `""`} {
		if w := do(m, "GET", "/optional", "", "Authorization", auth); w.Code != 200 || w.Body.String() != want {
			t.Errorf("%q: %d %s", auth, w.Code, w.Body)
		}
	}
	m.caller = func(*Call) (access.Principal, error) {
		return access.Principal{}, fault.New(fault.Unavailable, "the store is away")
	}
	checkProblem(t, do(m, "GET", "/optional", ""), 503, "away")
}

func TestAMistakeInTheTableStopsTheProgram(t *testing.T) {
	ok := NoBody(200, func(context.Context, *Call) (string, error) { return "", nil })
	for name, rows := range map[string][]Row{
		"no slash":    {{Method: "GET", Pattern: "x", Handler: ok}},
		"no handler":  {{Method: "GET", Pattern: "/x"}},
		"rest first":  {{Method: "GET", Pattern: "/{a...}/b", Handler: ok}},
		"twice":       {{Method: "GET", Pattern: "/{a}", Handler: ok}, {Method: "GET", Pattern: "/{b}", Handler: ok}},
		"many names":  {{Method: "GET", Pattern: "/{a}/{b}/{c}/{d}/{e}", Handler: ok}},
		"rest, twice": {{Method: "GET", Pattern: "/{a...}", Handler: ok}, {Method: "GET", Pattern: "/{b...}", Handler: ok}},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("New accepted it")
				}
			}()
			New(Config{Rows: rows})
		})
	}
}

func TestAMuxWithoutAnAuthenticatorKnowsNobody(t *testing.T) {
	m := New(Config{Rows: rows()})
	checkProblem(t, do(m, "GET", "/things", ""), 401, "knows no callers")
	if w := do(m, "GET", "/open", ""); w.Code != 200 {
		t.Errorf("public row = %d", w.Code)
	}
}
