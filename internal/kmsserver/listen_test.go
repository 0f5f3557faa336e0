package kmsserver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAnEndpointIsReadOneWay(t *testing.T) {
	for endpoint, want := range map[string]string{
		"/run/kms.sock": "unix /run/kms.sock", "./kms.sock": "unix ./kms.sock", "unix:///run/kms.sock": "unix /run/kms.sock", "a/b:80": "unix a/b:80",
		"127.0.0.1:7421": "tcp 127.0.0.1:7421", "[::1]:7421": "tcp [::1]:7421", ":7421": "tcp :7421", "https://kms:7421": "tcp kms:7421",
		"kms.sock": "unix kms.sock", "fd:3": "fd 3", "": "", "kms:": "", "http://kms:7421": "", "unix:/x": "unix unix:/x", "ftp:///x": "", "https://kms:7421/x": "", "unix://kms.sock": "", "https://": "",
	} {
		network, address, err := parseEndpoint(endpoint)
		if got := strings.TrimSpace(network + " " + address); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", endpoint, got, err, want)
		}
	}
}

func TestAServerListensOnlyWhereSomebodyMayCall(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "kms.sock")
	byUID, byName := []Caller{{UID: uid(1)}}, []Caller{{Name: "x"}}
	r := newRig(t)
	files := &r.listenTLS().files
	for _, c := range []struct {
		name, endpoint string
		callers        []Caller
		files          *TLSFiles
		want           string // "": it listens
	}{
		{"socket", sock, byUID, nil, ""},
		{"socket, empty files", sock, byUID, &TLSFiles{}, ""},
		{"socket without UIDs", sock, byName, nil, "no UID"},
		{"socket with TLS", sock, byUID, files, "takes no TLS"},
		{"TCP", "127.0.0.1:0", byName, files, ""},
		{"TCP without files", "127.0.0.1:0", byName, nil, "needs a certificate"},
		{"TCP with empty files", "127.0.0.1:0", byName, &TLSFiles{}, "needs a certificate"},
		{"TCP without a CA", "127.0.0.1:0", byName, &TLSFiles{Cert: files.Cert, Key: files.Key}, "CA"},
		{"TCP without a key", "127.0.0.1:0", byName, &TLSFiles{Cert: files.Cert, CA: files.CA}, "key"},
		{"TCP with an empty CA", "127.0.0.1:0", byName, &TLSFiles{files.Cert, files.Key, files.Key}, "holds no certificate"},
		{"TCP with UIDs alone", "127.0.0.1:0", byUID, files, "no certificate name"},
		{"TCP with the default callers", "127.0.0.1:0", nil, files, "no certificate name"},
		{"TCP where it cannot", "256.0.0.1:0", byName, files, "256"},
	} {
		s, err := New(Config{KMS: new(fakeKMS), Callers: c.callers})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := s.Listen(c.endpoint, c.files)
		if err == nil {
			ln.Close()
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestTheOwnUIDIsTheDefaultCaller(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Callers = nil })
	path := filepath.Join(t.TempDir(), "kms.sock")
	ln, err := r.Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.serve(ln)
	client := r.over(unixDial(path))
	for name, s := range samples {
		body := strings.ReplaceAll(s.body, "uid:1006", fmt.Sprint("uid:", os.Geteuid()))
		if a := r.do(client, s.call, "", body); a.status/100 != 2 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := r.do(r.client(uint32(os.Geteuid())+1), "GET /healthz", "", ""); a.status != 403 {
		t.Errorf("another UID: %d", a.status)
	}
}
