package kmsserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/kmsapi"
)

// sample is a request that its row answers with a 2xx, and what it calls.
type sample struct{ role, call, body, does string }

// samples has every row: a row that is not here fails the test below.
var samples = map[string]sample{
	"POST /create_kek":                {"crypto", "POST /create_kek", `{"kek_id":"v"}`, "CreateKEK"},
	"POST /create_dek_for_thread":     {"crypto", "POST /create_dek_for_thread", `{"thread_id":"t"}`, "CreateDEK"},
	"POST /encrypt":                   {"crypto", "POST /encrypt", `{"key_id":"k","plaintext":"AA=="}`, "Encrypt"},
	"POST /decrypt":                   {"crypto", "POST /decrypt", `{"key_id":"k","ciphertext":"AA=="}`, "Decrypt"},
	"POST /seal":                      {"crypto", "POST /seal", `{"kek_id":"v","plaintext":"AA=="}`, "Seal"},
	"POST /open":                      {"crypto", "POST /open", `{"kek_id":"v","kek_version":1,"wrapped_dek":"AA==","ciphertext":"AA=="}`, "Open"},
	"POST /rewrap":                    {"crypto", "POST /rewrap", `{"key_id":"k"}`, "Rewrap"},
	"GET /get_wrapped":                {"crypto", "GET /get_wrapped?key_id=k", ``, "GetWrapped"},
	"POST /release_kek":               {"crypto", "POST /release_kek", `{"kek_id":"v","below":2}`, "ReleaseKEK"},
	"POST /cmek_rotation_key":         {"crypto", "POST /cmek_rotation_key", ``, "CMEKRotationKey"},
	"POST /cmek_rotation":             {"crypto", "POST /cmek_rotation", rotation(canary), "OpenCMEKRotation"},
	"GET /cmek_rotation/{session}":    {"crypto", "GET /cmek_rotation/s", ``, "CMEKRotationAlive"},
	"DELETE /cmek_rotation/{session}": {"crypto", "DELETE /cmek_rotation/s", ``, "CloseCMEKRotation"},
	"POST /reencrypt":                 {"crypto", "POST /reencrypt?session=s", `{"kek_id":"v","kek_version":1,"wrapped_dek":"AA==","ciphertext":"AA=="}`, "Reencrypt"},
	"GET /list_keks":                  {"list", "GET /list_keks", ``, "ListKEKs"},
	"POST /list_deks":                 {"list", "POST /list_deks", `{"key_ids":["k"]}`, "ListDEKs"},
	"GET /keys":                       {"admin", "GET /keys", ``, "Keys"},
	"POST /rotate_kek":                {"admin", "POST /rotate_kek", `{"all":true}`, "RotateKEK"},
	"POST /import_kek":                {"admin", "POST /import_kek", `{"key":"AA=="}`, "ImportKEK"},
	"POST /destroy_kek_version":       {"admin", "POST /destroy_kek_version", `{"kek_id":"v","kek_version":1}`, "DestroyKEKVersion"},
	"POST /shred_dek":                 {"shred", "POST /shred_dek", `{"key_id":"k"}`, "ShredDEK"},
	"GET /jobs":                       {"admin", "GET /jobs", ``, "Jobs"},
	"GET /jobs/{job}":                 {"admin", "GET /jobs/j", ``, "Job"},
	"DELETE /jobs/{job}":              {"admin", "DELETE /jobs/j", ``, "CancelJob"},
	"GET /status":                     {"admin", "GET /status", ``, "Status"},
	"GET /export_breakglass":          {"admin", "GET /export_breakglass", ``, "ExportBreakGlass"},
	"GET /backup":                     {"admin", "GET /backup", ``, "Backup"},
	"GET /healthz":                    {"any", "GET /healthz", ``, "Check"},
	"GET /livez":                      {"any", "GET /livez", ``, ""},
	"GET /readyz":                     {"any", "GET /readyz", ``, "Check"},
	"GET /metrics":                    {"watch", "GET /metrics", ``, ""},
}

