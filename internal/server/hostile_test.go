package server_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/server"
)

// hostilePaths are secret paths that must be refused on every route, in any
// spelling.
var hostilePaths = []string{
	"..", ".", "a/..", "a/../b", "../b", "a/./b", "%2e%2e", "a/%2e%2e/b", "a%2F..%2Fb", "a/%2E./b", "..%2F..%2Fv1",
	"", "/", "/a", "a//b", "a%2F%2Fb", "a/%2Fb", "%2Fa", "a/", "a%2F",
	"%00", "a%00b", "a%0a", "a%7f", "%ff", "a%c3%28", "%ed%a0%80",
	"a.b", "a%20b", "a%5Cb", "a:b", "a%3Ab", "a%25b", "%252e%252e", "a%3Fb", "a*", "-a", "a-", "_a", "ключ", "%F0%9F%94%91", "a%E2%80%8Bb",
	strings.Repeat("a", 513), strings.Repeat("a/", 300) + "a",
}

func TestHostilePathsAreRefusedOnEveryRoute(t *testing.T) {
	w := newWorld(t)
	v := w.vault(false)
	w.do(scenario{call: "PUT " + v + "/secrets/a", body: `{"value":"x"}`, status: 201})
	w.unchanged(func() {
		for _, path := range hostilePaths {
			for _, call := range []string{"PUT %s/secrets/%s", "GET %s/secrets/%s", "DELETE %s/secrets/%s", "GET %s/secret-versions/%s",
				"GET %s/secret-version/%s/1", "POST %s/secret-version-disable/%s/1", "POST %s/secret-rotate/%s"} {
				w.do(scenario{call: fmt.Sprintf(call, v, path), body: `{"value":"` + canary + `"}`, status: 400})
			}
		}
		for _, version := range []string{"0", "-1", "+1", "01", "x", "", "1.0", "1e3", "3000000000", "99999999999999999999", "%31%20"} {
			w.do(scenario{call: "GET " + v + "/secret-version/a/" + version, status: 400})
			w.do(scenario{call: "POST " + v + "/secret-version-disable/a/" + version, status: 400})
		}
		w.do(scenario{call: "GET " + v + "/secret-version/1", status: 400, want: []string{"version"}})
		for call, status := range map[string]int{"PUT " + v + "/secrets": 405, "GET " + v + "/secret": 404, "GET /v1": 404, "GET /": 404,
			"GET /v1/vaults/": 404, "GET /V1/vaults": 404, "GET /v2/vaults": 404, "GET /%2Fv1%2Fvaults": 400} {
			w.do(scenario{call: call, body: `{}`, status: status})
		}
	})
}

// wrongKinds is a body in which each member that a call knows is of a wrong kind.
const wrongKinds = `{"name":1,"title":1,"value":1,"length":"x","fingerprint":1,"role":1,"email":1,"password":1,"refresh_token":1,"display_name":1,` +
	`"current_password":1,"code":1,"mfa_token":1,"challenge_id":1,"client_id":1,"grant_type":1,"api_key":1,"agent_ids":1,"userId":1,` +
	`"permissions":1,"recipient_type":1,"passphrase":1,"tier":1,"replace":1,"reason":1,"deleted_days":"x","all":1,"thread_ids":1,"part":1,"reaction":1}`

func TestHostileBodiesAreRefusedByEveryDecoder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	things, admin := w.things(), w.newAdmin()
	w.unchanged(func() {
		for _, row := range server.Rows() {
			if row.MaxBody == 0 {
				continue
			}
			call, key := row.Method+" "+things.Replace(row.Pattern), ""
			tooLong := `{"value":"` + strings.Repeat("x", int(row.MaxBody)) + `"}`
			if isAdmin(row) {
				key = admin
			}
			for body, status := range map[string]int{
				"\x00":             400,
				"{":                400,
				`{"a":"` + canary:  400,
				`[]`:               400,
				`"` + canary + `"`: 400,
				`7`:                400,
				`{}{}`:             400,
				wrongKinds:         400,
				`{"name":"a","title":"a","value":"a","length":9,"fingerprint":"a","role":"a","body":1} ` + canary:                           400,
				"{\"name\":\"\xff\",\"title\":\"\xff\",\"value\":\"\xff\",\"charset\":\"\xff\",\"fingerprint\":\"\xff\",\"role\":\"\xff\"}": 400,
				`{"name":"\ud800","title":"\ud800","value":"\ud800","charset":"\ud800","fingerprint":"\ud800","role":"\ud800"}`:             400,
				`{"name":"a","name":"b"}`:  400,
				strings.Repeat("[", 30000): 400,
				tooLong:                    413,
			} {
				if body == wrongKinds && (row.Pattern == "/v1/org/signing-keys" || row.Pattern == "/admin/encryption/encrypt-threads") {
					continue // they know no member
				}
				w.do(scenario{key: key, call: call, body: body, status: status})
			}
			w.do(scenario{key: key, call: call, header: []string{"Content-Encoding", "gzip"}, body: "\x1f\x8b\x08\x00", status: 400})
		}
	})
}

