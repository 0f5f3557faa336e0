package pebblestore

import (
	"os"
	"path/filepath"
	"testing"
)

func TestALookForAStoreFindsStoresAndWritesNothing(t *testing.T) {
	made, unrelated := t.TempDir(), t.TempDir()
	mustClose(t, open(t, made, Options{}))
	if err := os.WriteFile(filepath.Join(unrelated, "letter"), []byte("dear"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(unrelated, 0o755); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{made: true, unrelated: false, t.TempDir(): false, filepath.Join(unrelated, "none"): false} {
		if got, err := Exists(dir); err != nil || got != want {
			t.Errorf("Exists(%s) = %v, %v, want %v", dir, got, err, want)
		}
	}
	if files, err := os.ReadDir(unrelated); err != nil || len(files) != 1 {
		t.Errorf("beside the letter there is more: %v, %v", files, err)
	}
	if info, err := os.Stat(unrelated); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
	if _, err := Exists(filepath.Join(unrelated, "letter")); err == nil {
		t.Error("a file is taken for a directory without a store")
	}
}

func TestAnOpenStoreExists(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	if got, err := Exists(dir); err != nil || !got {
		t.Errorf("Exists = %v, %v", got, err)
	}
	mustClose(t, s)
}
