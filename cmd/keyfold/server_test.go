package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/config"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/kmsserver"
	"github.com/keyfold/keyfold/internal/store/storespec"
	"github.com/keyfold/keyfold/internal/throttle"
)

// started is a server in this process. stop ends it, which the end of the test
// does too, and returns its log.
func started(t *testing.T, env map[string]string) (url string, stop func() string) {
	t.Helper()
	var log bytes.Buffer
	r, w := io.Pipe()
	a := &app{App: cli.App{Name: "keyfold", Out: w, Err: &log, JSON: true}, getenv: func(name string) string { return env[name] }}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		err := a.server(ctx, "", func(err error) { t.Error(err) })
		w.CloseWithError(err)
		ended <- err
	}()
	stop = sync.OnceValue(func() string {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with %v", err)
		}
		return log.String()
	})
	t.Cleanup(func() { stop() })
	var said struct{ URL string }
	if err := json.NewDecoder(r).Decode(&said); err != nil {
		t.Fatal(err)
	}
	return said.URL, stop
}

func TestAServerTellsTheAddressThatWasAskedFor(t *testing.T) {
	for addr, want := range map[string]string{"0.0.0.0:0": "0.0.0.0", "127.0.0.1:0": "127.0.0.1", ":0": "0.0.0.0", "[::]:0": "::", "localhost:0": "localhost"} {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		port := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
		if got := asked(addr, ln.Addr()); got != net.JoinHostPort(want, port) {
			t.Errorf("%s: %s", addr, got)
		}
		ln.Close()
	}
	url, stop := started(t, map[string]string{"KEYFOLD_ADDR": "0.0.0.0:0", "KEYFOLD_DATA": filepath.Join(t.TempDir(), "data"), "KEYFOLD_KMS": "embedded"})
	if stop(); !strings.HasPrefix(url, "http://0.0.0.0:") {
		t.Errorf("told %s", url)
	}
}

func TestACertificateFollowsItsFiles(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	for _, err := range []error{kmsserver.MakeTLS(first), kmsserver.MakeTLS(second)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	used := func(name string) string { return filepath.Join(first, name) }
	url, stop := started(t, map[string]string{
		"KEYFOLD_ADDR": "127.0.0.1:0", "KEYFOLD_DATA": filepath.Join(dir, "data"), "KEYFOLD_KMS": "embedded",
		"KEYFOLD_TLS_CERT": used("server.crt"), "KEYFOLD_TLS_KEY": used("server.key"),
	})
	believing := func(ca string) error {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(must(os.ReadFile(filepath.Join(dir, ca, "ca.crt")))(t))
		c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true, ForceAttemptHTTP2: true}}
		res, err := c.Get(url + "/healthz")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK || res.ProtoMajor != 1 || res.TLS.Version < tls.VersionTLS12 {
			t.Errorf("%s over %s, TLS %x", res.Status, res.Proto, res.TLS.Version)
		}
		return nil
	}
	if !strings.HasPrefix(url, "https://") || believing("first") != nil || believing("second") == nil {
		t.Fatalf("%s does not show its certificate", url)
	}
	for _, name := range []string{"server.key", "server.crt"} { // in between the two do not match, and the old ones stay
		if err := believing("first"); err != nil {
			t.Error(err)
		}
		if err := os.Rename(filepath.Join(second, name), used(name)); err != nil {
			t.Fatal(err)
		}
	}
	if believing("second") != nil || believing("first") == nil {
		t.Error("the new certificate is not shown")
	}
	if err := os.WriteFile(used("server.crt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := believing("second"); err != nil {
		t.Errorf("after the files were damaged: %v", err)
	}
	log := stop()
	if n := strings.Count(log, "the old ones stay in use"); n != 2 || !strings.Contains(log, "nobody has an account here") {
		t.Errorf("the log tells %d times of bad files:\n%s", n, log)
	}
	again, err := allinone.Open(t.Context(), allinone.Config{DataDir: filepath.Join(dir, "data")})
	if err != nil {
		t.Fatalf("the server has not let go of its data: %v", err)
	}
	again.Close(t.Context())
}

