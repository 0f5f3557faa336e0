// Package demo runs scripts/demo.sh, the whole promise as one script, as a test.
package demo

import (
	"bufio"
	"errors"
	"github.com/keyfold/keyfold/test/programs"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

func TestTheDemoIsTrueFromEndToEnd(t *testing.T) { demo(t, "embedded") }

// Of fewer files: where the keys are changes nothing for the three hundredth.
func TestTheDemoIsTrueWithTheKeysInAProcessOfTheirOwn(t *testing.T) {
	certs := t.TempDir()
	all, err := filepath.Glob("/etc/ssl/certs/*.pem")
	for _, file := range all[:min(30, len(all))] {
		text, readErr := os.ReadFile(file)
		err = errors.Join(err, readErr, os.WriteFile(filepath.Join(certs, filepath.Base(file)), text, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	demo(t, "external", "KEYFOLD_DEMO_CERTS="+certs)
}

func demo(t *testing.T, kms string, env ...string) {
	cmd := exec.CommandContext(t.Context(), "../../scripts/demo.sh")
	cmd.Env = append(append(os.Environ(), "KEYFOLD_PROGRAMS="+programs.Dir(t), "KEYFOLD_DEMO_KMS="+kms), env...)
	// A test that is ended takes the script's server with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	said, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatalf("scripts/demo.sh does not start (it needs bash): %v", err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		w.Close()
	}()
	for lines := bufio.NewScanner(said); lines.Scan(); {
		t.Log(lines.Text())
	}
	if err := <-ended; err != nil {
		t.Errorf("scripts/demo.sh: %v", err)
	}
}
