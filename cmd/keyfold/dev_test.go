package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/cli"
)

func TestOneDataDirectoryHasOneKey(t *testing.T) {
	node, err := allinone.Open(t.Context(), allinone.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close(t.Context())
	a := &app{}
	dir := t.TempDir()
	first, err := a.devOwner(t.Context(), node.Identity, dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := a.devOwner(t.Context(), node.Identity, dir)
	if err != nil || first != second {
		t.Errorf("%v, then %v, %v", first.OrgID, second.OrgID, err)
	}
	elsewhere, err := allinone.Open(t.Context(), allinone.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close(t.Context())
	other, err := a.devOwner(t.Context(), elsewhere.Identity, t.TempDir())
	if err != nil || other.APIKey == first.APIKey || other.OrgID == first.OrgID {
		t.Errorf("another directory has the same owner: %v", err)
	}
	p, err := node.Identity.Authenticate(t.Context(), first.APIKey)
	if err != nil || p.OrgID != first.OrgID || !p.Plan.AllowsCMEK() {
		t.Errorf("%+v, %v", p, err)
	}
}

// The derivation is a format: a change of it would lock data directories.
func TestKeysAreDerivedAsBefore(t *testing.T) {
	seed := []byte(strings.Repeat("\x01", seedSize))
	got := devSecret(seed).key("1ck_", "owner/api-key")
	if want := "1ck_EFTAENkDQ4AZ7vOj5MrWHkxZ9pHCP_5rom5PR1gjwFk"; got != want {
		t.Errorf("got %s", got)
	}
	if other := devSecret(seed).key("1ck_", "another"); other == got {
		t.Error("the info string does not count")
	}
}

func TestADamagedSeedIsNotUsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), seedFileName)
	for _, size := range []int{0, seedSize - 1, seedSize + 1} {
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := devSeed(path); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestAdviceToEndAnotherServerIsForADirectoryInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "clock")
	start := func() string {
		sh := &shell{t: t, env: map[string]string{"KEYFOLD_ADDR": "127.0.0.1:0", "KEYFOLD_DATA": dir}}
		code, _, stderr := sh.try("", "dev")
		if code != cli.ExitFailed {
			t.Errorf("exit %d: %s", code, stderr)
		}
		return stderr
	}
	node, err := allinone.Open(t.Context(), allinone.Config{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if got := start(); !strings.Contains(got, "another development server uses "+dir) || !strings.Contains(got, "hint: end that one") {
		t.Errorf("in use: %s", got)
	}
	if err := node.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "root.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := start(); strings.Contains(got, "another development server") || !strings.Contains(got, "chmod 600") {
		t.Errorf("a root key that others can read: %s", got)
	}
}

func TestAnAddressIsToldAsAClientDialsIt(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:7420": "127.0.0.1:7420", "0.0.0.0:1": "127.0.0.1:1", "[::]:1": "127.0.0.1:1", "[::1]:1": "[::1]:1",
	} {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := reachable(a); got != want {
			t.Errorf("%s: %s", addr, got)
		}
	}
	for addr, warned := range map[string]bool{"127.0.0.1:1": false, "localhost:1": false, "[::1]:1": false, "0.0.0.0:1": true, ":1": true, "10.0.0.1:1": true} {
		if (exposed(addr) != "") != warned {
			t.Errorf("%s: warned %v", addr, !warned)
		}
	}
}
