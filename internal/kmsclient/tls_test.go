package kmsclient

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
)

// authority makes certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	late bool // what it makes has expired
}

func newAuthority(t *testing.T, name string) authority {
	a := authority{}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key = issue(t, template, template, nil)
	return a
}

func issue(t *testing.T, template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// make issues a certificate for 127.0.0.1 and for clients.
func (a authority) make(t *testing.T, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	end := time.Now().Add(time.Hour)
	if a.late {
		end = time.Now().Add(-time.Minute)
	}
	return issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: end,
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, a.cert, a.key)
}

// files is what a client is configured with.
type files struct{ cert, key, ca string }

func newFiles(t *testing.T) files {
	dir := t.TempDir()
	return files{filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key"), filepath.Join(dir, "ca.crt")}
}

// write puts a client certificate of by, and trust in ca, into f.
func (f files) write(t *testing.T, name string, by, ca authority) {
	t.Helper()
	cert, key := by.make(t, name)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		f.cert: {Type: "CERTIFICATE", Bytes: cert.Raw}, f.key: {Type: "PRIVATE KEY", Bytes: der}, f.ca: {Type: "CERTIFICATE", Bytes: ca.cert.Raw},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (f files) load(t *testing.T) *TLS {
	t.Helper()
	loaded, err := LoadTLS(f.cert, f.key, f.ca)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// tlsKMS is a fake KMS that knows its clients by certificates of a CA. seen gets
// the name of who called last.
type tlsKMS struct {
	*fakeKMS
	url  string
	seen atomic.Value
}

func newTLSKMS(t *testing.T, server, clients authority, version uint16) *tlsKMS {
	t.Helper()
	k := &tlsKMS{fakeKMS: newFakeKMS()}
	k.on(func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		k.seen.Store(r.TLS.PeerCertificates[0].Subject.CommonName)
		return false
	})
	k.url = serveTLS(t, &k.mux, server, clients, version)
	return k
}

// serveTLS serves h with a certificate of server to clients of clients.
func serveTLS(t *testing.T, h http.Handler, server, clients authority, version uint16) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cert, key := server.make(t, "keyfold-kms")
	pool := x509.NewCertPool()
	pool.AddCert(clients.cert)
	s := &socket{}
	t.Cleanup(s.stop)
	s.serve(tls.NewListener(l, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: pool, MaxVersion: version,
	}), h)
	return "https://" + l.Addr().String()
}

