package check

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// haproxyPath is where haproxy is.
func haproxyPath() string {
	if path, err := exec.LookPath("haproxy"); err == nil {
		return path
	}
	return "/usr/sbin/haproxy" // Debian's, which is not in everybody's PATH
}

// upstream is in a server's place behind the proxy.
type upstream struct {
	name  string
	ready atomic.Bool
	end   chan struct{} // of its streams
}

// ServeHTTP answers /readyz as a server does, begins a stream of events, and of every
// other call says who has it, for what path and in whose name.
func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/readyz" && !u.ready.Load():
		w.WriteHeader(http.StatusServiceUnavailable)
	case strings.HasSuffix(r.URL.Path, "/events"):
		fmt.Fprint(w, ": a heartbeat\n")
		w.(http.Flusher).Flush()
		<-u.end
	default:
		fmt.Fprintf(w, "%s %s %s %s", u.name, r.URL.Path, r.Header["X-Forwarded-For"], r.Header["Forwarded"])
	}
}

func startUpstream(t *testing.T, name string, ready bool) (u *upstream, address string) {
	u = &upstream{name: name, end: make(chan struct{})}
	u.ready.Store(ready)
	s := httptest.NewServer(u)
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(u.end) })
	return u, s.Listener.Addr().String()
}

// startProxy runs haproxy with the configuration of the compose file, each edit made
// in it, until the test ends, and returns its URL and a client that believes it.
func startProxy(t *testing.T, edits ...string) (url string, c *http.Client) {
	t.Helper()
	dir := t.TempDir()
	pem := filepath.Join(dir, "proxy.pem")
	write(t, pem, read(t, certs(t), "server.crt")+read(t, certs(t), "server.key"), 0o600)
	address := "127.0.0.1:" + holdPort(t)
	text := read(t, composeDir, "haproxy.cfg")
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			t.Fatalf("%q is not in haproxy.cfg", edits[i])
		}
		text = strings.ReplaceAll(text, edits[i], edits[i+1])
	}
	text = strings.NewReplacer("bind :443", "bind "+address, "maxconn 20000", "maxconn 500", // as many files as a test may open
		"/run/secrets/proxy_pem", pem).Replace(text)
	conf := filepath.Join(dir, "haproxy.cfg")
	write(t, conf, text, 0o600)
	cmd := exec.Command(haproxyPath(), "-db", "-f", conf)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("haproxy: %s", said.String())
		}
	})
	eventually(t, "haproxy listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	c = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}, Timeout: time.Minute}
	t.Cleanup(c.CloseIdleConnections)
	return "https://" + address, c
}

// get returns status and body of a call.
func get(t *testing.T, c *http.Client, url string, header ...string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// operatorsPaths are ways to write what operates a server, most of which the server
// takes for the same.
var operatorsPaths = []string{
	"/admin/jobs", "/admin/debug/prometheus", "/admin/keys/x", "/%61dmin/jobs", "/admi%6E/jobs", "/admin%2Fjobs",
	"/v1/admin/orgs/x/billing-tier", "/v1/%61dmin/orgs/x/billing-tier", "/%76%31/admin/orgs/x/billing-tier", "/v1%2Fadmin/orgs/x/billing-tier",
}

func TestTheProxyLetsNobodyButOperatorsToWhatOperatesAServer(t *testing.T) {
	_, one := startUpstream(t, "one", true)
	servers := []string{"server-1:7420", one, "server-2:7420", one}
	world, c := startProxy(t, servers...)
	for _, path := range operatorsPaths {
		if status, body := get(t, c, world+path); status != http.StatusNotFound || strings.Contains(body, "one") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for _, path := range []string{"/v1/vaults/x/secrets/admin/password", "/v1/health", "/ui/", "/"} {
		if status, body := get(t, c, world+path); status != http.StatusOK || !strings.Contains(body, path) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	office, c := startProxy(t, append(servers, "192.0.2.0/24", "192.0.2.0/24 127.0.0.1/32")...)
	if status, body := get(t, c, office+"/admin/jobs"); status != http.StatusOK || !strings.Contains(body, "/admin/jobs") {
		t.Errorf("an operator: %d %s", status, body)
	}
}

func TestTheProxySaysWhoCallsAndPassesOnWhatAServerSendsAtOnce(t *testing.T) {
	_, one := startUpstream(t, "one", true)
	url, c := startProxy(t, "server-1:7420", one, "server-2:7420", one)
	if _, body := get(t, c, url+"/v1/x", "X-Forwarded-For", "203.0.113.9", "Forwarded", "for=203.0.113.9"); body != "one /v1/x [127.0.0.1] []" {
		t.Errorf("a client chooses its address: %s", body)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", url+"/v1/threads/x/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); line != ": a heartbeat\n" {
		t.Errorf("of a stream that goes on there is %q, %v", line, err)
	}
	if res.Header.Get("Strict-Transport-Security") == "" {
		t.Error("no Strict-Transport-Security")
	}
}

func TestTheProxyAsksServersThatAreReadyAndWhereNoneIsThoseThatLive(t *testing.T) {
	one, first := startUpstream(t, "one", true)
	_, second := startUpstream(t, "two", false)
	url, c := startProxy(t, "server-1:7420", first, "server-2:7420", second)
	row := 0 // calls that the first answered without a break
	eventually(t, "the first server, which alone is ready, is asked alone", func() bool {
		row++
		if status, body := get(t, c, url+"/v1/x"); status != http.StatusOK || !strings.HasPrefix(body, "one ") {
			row = 0
		}
		return row == 20
	})
	one.ready.Store(false)
	eventually(t, "none is ready, and the second is asked, too", func() bool {
		status, body := get(t, c, url+"/v1/x")
		return status == http.StatusOK && strings.HasPrefix(body, "two ")
	})
}

// eventually waits for what is said.
func eventually(t *testing.T, said string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it is not so after a minute: %s", said)
		}
	}
}
