// Package drill runs scripts/drill.sh, the backup-and-restore drill of
// docs/operations.md, as a test.
package drill

import (
	"bufio"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestWhatWasBackedUpInOrderIsRestoredAndOutOfOrderIsFound(t *testing.T) {
	lookAtSources(t)
	cmd := exec.CommandContext(t.Context(), "../../scripts/drill.sh")
	// A test that is ended takes the script's processes with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	said, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatalf("scripts/drill.sh does not start (it needs bash): %v", err)
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
		t.Errorf("scripts/drill.sh: %v", err)
	}
}

// lookAtSources opens every directory that the script builds from. The go command
// remembers what a test looked at: without this it would answer with the result of an
// earlier run whatever has changed since.
func lookAtSources(t *testing.T) {
	err := filepath.WalkDir("../..", func(_ string, d fs.DirEntry, err error) error {
		name := d.Name()
		if err == nil && d.IsDir() && name != ".." && (strings.HasPrefix(name, ".") || name == "out" || name == "node_modules") {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
