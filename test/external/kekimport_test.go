package external

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// rewrap asks, with the admin key, for a rewrap of all threads under a key.
func (s *server) rewrap(key string) (int, string) {
	s.t.Helper()
	var said struct {
		AdminKey string `json:"admin_key"`
	}
	text, err := os.ReadFile(filepath.Join(s.dir, "dev.json"))
	if err == nil {
		err = json.Unmarshal(text, &said)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	owner := s.key
	s.key = said.AdminKey
	defer func() { s.key = owner }()
	return s.call("POST", "/admin/encryption/rewrap-deks", `{"all":true,"new_kek_hex":"`+key+`"}`)
}

// mustNotHoldKey is mustNotHold of a key in every form.
func (s *server) mustNotHoldKey(raw []byte) {
	s.t.Helper()
	for _, text := range []string{string(raw), hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)), base64.StdEncoding.EncodeToString(raw)[:42]} {
		s.mustNotHold(text)
	}
}

func TestAnImportedKEKOutlivesItsProcessesAndIsInNoFileAndNoOutput(t *testing.T) {
	for _, mode := range []string{"embedded", "external"} {
		dir := shortDir(t)
		s := dev(t, dir, nil, "--kms", mode)
		thread := s.thread()
		s.must("POST", thread, `{"body":"`+canary+`"}`)
		raw, weak := make([]byte, 32), strings.Repeat("ab", 32)
		rand.Read(raw)
		key := hex.EncodeToString(raw)
		for _, again := range []bool{false, true} {
			if again && mode == "external" {
				syscall.Kill(s.kms(), syscall.SIGKILL)
				s.await("the key process", func() bool { return s.kms() != 0 && s.ready() })
			}
			if status, text := s.rewrap(key); status != 200 || !strings.Contains(text, `"kek_version":2`) {
				t.Errorf("%s: %d %s", mode, status, text)
			}
		}
		if status, text := s.rewrap(weak); status != 400 || !strings.Contains(text, "random generator") {
			t.Errorf("%s: %d %s", mode, status, text)
		}
		s.mustNotHoldKey(raw)
		kms := s.kms()
		s.signal(syscall.SIGKILL)
		<-s.ended
		s.await("the end of the key process", func() bool { return kms == 0 || !alive(kms) })
		s = dev(t, dir, nil, "--kms", mode)
		s.must("POST", thread, `{"body":"`+canary+`"}`)
		if got, err := s.bodies(thread); err != nil || len(got) != 2 {
			t.Errorf("%s: %q, %v", mode, got, err)
		}
		s.stop()
		s.mustNotHoldKey(raw)
		if keys := must(t, kmsCommand(t, dir, "keys")); strings.Count(keys, "imported") != 1 {
			t.Errorf("%s: %s", mode, keys)
		}
		must(t, kmsCommand(t, dir, "audit", "verify", "--public-key", strings.TrimSpace(must(t, kmsCommand(t, dir, "audit", "key")))))
		var log strings.Builder
		files, _ := filepath.Glob(filepath.Join(dir, "kms.audit", "*"))
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			log.Write(text)
		}
		if strings.Count(log.String(), `"kek.import"`) != 1 {
			t.Errorf("%s: the audit has %s", mode, log.String())
		}
	}
}

// It is the key process that decides, by its own settings and list of callers.
func TestAServerImportsNoKEKIntoAKeyProcessThatDoesNotAllowIt(t *testing.T) {
	dir, data, port := shortDir(t), shortDir(t), freePort(t)
	config, tls := filepath.Join(dir, "kms.yaml"), filepath.Join(dir, "tls")
	must(t, kmsCommand(t, dir, "init", "--tls", "--endpoint", port, "--config", config))
	raw := make([]byte, 32)
	rand.Read(raw)
	for _, c := range []struct{ who, allow, want string }{
		{"keyfold-admin", "", "allow_kek_import"}, {"keyfold-admin", "--allow-kek-import=false", "allow_kek_import"}, {"keyfold-server", "--allow-kek-import", "role admin"}, {"keyfold-admin", "--allow-kek-import", ""},
	} {
		args := []string{"--config", config}
		if c.allow != "" {
			args = append(args, c.allow)
		}
		stop := serveKMS(t, dir, args...)
		s := dev(t, data, []string{"KEYFOLD_KMS=https://" + port, "KEYFOLD_KMS_CERT=" + filepath.Join(tls, c.who+".crt"),
			"KEYFOLD_KMS_KEY=" + filepath.Join(tls, c.who+".key"), "KEYFOLD_KMS_CA=" + filepath.Join(tls, "ca.crt")})
		s.await("/readyz", s.ready)
		s.thread()
		if status, text := s.rewrap(hex.EncodeToString(raw)); status != map[bool]int{true: 200, false: 400}[c.want == ""] || !strings.Contains(text, c.want) {
			t.Errorf("%s %s: %d %s", c.who, c.allow, status, text)
		}
		s.stop()
		s.mustNotHoldKey(raw)
		stop(syscall.SIGTERM)
	}
}
