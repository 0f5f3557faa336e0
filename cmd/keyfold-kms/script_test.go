package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyfold/keyfold/internal/freeport"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsclient"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"keyfold-kms": main, "make-store": makeStore, "make-deks": makeDEKs})
}

// makeStore makes a store without keys, as the server's is one.
func makeStore() {
	s, err := pebblestore.Open(os.Args[1], pebblestore.Options{})
	if err == nil {
		err = s.Close()
	}
	check(err)
}

// makeDEKs has the process at the socket of the first argument make 250 DEKs.
func makeDEKs() {
	endpoint, _, err := clientEndpoint(os.Args[1])
	check(err)
	c, err := kmsclient.New(kmsclient.Config{Endpoint: endpoint})
	check(err)
	defer c.Close()
	items := make([]kmsapi.CreateDEKItem, 250)
	for i := range items {
		items[i].ThreadID = "t"
	}
	_, err = c.CreateDEK(context.Background(), items)
	check(err)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestScripts runs testdata/*.txtar, one file per group of commands.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GORACE", "atexit_sleep_ms=0") // or each command takes a second under -race
			return nil
		},
		Condition: func(cond string) (bool, error) { return cond == "root" && os.Geteuid() == 0, nil },
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"let": let, "up": up, "mode": mode, "port": port, "flip": flip,
		},
	})
}

// let NAME sets a variable to what the last command printed.
func let(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// up ENDPOINT waits until a process listens there.
func up(ts *testscript.TestScript, _ bool, args []string) {
	network, address := "tcp", args[0]
	if strings.Contains(address, "/") {
		network, address = "unix", ts.MkAbs(address)
	}
	for until := time.Now().Add(2 * time.Minute); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if conn, err := net.Dial(network, address); err == nil {
			conn.Close()
			return
		}
	}
	ts.Fatalf("waited in vain for %s", args[0])
}

// port NAME sets a variable to an address that nobody listens on, and that is held for
// those that the script starts until it ends.
func port(ts *testscript.TestScript, _ bool, args []string) {
	addr, release, err := freeport.Hold()
	ts.Check(err)
	ts.Defer(release)
	ts.Setenv(args[0], addr)
}

// flip FILE changes a byte in the middle of a file.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	text, err := os.ReadFile(path)
	ts.Check(err)
	text[len(text)/2] ^= 1
	ts.Check(os.WriteFile(path, text, 0o600))
}

// mode FILE PERMISSIONS checks a file's permissions.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := info.Mode().Perm().String(); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", filepath.Base(args[0]), got, args[1])
	}
}