func TestCallsGoOverMutualTLS(t *testing.T) {
	ca, f := newAuthority(t, "ca"), newFiles(t)
	kms := newTLSKMS(t, ca, ca, tls.VersionTLS13)
	f.write(t, "keyfold-server", ca, ca)
	c := (&socket{}).client(t, Config{Endpoint: kms.url, TLS: f.load(t), Retry: long})
	for range 3 {
		if err := encryptOne(t.Context(), c, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if kms.seen.Load() != "keyfold-server" {
		t.Error(kms.seen.Load())
	}
}

func TestAKMSOfAnotherCAOrOfTLS12OrAClientOfAnotherCAGetsNothing(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "ca")
	for name, run := range map[string]func(f files) *tlsKMS{
		"a KMS of another CA": func(f files) *tlsKMS {
			f.write(t, "c", ca, ca)
			return newTLSKMS(t, other, ca, tls.VersionTLS13)
		},
		"a KMS of TLS 1.2": func(f files) *tlsKMS {
			f.write(t, "c", ca, ca)
			return newTLSKMS(t, ca, ca, tls.VersionTLS12)
		},
		"a client of another CA": func(f files) *tlsKMS {
			f.write(t, "c", other, ca)
			return newTLSKMS(t, ca, ca, tls.VersionTLS13)
		},
	} {
		f := newFiles(t)
		kms := run(f)
		c := (&socket{}).client(t, Config{Endpoint: kms.url, TLS: f.load(t), Retry: time.Millisecond})
		if err := encryptOne(t.Context(), c, "x"); !errors.Is(err, fault.Unavailable) || kms.calls.Load() != 0 {
			t.Errorf("%s: %d calls, %v", name, kms.calls.Load(), err)
		}
	}
}

func TestAKMSMustHaveTheNameThatItIsReachedBy(t *testing.T) {
	ca, f := newAuthority(t, "ca"), newFiles(t)
	kms := newTLSKMS(t, ca, ca, tls.VersionTLS13)
	f.write(t, "c", ca, ca)
	_, port, _ := net.SplitHostPort(kms.url[len("https://"):])
	c := (&socket{}).client(t, Config{Endpoint: "https://localhost:" + port, TLS: f.load(t), Retry: time.Millisecond})
	if err := encryptOne(t.Context(), c, "x"); !errors.Is(err, fault.Unavailable) || kms.calls.Load() != 0 {
		t.Error(err)
	}
}

func TestAnExpiredCertificateOfTheKMSIsNamed(t *testing.T) {
	ca, f := newAuthority(t, "ca"), newFiles(t)
	f.write(t, "c", ca, ca)
	late := ca
	late.late = true
	kms := newTLSKMS(t, late, ca, tls.VersionTLS13)
	c := (&socket{}).client(t, Config{Endpoint: kms.url, TLS: f.load(t), Retry: time.Millisecond})
	err := c.Health(t.Context())
	if want := " to " + time.Now().UTC().Format("2006-01-02T"); !errors.Is(err, fault.Unavailable) ||
		!strings.HasPrefix(err.Error(), "the certificate of the KMS has expired") || !strings.Contains(err.Error(), want) {
		t.Error(err)
	}
}

// looksAgain lets the next call look at the files.
func looksAgain(c *Client) { c.places[0].wires.looked.Store(0) }

func TestReplacedCertificatesAreUsedByTheNextCall(t *testing.T) {
	ca, f := newAuthority(t, "ca"), newFiles(t)
	kms := newTLSKMS(t, ca, ca, tls.VersionTLS13)
	f.write(t, "first", ca, ca)
	c := (&socket{}).client(t, Config{Endpoint: kms.url, TLS: f.load(t), Retry: long})
	call := func(want string) {
		t.Helper()
		looksAgain(c)
		if err := encryptOne(t.Context(), c, "x"); err != nil || kms.seen.Load() != want {
			t.Errorf("the KMS saw %v, not %s (%v)", kms.seen.Load(), want, err)
		}
	}
	conn := breakables(c)
	call("first")
	old := conn.Load()
	f.write(t, "second", ca, ca)
	call("second")
	until(t, "the connection of the first certificate ends", old.closed.Load)
	if err := os.WriteFile(f.cert, []byte("half of a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	call("second")
	f.write(t, "third", ca, ca)
	call("third")
}

func TestAReplacedCAIsTrustedByTheNextCallAndTheOldOneIsNot(t *testing.T) {
	before, after, clients, f := newAuthority(t, "ca"), newAuthority(t, "ca"), newAuthority(t, "clients"), newFiles(t)
	f.write(t, "c", clients, before)
	old, replaced := newTLSKMS(t, before, clients, tls.VersionTLS13), newTLSKMS(t, after, clients, tls.VersionTLS13)
	toOld := (&socket{}).client(t, Config{Endpoint: old.url, TLS: f.load(t), Retry: long})
	toNew := (&socket{}).client(t, Config{Endpoint: replaced.url, TLS: f.load(t), Retry: time.Millisecond})
	if err := encryptOne(t.Context(), toOld, "x"); err != nil {
		t.Fatal(err)
	}
	if err := encryptOne(t.Context(), toNew, "x"); err == nil {
		t.Fatal("the CA is not looked at")
	}
	toOld.retry, toNew.retry = time.Millisecond, long // what must come has time
	f.write(t, "c", clients, after)
	looksAgain(toOld)
	looksAgain(toNew)
	if err := encryptOne(t.Context(), toNew, "x"); err != nil {
		t.Error(err)
	}
	if err := encryptOne(t.Context(), toOld, "x"); err == nil {
		t.Error("a connection of the CA that was replaced is still used")
	}
}

func TestFilesThatAreNoCertificatesAreRefused(t *testing.T) {
	ca, f, g := newAuthority(t, "ca"), newFiles(t), newFiles(t)
	f.write(t, "c", ca, ca)
	g.write(t, "c", ca, ca)
	for _, bad := range []files{{f.cert, g.key, f.ca}, {f.key, f.key, f.ca}, {f.cert, f.key, f.key}, {"", "", ""}, {f.cert, f.key, "none"}} {
		if _, err := LoadTLS(bad.cert, bad.key, bad.ca); !errors.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
