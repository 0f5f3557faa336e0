package external

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/keyfold/keyfold/internal/freeport"
)

// canary is in every plaintext here, and in no file and no output.
const canary = "plaintext-canary-e7a1"

// mustNotHold fails the test when a text is in any file of the data directory
// or in what the server and its key process said.
func (s *server) mustNotHold(text string) {
	s.t.Helper()
	if strings.Contains(s.output.String(), text) {
		s.t.Errorf("the output holds %q", text)
	}
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(text)) {
			s.t.Errorf("%s holds %q", path, text)
		}
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
}

// One data directory has one key store, whichever process has it open.
func TestADataDirectoryMovesFromEmbeddedToExternalAndBack(t *testing.T) {
	dir := shortDir(t)
	var secret, thread string
	for i, mode := range []string{"embedded", "external", "embedded"} {
		s := dev(t, dir, nil, "--kms", mode)
		if (s.kms() != 0) != (mode == "external") {
			t.Errorf("%s: the key process is %d", mode, s.kms())
		}
		if i == 0 {
			secret, thread = s.vault()+"/secrets/a", s.thread()
			s.must("PUT", secret, `{"value":"`+canary+`"}`)
		}
		s.must("POST", thread, `{"body":"`+canary+`"}`)
		if got, err := s.value(secret); err != nil || got != canary {
			t.Errorf("%s: %q, %v", mode, got, err)
		}
		if got, err := s.bodies(thread); err != nil || len(got) != i+1 {
			t.Errorf("%s: %q, %v", mode, got, err)
		}
		if !strings.Contains(s.output.String(), mode) {
			t.Errorf("the banner does not say %s", mode)
		}
		s.stop()
		s.mustNotHold(canary)
	}
}

// A key process on TCP, with the certificates and the list of callers that init makes.
func TestAServerReachesItsKeyProcessByMutualTLS(t *testing.T) {
	dir, data := shortDir(t), shortDir(t)
	port := freePort(t)
	config := filepath.Join(dir, "kms.yaml")
	must(t, kmsCommand(t, dir, "init", "--tls", "--endpoint", port, "--config", config))
	stop := serveKMS(t, dir, "--config", config)
	tls := filepath.Join(dir, "tls")
	env := []string{"KEYFOLD_KMS=https://" + port, "KEYFOLD_KMS_CERT=" + filepath.Join(tls, "keyfold-server.crt"),
		"KEYFOLD_KMS_KEY=" + filepath.Join(tls, "keyfold-server.key"), "KEYFOLD_KMS_CA=" + filepath.Join(tls, "ca.crt")}
	s := dev(t, data, env)
	secret, thread := s.vault()+"/secrets/a", s.thread()
	s.must("PUT", secret, `{"value":"`+canary+`"}`)
	s.must("POST", thread, `{"body":"`+canary+`"}`)
	stop(syscall.SIGKILL)
	if status, text := s.call("GET", secret, ""); status != 503 || !strings.Contains(text, "try again") {
		t.Errorf("without the key process: %d %s", status, text)
	}
	serveKMS(t, dir, "--config", config)
	s.await("/readyz", s.ready)
	if got, err := s.value(secret); err != nil || got != canary {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := s.bodies(thread); err != nil || len(got) != 1 {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(data, "root.key")); err == nil {
		t.Error("the server made a root key")
	}
	s.stop()
	s.mustNotHold(canary)
}

// freePort is an address that nobody listens on, and that is held for those that the
// test starts until it ends.
func freePort(t *testing.T) string {
	t.Helper()
	addr, release, err := freeport.Hold()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return addr
}
