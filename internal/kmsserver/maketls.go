package kmsserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// How long development certificates are good.
const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 2 * 365 * 24 * time.Hour
)

// devClients are the names that MakeTLS makes client certificates for.
var devClients = []string{"keyfold-server", "keyfold-admin"}

// MakeTLS makes a CA and certificates for development in dir:
//
//	ca.crt ca.key           the CA; whoever has its key can make callers
//	server.crt server.key   the KMS: localhost, 127.0.0.1, ::1 and names
//	NAME.crt NAME.key       the callers keyfold-server and keyfold-admin
//
// All are PEM with keys on P-256; keys have mode 0600. dir is made when missing,
// mode 0700. It overwrites nothing: when one of the files is there it fails and
// has changed nothing.
func MakeTLS(dir string, names ...string) error {
	for _, name := range append([]string{"ca", "server"}, devClients...) {
		for _, suffix := range []string{".crt", ".key"} {
			path := filepath.Join(dir, name+suffix)
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s is there already; nothing was changed: choose another directory, or take it away", path)
			}
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, err := newCA()
	if err != nil {
		return err
	}
	if err := ca.write(dir, "ca"); err != nil {
		return err
	}
	server, err := ca.issue("keyfold-kms", x509.ExtKeyUsageServerAuth, append([]string{"localhost", "127.0.0.1", "::1"}, names...)...)
	if err != nil {
		return err
	}
	if err := server.write(dir, "server"); err != nil {
		return err
	}
	for _, name := range devClients {
		client, err := ca.issue(name, x509.ExtKeyUsageClientAuth, name)
		if err != nil {
			return err
		}
		if err := client.write(dir, name); err != nil {
			return err
		}
	}
	return nil
}

// AddTLS makes the certificate and key of one more caller, NAME.crt and
// NAME.key, with the CA that MakeTLS made in dir. It overwrites nothing.
func AddTLS(dir, name string) error {
	files, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key"))
	if err != nil {
		return err
	}
	key, ok := files.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("%s is not a CA that MakeTLS made", filepath.Join(dir, "ca.key"))
	}
	client, err := pair{files.Leaf, key}.issue(name, x509.ExtKeyUsageClientAuth, name)
	if err != nil {
		return err
	}
	return client.write(dir, name)
}

// pair is a certificate with its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA() (pair, error) {
	t := template("Keyfold development CA", caLife)
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign
	return sign(t, pair{})
}

// issue makes a certificate for one usage, with names as its DNS names and IP
// addresses.
func (ca pair) issue(commonName string, usage x509.ExtKeyUsage, names ...string) (pair, error) {
	t := template(commonName, leafLife)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{usage}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	return sign(t, ca)
}

func template(commonName string, life time.Duration) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		Subject:   pkix.Name{CommonName: commonName},
		NotBefore: now.Add(-time.Hour), // clocks differ
		NotAfter:  now.Add(life),
	}
}

// sign makes a fresh key for t and signs it as by; by nobody: by itself.
func sign(t *x509.Certificate, by pair) (pair, error) {
	serial := make([]byte, 16)
	rand.Read(serial)
	serial[0] &= 0x7f
	t.SerialNumber = new(big.Int).SetBytes(serial)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	if by.cert == nil {
		by = pair{t, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, by.cert, key.Public(), by.key)
	if err != nil {
		return pair{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return pair{cert, key}, err
}

// write makes NAME.crt and NAME.key in dir.
func (p pair) write(dir, name string) error {
	key, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return err
	}
	defer clear(key)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	defer clear(text)
	if err := writeNew(filepath.Join(dir, name+".key"), text, 0o600); err != nil {
		return err
	}
	return writeNew(filepath.Join(dir, name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw}), 0o644)
}

// writeNew writes a file that is not there yet.
func writeNew(path string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}
