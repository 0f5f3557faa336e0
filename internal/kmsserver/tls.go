package kmsserver

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"

	"github.com/keyfold/keyfold/internal/httpx"
)

// TLSFiles names the PEM files of a TCP endpoint: the server's certificate and
// its key, and the CA that signs the certificates of callers.
type TLSFiles struct{ Cert, Key, CA string }

// config returns the configuration of TLS 1.3 with client certificates. It
// follows the files.
func (f TLSFiles) config(log *slog.Logger) (*tls.Config, error) {
	return httpx.FollowTLS([]string{f.Cert, f.Key, f.CA}, f.load, log)
}

// load reads the files.
func (f TLSFiles) load() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", f.Cert, f.Key, err)
	}
	text, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("CA of the callers: %w", err)
	}
	ca := x509.NewCertPool()
	if !ca.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("CA of the callers: %s holds no certificate", f.CA)
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{cert},
		ClientCAs:              ca,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		NextProtos:             []string{"http/1.1"}, // HTTP/2 is slower here, and one more parser of hostile frames
		SessionTicketsDisabled: true,                 // a ticket would outlive the CA that let it in
	}, nil
}
