package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestAFileIsWrittenWhenItsNameIsOnTheDiskToo(t *testing.T) {
	real := syncDir
	defer func() { syncDir = real }()
	path := filepath.Join(t.TempDir(), "seed")
	full := errors.New("the disk is gone")
	var synced []string
	syncDir = func(dir string) error {
		if text, err := os.ReadFile(path); err != nil || string(text) != "seed" {
			t.Errorf("synced before the rename: %q, %v", text, err)
		}
		synced = append(synced, dir)
		return errors.Join(real(dir), full)
	}
	err := writeFile(path, func(w io.Writer) error { _, err := io.WriteString(w, "seed"); return err })
	if !errors.Is(err, full) || err.Error() != full.Error() || len(synced) != 1 || synced[0] != filepath.Dir(path) {
		t.Errorf("synced %v, answered %v", synced, err)
	}
}
