package httpx

import (
	"context"
	stdjson "encoding/json"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/fault"
)

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
		if (w.Header().Get("Retry-After") == "1") != (want == 503 || want == 429) {
			t.Errorf("%s: Retry-After is %q", c[1], w.Header().Get("Retry-After"))
		}
	}
	m.routes.add(&Row{Method: "GET", Pattern: "/later", Who: Public, Handler: Empty(func(context.Context, *Call) error {
		return fault.New(fault.Conflict, "said so").WithRetryAfter(1001 * time.Millisecond)
	})})
	if w := do(m, "GET", "/later", ""); w.Code != 409 || w.Header().Get("Retry-After") != "2" {
		t.Errorf("%d with Retry-After %q", w.Code, w.Header().Get("Retry-After"))
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
		"X-API-Key", "X-User-ID", "X-User-Signature", "If-Match", "X-Keyfold-Cmek-Fingerprint", "X-Identity", "X-Share-Passphrase",
		"Idempotency-Key", "X-PAYMENT", "X-Auth-Confirm", "X-Platform-Connection"} {
		if !strings.Contains(allowed, strings.ToLower(h)) {
			t.Errorf("a script may not send %s", h)
		}
	}
	for _, h := range []string{"Location", "Retry-After"} {
		if !strings.Contains(corsExposed, h) {
			t.Errorf("a script may not see %s", h)
		}
	}
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		if !strings.Contains(corsMethods, method) {
			t.Errorf("a script may not %s", method)
		}
	}
}
