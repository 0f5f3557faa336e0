package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyfold/keyfold/internal/freeport"
	"github.com/keyfold/keyfold/keyfoldtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"keyfold": main})
}

// TestScripts runs testdata/*.txtar, one file per group of commands. Each has
// KEYFOLD_URL and KEYFOLD_API_KEY of one server that all share.
func TestScripts(t *testing.T) {
	s := keyfoldtest.Start(t)
	free := s.NewOrg("free")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("KEYFOLD_URL", s.URL)
			env.Setenv("KEYFOLD_API_KEY", s.APIKey)
			env.Setenv("FREE_API_KEY", free.APIKey)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // or each command takes a second under -race
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"let": let, "appears": appears, "gone": gone, "mode": mode, "port": port, "up": up,
		},
	})
}

// let NAME sets a variable to what the last command printed.
func let(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// appears FILE waits for a file that a command in the background writes.
func appears(ts *testscript.TestScript, _ bool, args []string) {
	waitFor(ts, args[0], true)
}

// gone FILE waits until a file is no longer there.
func gone(ts *testscript.TestScript, _ bool, args []string) {
	waitFor(ts, args[0], false)
}

func waitFor(ts *testscript.TestScript, file string, want bool) {
	path := ts.MkAbs(file)
	for until := time.Now().Add(2 * time.Minute); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(path); (err == nil) == want {
			return
		}
	}
	ts.Fatalf("waited in vain for %s", file)
}

// port NAME sets a variable to an address that nobody listens on, and that is held for
// those that the script starts until it ends.
func port(ts *testscript.TestScript, _ bool, args []string) {
	addr, release, err := freeport.Hold()
	ts.Check(err)
	ts.Defer(release)
	ts.Setenv(args[0], addr)
}

// up ADDRESS waits until a process listens there.
func up(ts *testscript.TestScript, _ bool, args []string) {
	for until := time.Now().Add(2 * time.Minute); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if conn, err := net.Dial("tcp", args[0]); err == nil {
			conn.Close()
			return
		}
	}
	ts.Fatalf("waited in vain for %s", args[0])
}

// mode FILE OCTAL checks a file's permissions.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := info.Mode().Perm().String(); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", filepath.Base(args[0]), got, args[1])
	}
}
