package external

import (
	"bytes"
	"github.com/keyfold/keyfold/test/programs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// kmsCommand is keyfold-kms on the keys of a `keyfold dev` data directory, with
// nothing of our environment.
func kmsCommand(t testing.TB, dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(programs.Dir(t), "keyfold-kms"), append(args, "--data-dir", filepath.Join(dir, "kms"))...)
	cmd.Env = []string{"HOME=" + dir}
	return cmd
}

// serveKMS runs a key process until stop.
func serveKMS(t *testing.T, dir string, args ...string) (stop func(syscall.Signal)) {
	t.Helper()
	cmd := kmsCommand(t, dir, append([]string{"serve"}, args...)...)
	var said output
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop = func(sig syscall.Signal) {
		if !ended {
			ended = true
			cmd.Process.Signal(sig)
			cmd.Wait()
		}
	}
	t.Cleanup(func() {
		stop(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("keyfold-kms said: %s", said.String())
		}
	})
	return stop
}

// must runs a command that succeeds, and returns what it said.
func must(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", cmd, err, out)
	}
	return string(out)
}

var publicKey = regexp.MustCompile(`verified: (\S+)`)

// auditOf checks the server's audit and returns it.
func auditOf(t *testing.T, dir string) string {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(dir, "audit.key"))
	if err != nil {
		t.Fatal(err)
	}
	must(t, kmsCommand(t, dir, "audit", "verify", "--dir", filepath.Join(dir, "audit"), "--public-key", publicKey.FindStringSubmatch(string(key))[1]))
	var all bytes.Buffer
	files, _ := filepath.Glob(filepath.Join(dir, "audit", "*"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

func TestBreakGlassReadsMessagesAloneAndOnlyWhereItIsSetUp(t *testing.T) {
	dir := shortDir(t)
	must(t, kmsCommand(t, dir, "init"))
	stop := serveKMS(t, dir)
	url := "unix://" + filepath.Join(dir, "kms.sock")
	s := dev(t, dir, nil, "--kms", url)
	secret, thread := s.vault()+"/secrets/a", s.thread()
	s.must("PUT", secret, `{"value":"`+canary+`"}`)
	s.must("POST", thread, `{"body":"`+canary+`"}`)
	exported := filepath.Join(dir, "breakglass")
	must(t, kmsCommand(t, dir, "export-breakglass", "--out", exported))

	// away checks what is answered without the key process.
	away := func(messages int) {
		t.Helper()
		for _, c := range []struct {
			call, body string
			status     int
		}{
			{"GET " + thread, "", messages},
			{"GET " + secret, "", 503},
			{"POST " + thread, `{"body":"` + canary + `"}`, 503},
			{"PUT " + secret, `{"value":"` + canary + `"}`, 503},
			{"POST /v1/threads", `{}`, 503},
			{"GET /readyz", "", 503},
		} {
			method, path, _ := strings.Cut(c.call, " ")
			status, text := s.call(method, path, c.body)
			if status != c.status || status == 503 && !strings.Contains(text, "try again") {
				t.Errorf("without the key process %s = %d %s, want %d", c.call, status, text, c.status)
			}
		}
		if _, text := s.call("GET", "/v1/health", ""); !strings.Contains(text, `"degraded"`) {
			t.Errorf("without the key process the health is %s", text)
		}
	}
	stop(syscall.SIGKILL)
	away(503)
	s.stop()

	s = dev(t, dir, []string{"KEYFOLD_BREAKGLASS_ROOT=" + filepath.Join(dir, "root.key"), "KEYFOLD_BREAKGLASS_KEYRING=" + exported}, "--kms", url)
	away(200)
	if got, err := s.bodies(thread); err != nil || len(got) != 1 || got[0] != canary {
		t.Errorf("by break-glass: %q, %v", got, err)
	}
	if log := auditOf(t, dir); !strings.Contains(log, `"breakglass.open"`) || !strings.Contains(log, `"breakglass.read"`) || strings.Contains(log, canary) {
		t.Errorf("the audit is %s", log)
	}
	reads := strings.Count(auditOf(t, dir), "breakglass.read")

	stop = serveKMS(t, dir)
	s.await("/readyz", s.ready)
	if _, text := s.call("GET", "/v1/health", ""); !strings.Contains(text, `"healthy"`) {
		t.Errorf("with the key process again the health is %s", text)
	}
	s.must("POST", thread, `{"body":"more"}`)
	if got, err := s.bodies(thread); err != nil || len(got) != 2 {
		t.Errorf("with the key process again: %q, %v", got, err)
	}
	if n := strings.Count(auditOf(t, dir), "breakglass.read"); n != reads {
		t.Errorf("%d reads were by break-glass while the key process was there", n-reads)
	}
	stop(syscall.SIGTERM)
	s.stop()
	s.mustNotHold(canary)
}

func TestHalfOfBreakGlassIsAnError(t *testing.T) {
	for _, env := range []string{"KEYFOLD_BREAKGLASS_ROOT=root.key", "KEYFOLD_BREAKGLASS_KEYRING=keyring"} {
		s := launch(t, shortDir(t), []string{env}, "--kms", "unix:///nowhere/kms.sock")
		<-s.ended
		if said := s.output.String(); s.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(said, "name both, or none") {
			t.Errorf("%s: %s", env, said)
		}
	}
}