// kinds of callers, with the roles in which they must be answered.
var kinds = []struct {
	name   string
	client func(*rig) *http.Client
	base   string
	roles  string // "" with refused: 403 everywhere
	status int    // of a refusal; 0: the handshake already fails
}{
	{"unlisted UID", byUIDOf(strangerUID), "http://kms", "", 403},
	{"root, unlisted", byUIDOf(0), "http://kms", "", 403},
	{"UID without a role", byUIDOf(noRoleUID), "http://kms", "any watch", 403},
	{"crypto UID", byUIDOf(cryptoUID), "http://kms", "any watch crypto", 403},
	{"admin UID", byUIDOf(adminUID), "http://kms", "any watch admin shred list", 403},
	{"UID with both roles", byUIDOf(bothUID), "http://kms", "any watch crypto admin shred list", 403},
	{"unlisted name", byName("stranger"), "https://kms", "", 403},
	{"a listed name as common name beside another", byPair(func(ca pair) pair { return must(ca.issue("admin", x509.ExtKeyUsageClientAuth, "stranger")) }), "https://kms", "", 403},
	{"a listed name in capitals", byName("ADMIN"), "https://kms", "", 403},
	{"certificate without a name", byPair(func(ca pair) pair { return must(ca.issue("", x509.ExtKeyUsageClientAuth)) }), "https://kms", "", 403},
	{"a UID's name", byName("uid:1003"), "https://kms", "", 403},
	{"name without a role", byName("no-role"), "https://kms", "any watch", 403},
	{"crypto name", byName("crypto"), "https://kms", "any watch crypto", 403},
	{"crypto common name", byPair(func(ca pair) pair { return must(ca.issue("crypto", x509.ExtKeyUsageClientAuth)) }), "https://kms", "any watch crypto", 403},
	{"shred UID", byUIDOf(shredUID), "http://kms", "any watch shred", 403},
	{"shred name", byName("shred"), "https://kms", "any watch shred", 403},
	{"list UID", byUIDOf(listUID), "http://kms", "any watch list", 403},
	{"list name", byName("list"), "https://kms", "any watch list", 403},
	{"server UID", byUIDOf(serverUID), "http://kms", "any watch crypto shred list", 403},
	{"server name", byName("server"), "https://kms", "any watch crypto shred list", 403},
	{"cmek UID", byUIDOf(agentUID), "http://kms", "any cmek", 403},
	{"cmek name", byName("agent"), "https://kms", "any cmek", 403},
	{"admin name", byName("admin"), "https://kms", "any watch admin shred list", 403},
	{"URI with both roles", byPair(uriPair), "https://kms", "any watch crypto admin shred list", 403},
	{"no certificate", byPair(nil), "https://kms", "", 0},
	{"certificate of another CA", byPair(func(pair) pair { return must(must(newCA()).issue("x", x509.ExtKeyUsageClientAuth, "admin")) }), "https://kms", "", 0},
	{"certificate of itself", byPair(func(pair) pair {
		p := template("admin", time.Hour)
		p.DNSNames = []string{"admin"}
		return must(sign(p, pair{}))
	}), "https://kms", "", 0},
	{"expired certificate", byPair(expiredPair), "https://kms", "", 0},
	{"certificate of a server", byPair(func(ca pair) pair { return must(ca.issue("x", x509.ExtKeyUsageServerAuth, "admin")) }), "https://kms", "", 0},
	{"plain HTTP on the TLS port", plainClient, "http://kms", "", 0},
}

func must(p pair, err error) pair {
	if err != nil {
		panic(err)
	}
	return p
}

func uriPair(ca pair) pair {
	p := template("x", time.Hour)
	p.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	p.URIs = []*url.URL{{Scheme: "spiffe", Host: "keyfold", Path: "/both"}}
	return must(sign(p, ca))
}

func expiredPair(ca pair) pair {
	p := template("x", -time.Minute)
	p.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	p.DNSNames = []string{"admin"}
	return must(sign(p, ca))
}

func byUIDOf(uid uint32) func(*rig) *http.Client {
	return func(r *rig) *http.Client { return r.client(uid) }
}

func byName(name string) func(*rig) *http.Client {
	return byPair(func(ca pair) pair { return must(ca.issue("x", x509.ExtKeyUsageClientAuth, name)) })
}

// world is a TLS endpoint of a rig, with the CA behind it.
type world struct {
	ca    pair
	files TLSFiles
	ln    net.Listener
}

