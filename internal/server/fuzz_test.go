package server_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/allinone"
)

// fuzzed is a Keyfold without a listener: inputs go to the real handler.
type fuzzed struct {
	node          *allinone.Node
	key           string
	vault, thread string // paths
	calls         int
}

// refresh opens a new one now and then, so that a long run does not fill the memory.
func (f *fuzzed) refresh(t testing.TB) {
	if f.calls++; f.node != nil && f.calls%5000 != 0 {
		return
	}
	ctx := context.Background()
	f.close()
	node, err := allinone.Open(ctx, allinone.Config{})
	if err != nil {
		t.Fatal(err)
	}
	org, err := node.Identity.CreateOrg(ctx, "org", access.Enterprise)
	if err != nil {
		t.Fatal(err)
	}
	user, err := node.Identity.CreateUser(ctx, org.ID, "u@example.com")
	if err != nil {
		t.Fatal(err)
	}
	if f.key, err = node.Identity.CreateAPIKey(ctx, user.ID); err != nil {
		t.Fatal(err)
	}
	f.node = node
	f.vault = "/v1/vaults/" + decode[api.Vault](t, f.call("POST", "/v1/vaults", `{"name":"v"}`)).ID
	f.call("PUT", f.vault+"/secrets/a", `{"value":"x"}`)
	f.thread = "/v1/threads/" + decode[api.Thread](t, f.call("POST", "/v1/threads", `{}`)).ID
}

func (f *fuzzed) close() {
	if f.node != nil {
		_ = f.node.Close(context.Background())
	}
}

// call sends one request. The path is as a client would put it on the wire.
func (f *fuzzed) call(method, path, body string, header ...string) answer {
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	r.URL = &url.URL{Path: path}
	if u, err := url.ParseRequestURI(path); err == nil {
		r.URL = u
	}
	r.Header.Set("Authorization", "Bearer "+f.key)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	f.node.Handler.ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.String()}
}

// check holds an answer to what holds of all: its form, and never a 5xx.
func (f *fuzzed) check(t *testing.T, call string, a answer) {
	t.Helper()
	if a.status >= 500 {
		t.Errorf("%s = %d %s", call, a.status, a.body)
	}
	checkForm(t, call, a)
}

// fuzzBody feeds bodies to the decoder of one row.
func fuzzBody(f *testing.F, method string, path func(*fuzzed) string, seeds ...string) {
	for _, s := range append(seeds, "", "{}", "null", "[]", "{", "\xff", `{"a":1,"a":2}`) {
		f.Add(s)
	}
	var srv fuzzed
	f.Cleanup(srv.close)
	f.Fuzz(func(t *testing.T, body string) {
		srv.refresh(t)
		srv.check(t, method, srv.call(method, path(&srv), body))
	})
}

func FuzzCreateVault(f *testing.F) {
	fuzzBody(f, "POST", func(*fuzzed) string { return "/v1/vaults" }, `{"name":"a","description":"b"}`)
}

func FuzzEnableCMEK(f *testing.F) {
	fuzzBody(f, "POST", func(s *fuzzed) string { return s.vault + "/cmek" }, `{"fingerprint":"x"}`)
}

func FuzzPutSecret(f *testing.F) {
	fuzzBody(f, "PUT", func(s *fuzzed) string { return s.vault + "/secrets/a" },
		`{"value":"x","type":"file","metadata":{"a":{}},"expires_at":"2030-01-01T00:00:00Z","rotation_policy":{},"max_access_count":3}`)
}

func FuzzGenerateSecret(f *testing.F) {
	fuzzBody(f, "POST", func(s *fuzzed) string { return s.vault + "/secret-rotate/a" }, `{"length":8,"charset":"ascii","type":"note"}`)
}

func FuzzCreateThread(f *testing.F) {
	fuzzBody(f, "POST", func(*fuzzed) string { return "/v1/threads" }, `{"title":"a"}`)
}

// FuzzPostMessage also reads back: what was taken is there, and is JSON.
func FuzzPostMessage(f *testing.F) {
	for _, s := range []string{`{"body":1}`, `{"body":{"a":1,"a":2},"role":"x","ts":7}`, `{"body":"\ud800"}`, `{"body":null}`, `{"body":1,"reply_to":"x"}`, "{\"body\":\"\xff\"}"} {
		f.Add(s)
	}
	var srv fuzzed
	f.Cleanup(srv.close)
	f.Fuzz(func(t *testing.T, body string) {
		srv.refresh(t)
		a := srv.call("POST", srv.thread+"/messages", body)
		srv.check(t, "post", a)
		if a.status == http.StatusOK {
			back := srv.call("GET", srv.thread+"/messages/"+decode[api.Message](t, a).ID, "")
			if srv.check(t, "read back", back); back.body != a.body {
				t.Errorf("answered %s, kept %s", a.body, back.body)
			}
		}
	})
}

// FuzzPath feeds methods, paths, queries and headers to the whole table.
func FuzzPath(f *testing.F) {
	for _, p := range append(hostilePaths, "a", "a/1", "db%2Fpw/2") {
		f.Add("GET", "/secret-version/"+p, "3")
		f.Add("PUT", "/secrets/"+p, `"1"`)
	}
	f.Add("GET", "/secrets?prefix=%00&limit=1", "")
	f.Add("OPTIONS", "/../../healthz", "")
	var srv fuzzed
	f.Cleanup(srv.close)
	f.Fuzz(func(t *testing.T, method, path, ifMatch string) {
		if !validMethod(method) {
			t.Skip()
		}
		srv.refresh(t)
		for _, base := range []string{srv.vault, srv.thread, ""} {
			srv.check(t, method+" "+path, srv.call(method, base+path, `{"value":"x"}`, "If-Match", ifMatch, "X-Request-Id", ifMatch))
		}
	})
}

func validMethod(m string) bool {
	_, err := http.NewRequest(m, "/", nil)
	return err == nil && m != "HEAD" && m != "" // a HEAD's answer has no body to check
}
