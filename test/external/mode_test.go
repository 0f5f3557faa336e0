package external

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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
	must(t, kmsCommand(dir, "init", "--tls", "--endpoint", port, "--config", config))
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

// freePort is a loopback address that is nobody's. A socket holds it until the test
// ends, so that no other process is given its port: one that asks for it may listen.
func freePort(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	err1 := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	err2 := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	name, err3 := syscall.Getsockname(fd)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint("127.0.0.1:", name.(*syscall.SockaddrInet4).Port)
}
