package httpx

import (
	"bytes"
	"context"
	stdjson "encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
		{Method: "GET", Pattern: "/things", Handler: NoBody(200, func(context.Context, *Call) (string, error) { return "list", nil })},
		{Method: "POST", Pattern: "/things", MaxBody: 1000, Handler: Body(201, echo)},
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
			c.write(200, jsonType, []byte("{}"))
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

func TestBodiesAreHeldToTheirShape(t *testing.T) {
	m, _ := testMux(t)
	long := `{"name":"` + strings.Repeat("x", 1000) + `"}`
	for _, c := range []struct {
		name, target, body string
		status             int
		want               string
	}{
		{"good", "/things", `{"name":"a","n":1,"free":{"b":[1]}}`, 201, `{"name":"a","n":1,"free":{"b":[1]}}`},
		{"unknown members", "/things", `{"name":"a","priority":3,"x":{}}`, 201, `{"name":"a","n":0,"free":null}`},
		{"null members", "/things", `{"name":"a","n":null}`, 201, `{"name":"a","n":0,"free":null}`},
		{"white space", "/things", " {\"name\" : \"a\"}\r\n", 201, `{"name":"a","n":0,"free":null}`},
		{"none", "/things", ``, 400, "send a JSON object"},
		{"blank", "/things", ` `, 400, "too early"},
		{"null", "/things", `null`, 400, "name is required"},
		{"no JSON", "/things", `name=` + canary, 400, "not valid JSON"},
		{"cut", "/things", `{"name":"` + canary, 400, "too early"},
		{"array", "/things", `["` + canary + `"]`, 400, "wrong kind"},
		{"wrong type", "/things", `{"name":["` + canary + `"]}`, 400, `(member "name")`},
		{"string for number", "/things", `{"n":"` + canary + `"}`, 400, `(member "n")`},
		{"fraction", "/things", `{"n":1.5}`, 400, `(member "n")`},
		{"huge number", "/things", `{"n":1e99}`, 400, `(member "n")`},
		{"trailing garbage", "/things", `{"name":"a"}` + canary, 400, "not valid JSON"},
		{"two values", "/things", `{"name":"a"}{}`, 400, "not valid JSON"},
		{"not UTF-8", "/things", "{\"name\":\"\xff\"}", 400, `(member "name")`},
		{"not UTF-8 where nobody looks", "/things", "{\"name\":\"a\",\"zzz\":\"\xff\"}", 400, `(member "zzz")`},
		{"lone surrogate", "/things", `{"name":"\ud800"}`, 400, `(member "name")`},
		{"other case", "/things", `{"Name":"a"}`, 400, "name is required"},
		{"name twice", "/things", `{"name":"a","name":"b"}`, 400, "twice"},
		{"name twice within", "/things", `{"name":"a","free":{"` + canary + `":1,"` + canary + `":2}}`, 400, "twice"},
		{"data for a name", "/things", `{"` + canary + `":1,"` + canary + `":2}`, 400, "twice"},
		{"deep", "/things", `{"free":` + strings.Repeat("[", 990), 400, "too early"},
		{"long", "/things", long, 413, "1000 bytes"},
		{"optional, none", "/maybe", ``, 200, `{"name":"","n":0,"free":null}`},
		{"optional, wrong", "/maybe", `{`, 400, "too early"},
		{"free form", "/free", `{"free": {"a": 1,  "a":"\u0041", "é":[1e3]} }`, 200, `{"a": 1,  "a":"\u0041", "é":[1e3]}`},
		{"free form keeps null", "/free", `{"free":null}`, 200, `null`},
		{"free form around", "/free", `{"free":{},"free":{}}`, 400, "twice"},
		{"free form, not UTF-8", "/free", "{\"free\":\"\xff\"}", 400, `UTF-8`},
		{"free form, lone surrogate", "/free", `{"free":["\ud800"]}`, 200, `["\ud800"]`},
		{"free form, lone surrogate around", "/free", `{"free":1, "name":"\ud800"}`, 400, `(member "name")`},
		{"free form, no JSON", "/free", `{"free":{"a":1,}}`, 400, `(member "free")`},
		{"free form, cut", "/free", `{"free":{"a":1`, 400, "too early"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := do(m, "POST", c.target, c.body)
			if c.status >= 400 {
				checkProblem(t, w, c.status, c.want)
			} else if w.Code != c.status || w.Body.String() != c.want {
				t.Errorf("answer is %d %s, want %d %s", w.Code, w.Body, c.status, c.want)
			}
			if strings.Contains(w.Body.String(), canary) {
				t.Errorf("the answer shows what was sent: %s", w.Body)
			}
		})
	}
}

