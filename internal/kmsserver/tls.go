package kmsserver

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
)

// TLSFiles names the PEM files of a TCP endpoint: the server's certificate and
// its key, and the CA that signs the certificates of callers.
type TLSFiles struct{ Cert, Key, CA string }

// config returns the configuration of TLS 1.3 with client certificates. It
// follows the files: each handshake uses what they held last that was good.
func (f TLSFiles) config(log *slog.Logger) (*tls.Config, error) {
	r := &reloader{files: f, log: log}
	r.stamp = f.stamp()
	var err error
	if r.current, err = f.load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: r.latest}, nil
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

// stamp tells whether the files were written since; an absent one is nil.
func (f TLSFiles) stamp() (all [3]os.FileInfo) {
	for i, path := range []string{f.Cert, f.Key, f.CA} {
		all[i], _ = os.Stat(path)
	}
	return all
}

func sameFiles(a, b [3]os.FileInfo) bool {
	for i := range a {
		if a[i] == nil || b[i] == nil {
			if a[i] != b[i] {
				return false
			}
			continue
		}
		if !os.SameFile(a[i], b[i]) || !a[i].ModTime().Equal(b[i].ModTime()) || a[i].Size() != b[i].Size() {
			return false
		}
	}
	return true
}

// reloader keeps the configuration that the files last gave.
type reloader struct {
	files TLSFiles
	log   *slog.Logger

	mu      sync.Mutex // guards all below
	stamp   [3]os.FileInfo
	current *tls.Config
}

// latest is tls.Config.GetConfigForClient. Files that are bad, or half replaced,
// leave the configuration as it was, with one line in the log.
func (r *reloader) latest(*tls.ClientHelloInfo) (*tls.Config, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	stamp := r.files.stamp() // before they are read: what changes meanwhile shows next time
	if sameFiles(stamp, r.stamp) {
		return r.current, nil
	}
	r.stamp = stamp
	fresh, err := r.files.load()
	if err != nil {
		r.log.Error("the new TLS files are not usable; the old ones stay in use", "cause", err)
		return r.current, nil
	}
	r.log.Info("the TLS files were read anew")
	r.current = fresh
	return fresh, nil
}
