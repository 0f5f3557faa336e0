package pgtest

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childEnv makes the test below start a server and wait for its death.
const childEnv = "KEYFOLD_TEST_PGTEST_CHILD"

// TestServersEndWithTheTest kills a test binary that runs a server.
func TestServersEndWithTheTest(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		s := Shared(t)
		fmt.Printf("\nserver %s %d\n", s.Dir, s.run.Process.Pid)
		select {}
	}
	Bin(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestServersEndWithTheTest$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, pid := "", 0
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); {
		_, _ = fmt.Sscanf(lines.Text(), "server %s %d", &dir, &pid)
	}
	if dir == "" || syscall.Kill(pid, 0) != nil {
		t.Error("the test binary started no server")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		_, err := os.Stat(filepath.Dir(dir))
		if errors.Is(err, os.ErrNotExist) && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s is still there (%v), or process %d", dir, err, pid)
		}
	}
}

func TestAServerLivesDiesAndRecovers(t *testing.T) {
	t.Parallel()
	s := New(t)
	url := s.Database(t)
	name := strings.TrimSuffix(url[strings.LastIndex(url, "/")+1:], "?sslmode=disable")
	s.Exec(t, name, "CREATE TABLE t (n int)")
	for n, end := range []func(){func() { s.Kill(t) }, func() { s.Stop(t) }} {
		s.Exec(t, name, "INSERT INTO t VALUES (1)")
		children := s.children()
		end()
		for _, pid := range children {
			if alive(pid) {
				t.Errorf("process %d of the server lives on", pid)
			}
		}
		s.Start(t)
		if got := s.Exec(t, name, "SELECT count(*) FROM t"); got != fmt.Sprint(n+1) {
			t.Errorf("%s rows, want %d", got, n+1)
		}
	}
}