func TestHeadersOfABodyAreJudgedLeniently(t *testing.T) {
	m, _ := testMux(t)
	for _, ct := range []string{"", "application/json", "application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded", "nonsense"} {
		if w := do(m, "POST", "/things", `{"name":"a"}`, "Content-Type", ct); w.Code != 201 {
			t.Errorf("Content-Type %q = %d", ct, w.Code)
		}
	}
	if w := do(m, "GET", "/things", "garbage", "Content-Type", "application/json"); w.Code != 200 {
		t.Errorf("a body where none is needed = %d", w.Code)
	}
	if w := do(m, "POST", "/things", `{"name":"a"}`, "Content-Encoding", "identity"); w.Code != 201 {
		t.Errorf("identity = %d", w.Code)
	}
	checkProblem(t, do(m, "POST", "/things", "\x1f\x8b\x08", "Content-Encoding", "gzip"), 400, "Content-Encoding")
	checkProblem(t, do(m, "GET", "/query?q=%zz", ""), 400, "query")
	checkProblem(t, do(m, "GET", "/query?q=1;p=2", ""), 400, "query")
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

func TestACallerWithoutACredentialIsNotReadFrom(t *testing.T) {
	m, _ := testMux(t)
	body := &countingReader{r: strings.NewReader(`{"name":"a"}`)}
	r := httptest.NewRequest("POST", "/things", body)
	w := httptest.NewRecorder()
	m.ServeHTTP(w, r)
	checkProblem(t, w, 401, "")
	if body.n != 0 {
		t.Errorf("%d bytes of a stranger's body were read", body.n)
	}
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// deadlines is a ResponseWriter that notes the read deadlines it is given.
type deadlines struct {
	*httptest.ResponseRecorder
	set []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

// A deadline that stayed would go off under the handler and cancel it.
func TestTheBodysDeadlineEndsWithTheBody(t *testing.T) {
	m, _ := testMux(t)
	r := httptest.NewRequest("POST", "/things", strings.NewReader(`{"name":"a"}`))
	r.Header.Set("Authorization", "Bearer good")
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	m.ServeHTTP(w, r)
	if w.Code != 201 || len(w.set) != 2 || w.set[0].IsZero() || !w.set[1].IsZero() {
		t.Errorf("%d, deadlines set: %v, want one and its end", w.Code, w.set)
	}
}

func TestEveryFaultHasItsStatus(t *testing.T) {
	src, err := os.ReadFile("../fault/fault.go")
	if err != nil {
		t.Fatal(err)
	}
	m, _ := testMux(t)
	codes := regexp.MustCompile(`(?m)^\t\w+ +Code = "(\w+)" +// (\d+):`).FindAllStringSubmatch(string(src), -1)
	if len(codes) < 12 {
		t.Fatalf("found %d codes in fault.go", len(codes))
	}
	for _, c := range codes {
		w := do(m, "GET", "/fail/"+c[1], "", "X-Type", "some_type")
		want, _ := stdjson.Number(c[2]).Int64()
		if p := checkProblem(t, w, int(want), "said so"); p.Type != "some_type" {
			t.Errorf("%s: type is %q", c[1], p.Type)
		}
		if strings.Contains(w.Body.String(), "cause of") {
			t.Errorf("%s: the answer shows the cause: %s", c[1], w.Body)
		}
		if (w.Header().Get("Retry-After") == "1") != (want == 503) {
			t.Errorf("%s: Retry-After is %q", c[1], w.Header().Get("Retry-After"))
		}
	}
	if p := checkProblem(t, do(m, "GET", "/fail/not_a_code", ""), 500, "said so"); p.Type != "about:blank" {
		t.Errorf("type is %q", p.Type)
	}
}

func TestAnAnswerThatCannotBeWrittenIsAProblem(t *testing.T) {
	m, log := testMux(t)
	checkProblem(t, do(m, "GET", "/unwritable", ""), 500, "could not be written")
	if !strings.Contains(log.String(), `"cause"`) {
		t.Errorf("the log has no cause: %s", log)
	}
}

func TestAnUnnamedErrorShowsNothing(t *testing.T) {
	m, log := testMux(t)
	w := do(m, "GET", "/unnamed", "", "X-Request-Id", "find-me")
	checkProblem(t, w, 500, "the log has the request ID")
	if strings.Contains(w.Body.String(), canary) {
		t.Errorf("the answer shows the cause: %s", w.Body)
	}
	if !strings.Contains(log.String(), `"cause":"the unnamed`) || !strings.Contains(log.String(), `"request_id":"find-me"`) {
		t.Errorf("the log lacks cause or request ID: %s", log)
	}
}

func TestAPanicIsOneLineWithoutItsValue(t *testing.T) {
	m, log := testMux(t)
	checkProblem(t, do(m, "GET", "/panic", ""), 500, "the log has the request ID")
	if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "panic: string < runtime.gopanic") || !strings.Contains(log.String(), "httpx.rows.func") {
		t.Errorf("want one line with the stack, have:\n%s", log)
	}
	if strings.Contains(log.String(), canary) {
		t.Errorf("the log shows the panic's value:\n%s", log)
	}
	if w := do(m, "GET", "/panic/late", ""); w.Code != 200 || w.Body.String() != "{}" {
		t.Errorf("a panic after the answer changes it: %d %s", w.Code, w.Body)
	}
	if strings.Count(log.String(), `"level":"ERROR"`) != 2 {
		t.Errorf("a panic after the answer is not logged:\n%s", log)
	}
}

func TestALogLineHoldsThePatternAndNothingOfTheClient(t *testing.T) {
	m, log := testMux(t)
	do(m, "GET", "/things/"+canary+"?token="+canary, "", "User-Agent", canary, "Referer", canary)
	do(m, "POST", "/things", `{"name":"`+canary+`"}`)
	do(m, "POST", "/things", `{"`+canary+`":`)
	do(m, "GET", "/"+canary, "")
	do(m, "CANARY4F1C", "/things", "")
	do(m, "GET", "/things", "", "Authorization", "Bearer "+canary)
	if strings.Contains(strings.ToLower(log.String()), "canary") {
		t.Errorf("the log shows what a client sent:\n%s", log)
	}
	var line map[string]any
	first, _, _ := strings.Cut(log.String(), "\n")
	if err := stdjson.Unmarshal([]byte(first), &line); err != nil {
		t.Fatal(err)
	}
	delete(line, "time")
	delete(line, "duration")
	delete(line, "request_id")
	want := map[string]any{"level": "DEBUG", "msg": "request", "status": 200., "method": "GET", "route": "/things/{id}", "principal": "user:u1"}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Errorf("log line (-want +got):\n%s", diff)
	}
}

func TestARequestIDIsTheClientsWhenSane(t *testing.T) {
	m, _ := testMux(t)
	for _, id := range []string{"a", "req-1.2_3", strings.Repeat("x", 64)} {
		if got := do(m, "GET", "/open", "", "X-Request-Id", id).Header().Get("X-Request-Id"); got != id {
			t.Errorf("ID %q became %q", id, got)
		}
	}
	for _, id := range []string{"", "a b", "a\"b", strings.Repeat("x", 65), "é"} {
		got := do(m, "GET", "/open", "", "X-Request-Id", id).Header().Get("X-Request-Id")
		if !regexp.MustCompile("^[0-9a-f]{32}$").MatchString(got) {
			t.Errorf("ID %q became %q, want a fresh one", id, got)
		}
	}
}

func TestEveryAnswerForbidsCachesAndSniffing(t *testing.T) {
	m, _ := testMux(t)
	for _, target := range []string{"/open", "/things", "/nowhere", "//", "/panic"} {
		h := do(m, "GET", target, "").Header()
		if h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers are %v", target, h)
		}
	}
}