func TestHostileMembersOfASecretAreRefused(t *testing.T) {
	w := newWorld(t)
	secret := w.vault(false) + "/secrets/a"
	w.unchanged(func() {
		for _, body := range []string{`{}`, `{"value":null}`, `{"value":7}`, `{"value":"x","type":"nonsense"}`, `{"value":"x","type":7}`,
			`{"value":"x","metadata":[]}`, `{"value":"x","metadata":"{}"}`, `{"value":"x","metadata":{"a":1,"a":2}}`,
			`{"value":"x","expires_at":"tomorrow"}`, `{"value":"x","expires_at":"2030-01-01 00:00:00Z"}`, `{"value":"x","expires_at":1}`,
			`{"value":"x","max_access_count":0}`, `{"value":"x","max_access_count":-1}`, `{"value":"x","max_access_count":1.5}`,
			`{"value":"x","max_access_count":9999999999999999999}`, `{"value":"x","rotation_policy":7}`} {
			w.do(scenario{call: "PUT " + secret, body: body, status: 400})
		}
	})
	sealed := w.vault(true) + "/secrets/a"
	w.unchanged(func() {
		for _, value := range []string{"", canary, blob[:36], "AA" + blob, blob + "=", strings.ToLower(blob), "00", strings.Repeat("0", 54), "!!!!"} {
			w.do(scenario{call: "PUT " + sealed, body: `{"value":"` + value + `"}`, status: 400, want: []string{"cmek_blob_required"}})
		}
		for _, print := range []string{"x", fingerprint[:63], fingerprint + "0", strings.Repeat("g", 64)} {
			w.do(scenario{call: "PUT " + sealed, header: []string{"X-Keyfold-Cmek-Fingerprint", print}, body: `{"value":"` + blob + `"}`, status: 409})
		}
	})
}

// rawRequests are what no HTTP client would send. Each ends its connection.
var rawRequests = []struct {
	name   string
	text   string // %s: the owner's key
	status int
	plain  bool // refused by net/http, which answers in plain text
}{
	{"a body that is cut off", "POST /v1/vaults HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\n{\"name\":\"" + canary + "\"}", 400, false},
	{"no body where one was promised", "POST /v1/vaults HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1\r\n\r\n", 400, false},
	{"a length that lies low", "POST /v1/vaults HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: close\r\nContent-Length: 5\r\n\r\n{\"name\":\"" + canary + "\"}", 400, false},
	{"a length over the limit", "POST /v1/vaults HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 10485760\r\n\r\n", 413, false},
	{"a length beyond counting", "POST /v1/vaults HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 99999999999999999999\r\n\r\n", 400, true},
	{"a negative length", "POST /v1/vaults HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: -1\r\n\r\n", 400, true},
	{"two lengths", "POST /v1/vaults HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, true},
	{"a bad chunk", "POST /v1/vaults HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400, false},
	{"a chunk that is cut off", "POST /v1/vaults HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{\"name\":", 400, false},
	{"a transfer encoding nobody knows", "POST /v1/vaults HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: gzip\r\n\r\n", 501, true},
	{"a path with a raw NUL", "GET /v1/vaults/a\x00b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", 400, true},
	{"a path with dots", "GET /v1/vaults/../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n\r\n", 400, false},
	{"a path of another host", "GET http://other//v1/vaults HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n\r\n", 400, false},
	{"a broken escape", "GET /v1/vaults/%%zz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", 400, true},
	{"the server itself", "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\n\r\n", 404, false},
	{"a tunnel", "CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\nConnection: close\r\nAuthorization: Bearer %s\r\n\r\n", 404, false},
	{"a header over the limit", "GET /v1/vaults HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nX-Big: " + strings.Repeat("x", 128<<10) + "\r\n\r\n", 431, true},
	{"a header that is no header", "GET /v1/vaults HTTP/1.1\r\nHost: x\r\nno colon\r\nAuthorization: Bearer %s\r\n\r\n", 400, true},
	{"no host", "GET /v1/vaults HTTP/1.1\r\nAuthorization: Bearer %s\r\n\r\n", 400, true},
	{"no HTTP", "hello %s\r\n\r\n", 400, true},
	{"a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01%.0s\r\n\r\n", 400, true},
}

func TestRawHostileRequestsAreRefused(t *testing.T) {
	w := newWorld(t)
	for _, c := range rawRequests {
		t.Run(c.name, func(t *testing.T) {
			w.unchanged(func() { w.raw(t, fmt.Sprintf(c.text, w.APIKey), c.status, c.plain) })
		})
	}
	w.do(scenario{call: "GET /v1/vaults", status: 200, want: []string{`{"vaults":[]}`}})
}

// raw sends text, ends the sending side, and checks the one answer.
func (w *world) raw(t *testing.T, text string, status int, plain bool) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		io.WriteString(conn, text)
		conn.(*net.TCPConn).CloseWrite()
	}()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != status {
		t.Errorf("answer is %d %s, want %d", res.StatusCode, body, status)
	}
	if strings.Contains(string(body), canary) || strings.Contains(string(body), w.APIKey) {
		t.Errorf("the answer shows what was sent: %s", body)
	}
	if !plain {
		checkForm(t, "raw", answer{res.StatusCode, res.Header, string(body)})
	}
}

