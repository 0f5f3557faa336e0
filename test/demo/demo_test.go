// Package demo runs scripts/demo.sh, the whole promise as one script, as a test.
package demo

import (
	"bufio"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestTheDemoIsTrueFromEndToEnd(t *testing.T) { demo(t, "embedded") }

func TestTheDemoIsTrueWithTheKeysInAProcessOfTheirOwn(t *testing.T) { demo(t, "external") }

func demo(t *testing.T, kms string) {
	lookAtSources(t)
	cmd := exec.CommandContext(t.Context(), "../../scripts/demo.sh")
	cmd.Env = append(os.Environ(), "KEYFOLD_DEMO_KMS="+kms)
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

// lookAtSources opens every directory that the script may build from. The go
// command remembers what a test looked at: without this it would answer with
// the result of an earlier run whatever has changed since.
func lookAtSources(t *testing.T) {
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		if err == nil && d.IsDir() && name != ".." && (strings.HasPrefix(name, ".") || name == "out") {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
