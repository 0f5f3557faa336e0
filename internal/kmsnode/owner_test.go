//go:build unix

package kmsnode

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/kms"
)

// foreign gives dir to a user who is neither root nor, until the test ends, this one.
func foreign(t *testing.T, dir string) (owner int) {
	t.Helper()
	owner = os.Geteuid()
	if owner == 0 {
		owner = 54321
		if err := os.Chown(dir, owner, -1); err != nil {
			t.Fatal(err)
		}
	}
	euid = func() int { return owner + 1 }
	t.Cleanup(func() { euid = os.Geteuid })
	return owner
}

func TestAStoreOfAnotherUserIsNotWrittenTo(t *testing.T) {
	dir := t.TempDir()
	owner := foreign(t, dir)
	for euid, ours := range map[int]bool{owner: true, owner + 1: false, 0: false} {
		if err := oursToWrite(dir, euid); err == nil != ours || !ours && !strings.Contains(err.Error(), "run the same as that user: sudo -u '") {
			t.Errorf("user %d: %v", euid, err)
		}
	}
	for _, dir := range []string{"", filepath.Join(dir, "none"), "/"} {
		if err := oursToWrite(dir, owner+1); err != nil {
			t.Errorf("%q: %v", dir, err)
		}
	}
}

func TestWhatIsDoneOfflineWithAStoreOfAnotherUserIsRefused(t *testing.T) {
	r := newRig(t)
	foreign(t, r.DataDir)
	before, err := os.ReadDir(r.DataDir)
	r.must(err)
	_, keyErr := AuditKey(t.Context(), r.Config)
	for name, err := range map[string]error{
		"Offline":  Offline(t.Context(), r.Config, func(*kms.Service) error { return nil }),
		"AuditKey": keyErr,
	} {
		if err == nil || !strings.Contains(err.Error(), "sudo -u '") {
			t.Errorf("%s: %v", name, err)
		}
	}
	after, err := os.ReadDir(r.DataDir)
	r.must(err)
	if len(after) != len(before) {
		t.Errorf("%d files, %d before", len(after), len(before))
	}
	r.DataDir += "-new"
	r.must(Vacant(t.Context(), r.Config))
	r.must(os.Mkdir(r.DataDir, 0o700))
	foreign(t, r.DataDir)
	if err := Vacant(t.Context(), r.Config); err == nil || !strings.Contains(err.Error(), "sudo -u '") {
		t.Errorf("an empty one: %v", err)
	}
}