// listenTLS makes a CA and a server's certificate, and serves on TCP.
func (r *rig) listenTLS() *world {
	r.Helper()
	dir := r.TempDir()
	w := &world{ca: must(newCA()), files: TLSFiles{filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"), filepath.Join(dir, "ca.crt")}}
	if err := w.ca.write(dir, "ca"); err != nil {
		r.Fatal(err)
	}
	if err := must(w.ca.issue("kms", x509.ExtKeyUsageServerAuth, "kms")).write(dir, "server"); err != nil {
		r.Fatal(err)
	}
	var err error
	if w.ln, err = r.Listen("127.0.0.1:0", &w.files); err != nil {
		r.Fatal(err)
	}
	r.serve(w.ln)
	return w
}

// config is a client's, with a certificate or without.
func (w *world) config(p pair) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(w.ca.cert)
	c := &tls.Config{RootCAs: roots, ServerName: "kms"}
	if p.cert != nil {
		c.Certificates = []tls.Certificate{{Certificate: [][]byte{p.cert.Raw}, PrivateKey: p.key}}
	}
	return c
}

func (r *rig) tlsClient(w *world, p pair) *http.Client {
	t := &http.Transport{TLSClientConfig: w.config(p), MaxConnsPerHost: 1, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", w.ln.Addr().String())
	}}
	r.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: time.Minute}
}

var worlds = map[*rig]*world{}

func (r *rig) world() *world {
	if worlds[r] == nil {
		worlds[r] = r.listenTLS()
	}
	return worlds[r]
}

func byPair(make func(ca pair) pair) func(*rig) *http.Client {
	return func(r *rig) *http.Client {
		w := r.world()
		if make == nil {
			return r.tlsClient(w, pair{})
		}
		return r.tlsClient(w, make(w.ca))
	}
}

func plainClient(r *rig) *http.Client {
	addr := r.world().ln.Addr().String()
	return r.over(func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	})
}

func TestEveryRowAnswersItsRoleAlone(t *testing.T) {
	r := newRig(t)
	seen := 0
	for _, row := range r.rows() {
		if _, ok := samples[row.Method+" "+row.Pattern]; !ok {
			t.Errorf("%s %s is not in the table of samples", row.Method, row.Pattern)
		} else {
			seen++
		}
	}
	if seen != len(samples) {
		t.Errorf("%d samples are of no row", len(samples)-seen)
	}
	for _, kind := range kinds {
		client := kind.client(r)
		for name, s := range samples {
			r.kms.took()
			a, err := try(client, kind.base, s.call, "", s.body)
			allowed := slices.Contains(strings.Fields(kind.roles), s.role)
			switch {
			case allowed && (err != nil || a.status/100 != 2):
				t.Errorf("%s, %s: %d %s %v", kind.name, name, a.status, a.body, err)
			case !allowed && kind.status == 0 && err == nil && a.status != 400: // which net/http sends before it hangs up
				t.Errorf("%s, %s: answered %d %s", kind.name, name, a.status, a.body)
			case !allowed && kind.status != 0 && (err != nil || a.status != kind.status):
				t.Errorf("%s, %s: %d %s %v, want %d", kind.name, name, a.status, a.body, err, kind.status)
			case !allowed && kind.status == 403 && !strings.Contains(a.body, `"code":"forbidden"`):
				t.Errorf("%s, %s: %s", kind.name, name, a.body)
			}
			var want []string
			if allowed && s.does != "" {
				want = []string{s.does}
			}
			if got := r.kms.took(); !slices.Equal(got, want) {
				t.Errorf("%s, %s: the KMS did %v, want %v", kind.name, name, got, want)
			}
		}
	}
}

// The protobuf form goes through the same row, and a body is not read before
// its caller is known.
func TestARefusedCallersBodyIsNotRead(t *testing.T) {
	r := newRig(t)
	body := string(kmsapi.Encrypt.AppendRequest(nil, []kmsapi.EncryptItem{{KeyID: "k", Plaintext: []byte(canary)}}))
	for _, uid := range []uint32{strangerUID, adminUID, noRoleUID} {
		if a := r.do(r.client(uid), "POST /encrypt", kmsapi.ContentType, body); a.status != 403 {
			t.Errorf("UID %d: %d", uid, a.status)
		}
		c := r.conn(uid)
		io.WriteString(c, "POST /encrypt HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n") // and nothing follows
		if text, _ := io.ReadAll(c); !strings.HasPrefix(string(text), "HTTP/1.1 403 ") {
			t.Errorf("UID %d: %.40q", uid, text)
		}
	}
	if calls := r.kms.took(); calls != nil {
		t.Errorf("the KMS did %v", calls)
	}
}