// The token that opens the metrics is in its file, and in nothing that the server says:
// used rightly and wrongly, in its log, its metrics, its answers and its traces.
func TestAServerTakesTheTokenOfItsMetricsFromAFileAndTellsItNobody(t *testing.T) {
	const token = "metrics-canary-77c0d1e2f3a4b5c6d7e8"
	var mu sync.Mutex
	var traces bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		io.Copy(&traces, r.Body)
	}))
	defer collector.Close()
	url, stop := started(t, map[string]string{
		"KEYFOLD_ADDR": "127.0.0.1:0", "KEYFOLD_DATA": filepath.Join(t.TempDir(), "data"), "KEYFOLD_KMS": "embedded", "KEYFOLD_LOG": "debug,json",
		"KEYFOLD_METRICS_TOKEN_FILE": writeTemp(t, "token", token+"\n"), "OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL,
	})
	var said strings.Builder
	ask := func(path, bearer string, want int) {
		t.Helper()
		r := must(http.NewRequestWithContext(t.Context(), "GET", url+path, nil))(t)
		r.Header.Set("Authorization", "Bearer "+bearer)
		res := must(http.DefaultClient.Do(r))(t)
		defer res.Body.Close()
		text := must(io.ReadAll(res.Body))(t)
		if said.Write(text); res.StatusCode != want {
			t.Errorf("%s = %s: %s", path, res.Status, text)
		}
	}
	ask("/admin/debug/prometheus", token+"x", 401)
	ask("/admin/jobs", token, 401)
	ask("/v1/vaults", token, 401)
	ask("/admin/debug/prometheus", token, 200)
	log := stop()
	mu.Lock()
	defer mu.Unlock()
	for where, text := range map[string]string{"answers": said.String(), "log": log, "traces": traces.String()} {
		if !strings.Contains(text, "/admin/debug/prometheus") {
			t.Errorf("the %s do not tell of the scrape: %s", where, text)
		}
		if strings.Contains(text, "metrics-canary") {
			t.Errorf("the %s hold the token", where)
		}
	}
}

func TestAServerDoesNotStartWithAWeakTokenOfItsMetrics(t *testing.T) {
	env := map[string]string{"KEYFOLD_ADDR": "127.0.0.1:0", "KEYFOLD_DATA": filepath.Join(t.TempDir(), "data"), "KEYFOLD_KMS": "embedded", "KEYFOLD_METRICS_TOKEN": "weak-token-of-31-characters-456"}
	a := &app{App: cli.App{Name: "keyfold", Out: io.Discard, Err: io.Discard}, getenv: func(name string) string { return env[name] }}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // of a server that starts
	defer cancel()
	err := a.server(ctx, "", nil)
	if err == nil || !strings.Contains(err.Error(), "openssl rand -hex 32") || strings.Contains(err.Error(), "weak-token") {
		t.Errorf("it ends with %v", err)
	}
	if _, err := os.Stat(env["KEYFOLD_DATA"]); !os.IsNotExist(err) {
		t.Errorf("it has begun: %v", err)
	}
}