func TestCORSIsForConfiguredOriginsAlone(t *testing.T) {
	const app, other = "https://app.example.com", "https://other.example.com"
	for _, c := range []struct {
		name    string
		origins []string
		origin  string
		allowed bool
	}{
		{"none configured", nil, app, false},
		{"configured", []string{app}, app, true},
		{"another", []string{app}, other, false},
		{"a longer one", []string{app}, app + ".evil.org", false},
		{"null", []string{app}, "null", false},
		{"any", []string{"*"}, other, true},
		{"no browser", []string{app}, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, _ := testMux(t, c.origins...)
			want := ""
			if c.allowed {
				want = c.origin
			}
			for _, w := range []*httptest.ResponseRecorder{
				do(m, "GET", "/things", "", "Origin", c.origin),
				do(m, "GET", "/nowhere", "", "Origin", c.origin), // a script must be able to read problems
			} {
				if got := w.Header().Get("Access-Control-Allow-Origin"); got != want {
					t.Errorf("Allow-Origin is %q, want %q", got, want)
				}
				if c.allowed && !strings.Contains(w.Header().Get("Access-Control-Expose-Headers"), "X-Keyfold-Cmek-Fingerprint") {
					t.Errorf("exposed: %q", w.Header().Get("Access-Control-Expose-Headers"))
				}
			}
			w := do(m, "OPTIONS", "/things", "", "Origin", c.origin, "Access-Control-Request-Method", "POST", "Authorization", "")
			if c.allowed != (w.Code == 204) || w.Header().Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("preflight = %d %v", w.Code, w.Header())
			}
			if len(c.origins) > 0 && w.Header().Get("Vary") != "Origin" {
				t.Error("an answer that depends on the origin must say so to caches")
			}
		})
	}
	allowed := strings.ToLower(corsHeaders)
	for _, h := range []string{"Authorization", "Content-Type", "x-cmek-old-key", "x-cmek-new-key", "DPoP", "X-1Claw-Runtime-Id",
		"X-API-Key", "X-User-ID", "X-User-Signature", "If-Match", "X-Keyfold-Cmek-Fingerprint"} {
		if !strings.Contains(allowed, strings.ToLower(h)) {
			t.Errorf("a script may not send %s", h)
		}
	}
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
