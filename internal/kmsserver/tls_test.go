package kmsserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func unixDial(path string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
}

// handshake opens a connection and returns the serial number of the server's
// certificate.
func (w *world) handshake(t *testing.T, client pair) (string, error) {
	t.Helper()
	c, err := tls.Dial("tcp", w.ln.Addr().String(), w.config(client))
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		return "", err
	}
	if _, err := c.Read(make([]byte, 1)); err != nil { // in TLS 1.3 a refusal comes after the client's handshake
		return "", err
	}
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// replace writes a file as careful writers do: beside it, then renamed.
func replace(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// issued is the files of a certificate.
func issued(t *testing.T, p pair, err error) (cert, key []byte) {
	t.Helper()
	dir := t.TempDir()
	if err == nil {
		err = p.write(dir, "x")
	}
	if err != nil {
		t.Fatal(err)
	}
	cert, _ = os.ReadFile(filepath.Join(dir, "x.crt"))
	key, _ = os.ReadFile(filepath.Join(dir, "x.key"))
	return cert, key
}

func TestCertificatesFollowTheirFiles(t *testing.T) {
	r := newRig(t)
	w := r.listenTLS()
	client := must(w.ca.issue("x", x509.ExtKeyUsageClientAuth, "crypto"))
	shown := func() string {
		t.Helper()
		serial, err := w.handshake(t, client)
		if err != nil {
			t.Fatal(err)
		}
		return serial
	}
	first := shown()
	second, err := w.ca.issue("kms", x509.ExtKeyUsageServerAuth, "kms")
	cert, key := issued(t, second, err)
	replace(t, w.files.Key, key)
	if shown() != first {
		t.Error("a key without its certificate came into use")
	}
	replace(t, w.files.Cert, cert)
	if got := shown(); got != second.cert.SerialNumber.String() {
		t.Errorf("the new certificate is not in use: %s", got)
	}
	for name, bad := range map[string]func(){
		"garbage": func() { replace(t, w.files.Cert, []byte("garbage")) },
		"gone":    func() { os.Remove(w.files.Cert) },
		"no CA":   func() { replace(t, w.files.Cert, cert); replace(t, w.files.CA, nil) },
	} {
		bad()
		if got := shown(); got != second.cert.SerialNumber.String() {
			t.Errorf("%s: the server shows %s", name, got)
		}
		shown()
	}
	if n := strings.Count(r.log.String(), "the old ones stay in use"); n != 4 {
		t.Errorf("%d lines for 4 bad states:\n%s", n, r.log)
	}
}

func TestACallersCAFollowsItsFile(t *testing.T) {
	r := newRig(t)
	w := r.listenTLS()
	other := must(newCA())
	ours, theirs := must(w.ca.issue("x", x509.ExtKeyUsageClientAuth, "crypto")), must(other.issue("x", x509.ExtKeyUsageClientAuth, "crypto"))
	if _, err := w.handshake(t, ours); err != nil {
		t.Fatal(err)
	}
	if _, err := w.handshake(t, theirs); err == nil {
		t.Fatal("a certificate of another CA is let in")
	}
	text, _ := issued(t, other, nil)
	replace(t, w.files.CA, text)
	if _, err := w.handshake(t, theirs); err != nil {
		t.Errorf("the new CA's certificate is refused: %v", err)
	}
	if _, err := w.handshake(t, ours); err == nil {
		t.Error("the old CA's certificate is still let in")
	}
}

// A ticket from before the change must not let its holder in again.
func TestNoSessionOutlivesItsCA(t *testing.T) {
	r := newRig(t)
	w := r.listenTLS()
	config := w.config(must(w.ca.issue("x", x509.ExtKeyUsageClientAuth, "crypto")))
	config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	read := func() (resumed bool, err error) {
		c, err := tls.Dial("tcp", w.ln.Addr().String(), config)
		if err != nil {
			return false, err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		c.Write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
		_, err = c.Read(make([]byte, 1))
		return c.ConnectionState().DidResume, err
	}
	for range 2 {
		if resumed, err := read(); err != nil || resumed {
			t.Fatalf("resumed: %v, %v", resumed, err)
		}
	}
	text, _ := issued(t, must(newCA()), nil)
	replace(t, w.files.CA, text)
	if _, err := read(); err == nil {
		t.Error("the old CA's caller is still let in")
	}
}

func TestOnlyTLS13IsSpoken(t *testing.T) {
	r := newRig(t)
	w := r.listenTLS()
	config := w.config(must(w.ca.issue("x", x509.ExtKeyUsageClientAuth, "crypto")))
	config.MaxVersion = tls.VersionTLS12
	if c, err := tls.Dial("tcp", w.ln.Addr().String(), config); err == nil {
		c.Close()
		t.Error("TLS 1.2 is spoken")
	}
	config.MaxVersion, config.NextProtos = 0, []string{"h2", "http/1.1"}
	c, err := tls.Dial("tcp", w.ln.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if p := c.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		t.Errorf("%q is spoken", p)
	}
}

func TestMadeCertificatesWorkTogether(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	if err := MakeTLS(dir, "kms.internal", "10.0.0.7"); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	entries, _ := os.ReadDir(dir)
	if len(entries) != 8 {
		t.Errorf("%d files", len(entries))
	}
	for _, e := range entries {
		if info, _ := e.Info(); strings.HasSuffix(e.Name(), ".key") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v", e.Name(), info.Mode())
		}
	}
	r := newRig(t, func(c *Config) {
		c.Callers = []Caller{{UID: uid(1)}, {Name: "keyfold-server", Roles: Crypto}, {Name: "keyfold-admin", Roles: Admin}}
	})
	ln, err := r.Listen("127.0.0.1:0", &TLSFiles{at("server.crt"), at("server.key"), at("ca.crt")})
	if err != nil {
		t.Fatal(err)
	}
	r.serve(ln)
	roots := x509.NewCertPool()
	ca, _ := os.ReadFile(at("ca.crt"))
	roots.AppendCertsFromPEM(ca)
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "kms.internal", "10.0.0.7"} {
		for _, client := range devClients {
			cert, err := tls.LoadX509KeyPair(at(client+".crt"), at(client+".key"))
			if err != nil {
				t.Fatal(err)
			}
			c, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: roots, ServerName: name, Certificates: []tls.Certificate{cert}})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			c.SetDeadline(time.Now().Add(time.Minute))
			c.Write([]byte("GET /jobs HTTP/1.1\r\nHost: x\r\n\r\n"))
			text := make([]byte, 12)
			if _, err := c.Read(text); err != nil || string(text) != map[string]string{"keyfold-server": "HTTP/1.1 403", "keyfold-admin": "HTTP/1.1 200"}[client] {
				t.Errorf("%s at %s: %q %v", client, name, text, err)
			}
			c.Close()
		}
	}
}

func TestMakeTLSOverwritesNothing(t *testing.T) {
	for _, name := range []string{"ca.key", "server.crt", "keyfold-admin.key"} {
		dir := t.TempDir()
		os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600)
		if err := MakeTLS(dir); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		entries, _ := os.ReadDir(dir)
		if text, _ := os.ReadFile(filepath.Join(dir, name)); len(entries) != 1 || string(text) != "mine" {
			t.Errorf("%s: %d files, %q", name, len(entries), text)
		}
	}
	dir := t.TempDir()
	if err := MakeTLS(dir); err != nil {
		t.Fatal(err)
	}
	if err := MakeTLS(dir); err == nil {
		t.Error("a second run is not refused")
	}
}