// Nobody, and no stranger, holds a connection by announcing a body that never
// comes; on no route.
func TestABodyThatNeverComesHoldsNoConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	things := w.things()
	var all sync.WaitGroup
	try := func(call, key string, status int, form string) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(time.Minute)) // of the test alone
			fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\n%s\r\n\r\n", call, key, form)
			in := bufio.NewReader(conn)
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Errorf("%s, %s: no answer: %v", call, form, err)
				return
			}
			if res.StatusCode != status || !res.Close {
				t.Errorf("%s, %s: %d, close: %v; want %d and the end", call, form, res.StatusCode, res.Close, status)
			}
			if _, err := io.Copy(io.Discard, in); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s, %s: the connection stays open", call, form)
			}
		})
	}
	w.unchanged(func() {
		for _, form := range []string{"Content-Length: 10", "Transfer-Encoding: chunked"} {
			for _, row := range server.Rows() {
				call, status := row.Method+" "+things.Replace(row.Pattern), 401
				switch {
				case strings.HasSuffix(row.Pattern, "/login/begin"):
					continue // it takes no body, and leaves a challenge
				case row.Who == httpx.Public && row.MaxBody > 0:
					status = 408
				case row.Who == httpx.Public && strings.Contains(row.Pattern, "{"):
					status = 404
				case row.Who == httpx.Public:
					status = 200
				}
				try(call, "", status, form)
			}
			try("GET /v1/vaults", w.APIKey, 200, form)
			try("POST /nowhere", "", 404, form)
			try("PATCH /v1/vaults", "", 405, form)
		}
		all.Wait()
	})
}

// A client that sends 10 MiB to a call that takes 64 KiB hears why, although it
// is still sending.
func TestTenMebibytesAreRefusedWhileTheyArrive(t *testing.T) {
	w := newWorld(t)
	v := w.vault(false)
	w.unchanged(func() {
		for _, chunked := range []bool{false, true} {
			for _, call := range []string{"POST /v1/vaults", "PUT " + v + "/secrets/a", "POST " + v + "/secret-rotate/a"} {
				method, path, _ := strings.Cut(call, " ")
				var body io.Reader = strings.NewReader(`{"value":"` + strings.Repeat("x", 10<<20) + `"}`)
				if chunked {
					body = io.MultiReader(body) // of unknown length
				}
				r, _ := http.NewRequest(method, w.URL+path, body)
				r.Header.Set("Authorization", "Bearer "+w.APIKey)
				res, err := http.DefaultTransport.RoundTrip(r)
				if err != nil {
					t.Fatalf("%s, chunked %v: %v", call, chunked, err)
				}
				text, _ := io.ReadAll(res.Body)
				res.Body.Close()
				w.check(scenario{call: call, status: 413, want: []string{"limit"}}, answer{res.StatusCode, res.Header, string(text)})
			}
		}
	})
}

func TestOnlyKnownMethodsAreAnswered(t *testing.T) {
	w := newWorld(t)
	things := w.things()
	allowed := map[string][]string{}
	for _, row := range server.Rows() {
		path := things.Replace(row.Pattern)
		allowed[path] = append(allowed[path], row.Method)
	}
	w.unchanged(func() {
		for path, methods := range allowed {
			for _, method := range []string{"GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY", "get"} {
				if !slices.Contains(methods, method) {
					slices.Sort(methods)
					w.do(scenario{call: method + " " + path, body: `{}`, status: 405, headers: []string{"Allow: " + strings.Join(methods, ", ")}})
				}
			}
		}
	})
}