func TestEverySettingReachesTheServer(t *testing.T) {
	env := map[string]string{
		"KEYFOLD_PUBLIC_URL": "https://keys.example.com", "KEYFOLD_DATA": "data", "KEYFOLD_STORE": "pebble:elsewhere", "KEYFOLD_KMS": "https://kms:1",
		"KEYFOLD_KMS_CERT": "c", "KEYFOLD_KMS_KEY": "k", "KEYFOLD_KMS_CA": "a",
		"KEYFOLD_BREAKGLASS_ROOT": "r", "KEYFOLD_BREAKGLASS_KEYRING": "y", "KEYFOLD_SIGN_UP": "closed", "KEYFOLD_DEFAULT_PLAN": "pro",
		"KEYFOLD_PROXIES": "10.0.0.7,10.1.2.3/16", "KEYFOLD_PROXY_HEADER": "Forwarded",
		"KEYFOLD_LIMIT_PRINCIPAL": "7/s", "KEYFOLD_LIMIT_ADDRESS": "none", "KEYFOLD_CORS_ORIGINS": "https://a.example,*",
		"KEYFOLD_ENCRYPTION": "off", "KEYFOLD_RETENTION_EVERY": "2h", "KEYFOLD_DASHBOARD": "off",
		"KEYFOLD_KEK_MAX_AGE": "30d", "KEYFOLD_DEK_MAX_AGE": "12h", "KEYFOLD_CMEK_MAX_AGE": "0",
		"KEYFOLD_METRICS_TOKEN": "metrics",
	}
	scrape := sha256.Sum256([]byte("metrics"))
	s, err := (&app{getenv: func(name string) string { return env[name] }}).loadSettings("")
	want := allinone.Config{
		DataDir: "data", Store: storespec.InDir("elsewhere"), KMSURL: "https://kms:1", KMSTLS: allinone.TLSFiles{Cert: "c", Key: "k", CA: "a"},
		BreakGlass: allinone.BreakGlass{RootFile: "r", KeyringFile: "y"}, SignUp: identity.SignUpClosed, DefaultPlan: access.Pro,
		PublicURL: "https://keys.example.com", CORSOrigins: []string{"https://a.example", "*"}, Version: cli.Version(),
		Proxies: httpx.Proxies{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.7/32"), netip.MustParsePrefix("10.1.0.0/16")}, Header: "Forwarded"},
		Limits:  httpx.Limits{Principal: throttle.Rate{PerSecond: 7}},
		Plain:   true, Retention: 2 * time.Hour, MaxAge: api.KeyAges{KEK: 30 * 86400, DEK: 12 * 3600}, Scrape: &scrape,
	}
	if got := s.config(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\n%+v\nwant\n%+v", err, got, want)
	}
	s.Dashboard = true
	if s.config().Dashboard == nil {
		t.Error("there is no dashboard")
	}
	s.KMS.URL = allinone.Embedded
	if got := s.config().KMSTLS; got != (allinone.TLSFiles{}) {
		t.Errorf("a key process inside has certificates: %+v", got)
	}
}

// docs/server.md has a row for each setting: its name, its variable and, unless
// there is none, its default.
var settingRow = regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| `(KEYFOLD_[A-Z_]+)` \\| (?:`([^`]*)`)? *\\|")

func TestTheTableOfSettingsIsTheStruct(t *testing.T) {
	text := must(os.ReadFile("../../docs/server.md"))(t)
	var listed []string
	env := map[string]string{}
	for _, row := range settingRow.FindAllStringSubmatch(string(text), -1) {
		listed = append(listed, row[1]+" "+row[2])
		env[row[2]] = row[3]
	}
	if want := settingNames(reflect.TypeFor[serverSettings](), ""); !reflect.DeepEqual(listed, want) {
		t.Errorf("the table has\n%s\nthe program\n%s", strings.Join(listed, "\n"), strings.Join(want, "\n"))
	}
	var s serverSettings
	if err := config.Load(&s, "", func(name string) string { return env[name] }); err != nil || !reflect.DeepEqual(s, defaultSettings()) {
		t.Errorf("the table's defaults: %v\n%+v\nthe program's\n%+v", err, s, defaultSettings())
	}
}

// settingNames is the name and variable of each field of t.
func settingNames(t reflect.Type, prefix string) (names []string) {
	for f := range t.Fields() {
		name, env := prefix+f.Tag.Get("yaml"), f.Tag.Get("env")
		if env == "" {
			names = append(names, settingNames(f.Type, name+".")...)
		} else {
			names = append(names, name+" "+env)
		}
	}
	return names
}

// What is written in docs/server.md as a configuration is one.
func TestTheDocumentedConfigurationHasNoMistakes(t *testing.T) {
	text := must(os.ReadFile("../../docs/server.md"))(t)
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) == 0 {
		t.Fatal("there is none")
	}
	for _, b := range blocks {
		a := &app{getenv: func(string) string { return "" }}
		if _, err := a.loadSettings(writeTemp(t, "server.yaml", b[1])); err != nil {
			t.Error(err)
		}
	}
}
