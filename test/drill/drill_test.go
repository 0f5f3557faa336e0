// Package drill runs scripts/drill.sh, the backup-and-restore drill of
// docs/operations.md, as a test.
package drill

import (
	"bufio"
	"fmt"
	"github.com/keyfold/keyfold/test/programs"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

func TestWhatWasBackedUpInOrderIsRestoredAndOutOfOrderIsFound(t *testing.T) { drill(t) }

func TestTheSameOfStoresInPostgreSQL(t *testing.T) {
	s := pgtest.Shared(t)
	drill(t, fmt.Sprintf("KEYFOLD_DRILL_POSTGRES=postgres://postgres@127.0.0.1:%d", s.Port), "PATH="+pgtest.Bin(t)+":"+os.Getenv("PATH"))
}

func drill(t *testing.T, env ...string) {
	cmd := exec.CommandContext(t.Context(), "../../scripts/drill.sh")
	cmd.Env = append(append(os.Environ(), "KEYFOLD_PROGRAMS="+programs.Dir(t)), env...)
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
