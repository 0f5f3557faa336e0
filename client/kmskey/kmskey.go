// Package kmskey is a CMEK key that lives in a key process of its owner: values
// are sealed and opened by calling that keyfold-kms, under the caller's own
// certificate, and the key never comes here. A [Key] is what package client
// takes for a CMEK key.
//
//	kms, err := kmskey.New(kmskey.Config{
//		Endpoint: "https://kms.customer.example:7421",
//		Cert:     "agent-7.crt", Key: "agent-7.key", CA: "customer-ca.crt",
//	})
//	c, err := client.New(url, apiKey, client.WithKeySource(
//		func(_ context.Context, fingerprint string) (client.CMEK, error) { return kms.Key(fingerprint), nil }))
//
// It trusts the process that the CA vouches for with the key, and with what is
// sealed: that process sees the plaintexts that it seals and opens, and records
// who used which key for which vault and path. Vault and path are what this
// side says; in a bound blob they must be true to open it.
//
// Nothing is kept on disk. Bodies of requests and answers are wiped; the fixed
// buffers of net/http and crypto/tls are not.
package kmskey

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keyfold/keyfold/cmek"
)

// Config says where the key process is, and who calls.
type Config struct {
	Endpoint string        // https://host:port, or unix:///path/of/socket, where the user is who calls; several on one store are separated by commas
	Cert     string        // for https: PEM file of the caller's certificate; read again for each connection
	Key      string        // for https: PEM file of its key; as Cert
	CA       string        // for https: PEM file of the CA of the process's certificate
	Timeout  time.Duration // of one call; 30s
}

// KMS is a key process, or several that share a store: the one that answered last is
// asked first, and the next where it breaks, takes no connection for connectIn, says
// that it cannot work, or says nothing for its share of Config.Timeout. It is safe for
// concurrent use.
type KMS struct {
	places  []place
	last    atomic.Int32 // of places, that answered
	timeout time.Duration
}

// place is one address.
type place struct {
	base string
	http *http.Client
}

const connectIn = 3 * time.Second

// New makes a KMS. It does not connect: calls do.
func New(cfg Config) (*KMS, error) {
	k := &KMS{timeout: cfg.Timeout}
	if k.timeout <= 0 {
		k.timeout = 30 * time.Second
	}
	for endpoint := range strings.SplitSeq(cfg.Endpoint, ",") {
		cfg.Endpoint = strings.TrimSpace(endpoint)
		p, err := newPlace(cfg)
		if err != nil {
			return nil, err
		}
		k.places = append(k.places, p)
	}
	return k, nil
}

// newPlace makes the place of one endpoint.
func newPlace(cfg Config) (p place, err error) {
	dialer := &net.Dialer{Timeout: connectIn}
	t := &http.Transport{
		MaxConnsPerHost: 32, MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     90 * time.Second, // the process ends them after two minutes
		TLSHandshakeTimeout: connectIn,
		DisableCompression:  true,
		DialContext:         dialer.DialContext,
	}
	if path, ok := strings.CutPrefix(cfg.Endpoint, "unix://"); ok {
		if !strings.HasPrefix(path, "/") {
			return p, fmt.Errorf("kmskey: the endpoint %q is not unix:///path/of/socket", cfg.Endpoint)
		}
		p.base = "http://kms"
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		}
	} else if p.base, err = overTLS(cfg, t); err != nil {
		return p, err
	}
	p.http = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return p, nil
}

// overTLS lets t show the certificate, and returns the address.
func overTLS(cfg Config, t *http.Transport) (base string, err error) {
	u, err := url.Parse(cfg.Endpoint)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "" {
		return "", errors.New("kmskey: the endpoint is neither https://host:port nor unix:///path/of/socket")
	}
	if cfg.Cert == "" || cfg.Key == "" || cfg.CA == "" {
		return "", errors.New("kmskey: a key process at https:// wants a certificate, its key and a CA")
	}
	if _, err := tls.LoadX509KeyPair(cfg.Cert, cfg.Key); err != nil {
		return "", fmt.Errorf("kmskey: the certificate and its key cannot be read: %w", err)
	}
	text, err := os.ReadFile(cfg.CA)
	if err != nil {
		return "", fmt.Errorf("kmskey: the CA cannot be read: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return "", fmt.Errorf("kmskey: %s holds no certificate", cfg.CA)
	}
	t.TLSClientConfig = &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cfg.Cert, cfg.Key)
			return &pair, err
		},
	}
	return "https://" + u.Host, nil
}

// Close closes connections that no call is on.
func (k *KMS) Close() {
	for _, p := range k.places {
		p.http.CloseIdleConnections()
	}
}

// Key returns the key with this fingerprint, 64 lower-case hex digits. Whether
// there is one, and the caller may use it, its calls tell.
func (k *KMS) Key(fingerprint string) *Key { return &Key{k, fingerprint} }

// Key is a key in a KMS. It is safe for concurrent use.
type Key struct {
	kms         *KMS
	fingerprint string
}

// Fingerprint names the key.
func (k *Key) Fingerprint() string { return k.fingerprint }

// Seal returns plaintext, which may be empty, sealed as a value in base64: a
// blob of that version, 1, or 2, which is bound to at. The process records the
// use with at, which must be whole in both versions. ErrDenied: the caller may
// not use the key.
func (k *Key) Seal(ctx context.Context, at cmek.Context, version int, plaintext []byte) (string, error) {
	if err := k.check(at); err != nil {
		return "", err
	}
	if plaintext == nil {
		plaintext = []byte{}
	}
	var out struct {
		Value string `json:"value"`
	}
	err := k.kms.call(ctx, "/cmek_seal", struct {
		Fingerprint string `json:"fingerprint"`
		Vault       string `json:"vault"`
		Path        string `json:"path"`
		Version     int    `json:"version"`
		Plaintext   []byte `json:"plaintext"`
	}{k.fingerprint, at.VaultID, at.Path, version, plaintext}, &out)
	if err != nil {
		return "", err
	}
	if info, err := cmek.Inspect(out.Value); err != nil || int(info.Version) != version || info.PlaintextSize != len(plaintext) {
		return "", errShape
	}
	return out.Value, nil
}

// Open returns the plaintext of a value that was read from at, whichever its
// form and version. A value that does not open is cmek.ErrDecrypt, one without
// the shape of a blob is cmek.ErrNotBlob and never leaves. As Seal otherwise.
func (k *Key) Open(ctx context.Context, at cmek.Context, value string) ([]byte, error) {
	info, err := cmek.Inspect(value)
	if err == nil {
		err = k.check(at)
	}
	if err != nil {
		return nil, err
	}
	var out struct {
		Plaintext []byte `json:"plaintext"`
	}
	err = k.kms.call(ctx, "/cmek_open", struct {
		Fingerprint string `json:"fingerprint"`
		Vault       string `json:"vault"`
		Path        string `json:"path"`
		Value       string `json:"value"`
	}{k.fingerprint, at.VaultID, at.Path, value}, &out)
	if err != nil {
		return nil, err
	}
	if len(out.Plaintext) != info.PlaintextSize {
		clear(out.Plaintext)
		return nil, errShape
	}
	return out.Plaintext, nil
}

// check is an error for what no key process takes.
func (k *Key) check(at cmek.Context) error {
	switch {
	case !cmek.ValidFingerprint(k.fingerprint):
		return errors.New("kmskey: which key is not known: name it by its fingerprint, 64 lower-case hex digits")
	case at.VaultID == "" || at.Path == "":
		return cmek.ErrNeedsContext
	}
	return nil
}