// A browser sends Origin with every POST of a page, and Sec-Fetch-Site with every
// request, whether the page may read the answer or not.
func TestAPageInACallersBrowserDoesNothing(t *testing.T) {
	r := newRig(t)
	for _, header := range []string{"Origin: https://elsewhere.example", "Origin: null", "Sec-Fetch-Site: none", "Sec-Fetch-Site: same-origin"} {
		for _, call := range []string{"POST /shred_dek", "POST /rotate_kek", "GET /keys"} {
			c := r.conn(adminUID)
			io.WriteString(c, call+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/plain\r\n"+header+"\r\nContent-Length: 14\r\n\r\n{\"key_id\":\"k\"}")
			if text, _ := io.ReadAll(c); !strings.HasPrefix(string(text), "HTTP/1.1 403 ") {
				t.Errorf("%s with %s: %.40q", call, header, text)
			}
		}
	}
	if calls := r.kms.took(); calls != nil {
		t.Errorf("the KMS did %v", calls)
	}
}

func TestAStrangersConnectionEndsWithItsAnswer(t *testing.T) {
	r := newRig(t)
	c := r.conn(strangerUID)
	io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	text, err := io.ReadAll(c)
	if err != nil || strings.Count(string(text), "HTTP/1.1 403 ") != 1 || !strings.Contains(string(text), "Connection: close") {
		t.Errorf("%q, %v", text, err)
	}
}

func TestARefusalIsLoggedOnceASecond(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC).UnixNano())
	r := newRig(t, func(c *Config) { c.Now = func() time.Time { return time.Unix(0, now.Load()) } })
	for range 5 {
		r.do(r.client(strangerUID), "GET /healthz", "", "")
	}
	now.Add(int64(time.Second))
	r.do(r.client(cryptoUID), "GET /jobs", "", "")
	for line, want := range map[string]int{
		`"msg":"a caller is not in the list","caller":"uid:1005","skipped":0`:          1,
		`"msg":"a caller is not in the list"`:                                          1,
		`"msg":"a caller lacks the role for its call","caller":"uid:1001","skipped":4`: 1,
	} {
		if n := strings.Count(r.log.String(), line); n != want {
			t.Errorf("%s: %d lines, want %d:\n%s", line, n, want, r.log)
		}
	}
}

// A connection may live longer than the certificate that opened it.
func TestACertificateThatExpiresEndsItsConnection(t *testing.T) {
	var later atomic.Int64
	r := newRig(t, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) } })
	w := r.listenTLS()
	client := r.tlsClient(w, must(w.ca.issue("x", x509.ExtKeyUsageClientAuth, "crypto")))
	for _, c := range []struct {
		later  time.Duration
		status int
	}{{0, 200}, {leafLife - time.Hour, 200}, {leafLife + time.Hour, 403}} {
		later.Store(int64(c.later))
		if a, err := try(client, "https://kms", "GET /healthz", "", ""); err != nil || a.status != c.status {
			t.Errorf("%v later: %d %v, want %d", c.later, a.status, err, c.status)
		}
	}
}

func TestOnlyOurListenersMakeCallers(t *testing.T) {
	r := newRig(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.serve(ln)
	client := r.over(func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	})
	for _, s := range samples {
		if a := r.do(client, s.call, "", s.body); a.status != 403 {
			t.Errorf("%s: %d", s.call, a.status)
		}
	}
}

func TestAListOfCallersMustBeClear(t *testing.T) {
	for name, list := range map[string][]Caller{
		"neither":      {{Roles: Crypto}},
		"both":         {{UID: uid(1), Name: "x"}},
		"twice":        {{UID: uid(1)}, {UID: uid(1), Roles: Admin}},
		"a name twice": {{Name: "x"}, {Name: "x"}},
	} {
		if _, err := New(Config{KMS: new(fakeKMS), Callers: list}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
