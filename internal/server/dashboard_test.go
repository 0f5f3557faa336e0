package server_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/keyfold/keyfold/keyfoldtest"
)

var built = fstest.MapFS{
	"index.html":         {Data: []byte("<!doctype html><title>the page</title>")},
	"icon.svg":           {Data: []byte("<svg/>")},
	"assets/app-1.js":    {Data: []byte(strings.Repeat("let a = 1;\n", 1000))},
	"assets/style-2.css": {Data: []byte("body {}")},
}

// get is a GET of a browser, which follows nothing.
func get(t *testing.T, s *keyfoldtest.Server, path string, header ...string) answer {
	t.Helper()
	return ask(t, s, "GET", path, header...)
}

func ask(t *testing.T, s *keyfoldtest.Server, method, path string, header ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", "identity")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(body)}
}

func TestTheDashboardIsServed(t *testing.T) {
	s := keyfoldtest.Start(t, keyfoldtest.WithDashboard(built))
	for _, c := range []struct{ path, media, cache, body string }{
		{"/ui/", "text/html; charset=utf-8", "no-store", "the page"},
		{"/ui/vaults", "text/html; charset=utf-8", "no-store", "the page"},
		{"/ui/vaults/0198c5f2/secrets", "text/html; charset=utf-8", "no-store", "the page"},
		{"/ui/index.html", "text/html; charset=utf-8", "no-store", "the page"},
		{"/ui/icon.svg", "image/svg+xml", "no-store", "<svg/>"},
		{"/ui/assets/app-1.js", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable", "let a"},
		{"/ui/assets/style-2.css", "text/css; charset=utf-8", "public, max-age=31536000, immutable", "body {}"},
	} {
		a := get(t, s, c.path)
		if a.status != 200 || a.header.Get("Content-Type") != c.media || a.header.Get("Cache-Control") != c.cache || !strings.Contains(a.body, c.body) {
			t.Errorf("GET %s = %d %v %.40q", c.path, a.status, a.header, a.body)
		}
		policy := a.header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "require-trusted-types-for 'script'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("GET %s: the policy lacks %s: %s", c.path, part, policy)
			}
		}
		for _, loose := range []string{"unsafe", "http", "*", "data:", "blob:"} {
			if strings.Contains(policy, loose) {
				t.Errorf("GET %s: the policy has %s: %s", c.path, loose, policy)
			}
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Set-Cookie": ""} {
			if got := a.header.Get(name); got != want {
				t.Errorf("GET %s: %s is %q, want %q", c.path, name, got, want)
			}
		}
	}
	for _, path := range []string{"/", "/ui"} {
		if a := get(t, s, path); a.status != 302 || a.header.Get("Location") != "/ui/" {
			t.Errorf("GET %s = %d %v", path, a.status, a.header)
		}
	}
}

func TestWhatTheDashboardHasNotIsAProblem(t *testing.T) {
	s := keyfoldtest.Start(t, keyfoldtest.WithDashboard(built))
	for _, path := range []string{"/ui/assets/app-2.js", "/ui/assets/", "/v1/ui", "/v1/nothing", "/nothing", "/assets/app-1.js", "/uivaults"} {
		a := get(t, s, path)
		if a.status != 404 {
			t.Errorf("GET %s = %d", path, a.status)
		}
		checkForm(t, "GET "+path, a)
	}
	for _, path := range []string{"/ui/../index.html", "/ui/%2e%2e/secret", "/ui//"} {
		if a := get(t, s, path); a.status != 400 {
			t.Errorf("GET %s = %d", path, a.status)
		}
	}
}

// What a browser may be made to show at this origin runs no code, in no frame: also
// what is no page.
func TestNoAnswerIsWithoutAPolicy(t *testing.T) {
	s := keyfoldtest.Start(t, keyfoldtest.WithDashboard(built))
	for _, c := range []struct {
		call   string
		status int
	}{
		{"GET /", 302}, {"GET /ui", 302}, {"GET /ui/", 200}, {"HEAD /ui/", 200}, {"GET /ui/vaults", 200}, {"GET /ui/icon.svg", 200},
		{"GET /ui/assets/app-1.js", 200}, {"GET /ui/assets/style-2.css", 200}, {"GET /ui/assets/app-2.js", 404}, {"GET /ui/assets/", 404},
		{"GET /ui//", 400}, {"GET /ui/../index.html", 400}, {"POST /ui/", 405}, {"DELETE /ui/assets/app-1.js", 405}, {"GET /uivaults", 404},
		{"GET /v1/vaults", 401}, {"GET /v1/auth/refresh", 405}, {"POST /v1/auth/refresh", 400},
	} {
		method, path, _ := strings.Cut(c.call, " ")
		a := ask(t, s, method, path)
		if a.status != c.status {
			t.Errorf("%s = %d, want %d", c.call, a.status, c.status)
		}
		policy := a.header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'"} {
			if !slices.Contains(strings.Split(policy, "; "), part) {
				t.Errorf("%s: the policy lacks %s: %s", c.call, part, policy)
			}
		}
		if got := a.header.Values("X-Content-Type-Options"); len(got) != 1 || got[0] != "nosniff" {
			t.Errorf("%s: X-Content-Type-Options is %q", c.call, got)
		}
		if c.status == 200 && a.header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s can be shown in a frame by browsers that know no policy", c.call)
		}
	}
}

func TestWithoutADashboardThereAreNoRowsOfIt(t *testing.T) {
	s := keyfoldtest.Start(t)
	for _, path := range []string{"/", "/ui", "/ui/", "/ui/assets/app-1.js"} {
		if a := get(t, s, path); a.status != 404 {
			t.Errorf("GET %s = %d", path, a.status)
		}
	}
}

func TestTheDashboardIsCompressedForWhoTakesThat(t *testing.T) {
	s := keyfoldtest.Start(t, keyfoldtest.WithDashboard(built))
	for accepted, want := range map[string]string{"gzip": "gzip", "br, gzip;q=0.8": "gzip", "gzip;q=0": "", "br": "", "": "", "gzip;q=0.0, br": ""} {
		a := get(t, s, "/ui/assets/app-1.js", "Accept-Encoding", accepted)
		if a.header.Get("Content-Encoding") != want || a.header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%q: %v", accepted, a.header)
		}
		var body io.Reader = strings.NewReader(a.body)
		if want == "gzip" {
			z, err := gzip.NewReader(body)
			if err != nil {
				t.Fatal(err)
			}
			body = z
		}
		if text, err := io.ReadAll(body); err != nil || string(text) != string(built["assets/app-1.js"].Data) {
			t.Errorf("%q: %d bytes, %v", accepted, len(text), err)
		}
	}
}
