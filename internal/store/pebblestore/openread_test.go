package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// files is every file under dir, and when it was written.
func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		all = append(all, fmt.Sprint(path, info.Mode(), info.Size(), info.ModTime()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What a crash left is in logs alone, the rest in tables and files of large values.
func TestAStoreThatIsReadIsLeftAsItIs(t *testing.T) {
	dir, killed := t.TempDir(), filepath.Join(t.TempDir(), "killed")
	s := open(t, dir, Options{})
	for i := range 3 {
		b := new(store.Batch)
		b.Put(fmt.Sprint("k", i), bytes.Repeat([]byte{byte(i)}, 2*largeValue))
		if _, err := s.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	unlocked := filepath.Join(t.TempDir(), "unlocked")
	if err := errors.Join(os.CopyFS(unlocked, os.DirFS(dir)), os.Remove(filepath.Join(unlocked, "LOCK"))); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{dir, killed, unlocked} {
		before := files(t, dir)
		r, err := OpenRead(dir)
		if err != nil {
			t.Fatal(err)
		}
		recs, err := r.Scan(t.Context(), store.Range{}, store.ScanOptions{})
		if err != nil || len(recs) != 3 || !bytes.Equal(recs[2].Value, bytes.Repeat([]byte{2}, 2*largeValue)) {
			t.Errorf("%d records, %v", len(recs), err)
		}
		b := new(store.Batch)
		b.Put("k", nil)
		if _, err := r.Commit(t.Context(), b); err == nil {
			t.Error("it takes a commit")
		}
		mustClose(t, r)
		if after := files(t, dir); !slices.Equal(before, after) {
			t.Errorf("before\n%q\nafter\n%q", before, after)
		}
	}
}

func TestWhatIsNoStoreIsNotReadAndNotMade(t *testing.T) {
	empty := t.TempDir()
	for _, dir := range []string{empty, filepath.Join(empty, "none")} {
		if _, err := OpenRead(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if all := files(t, empty); len(all) != 1 {
		t.Errorf("made: %q", all[1:])
	}
}

// lockEnv makes the test below open the store that it names, in a process of its own.
const lockEnv = "KEYFOLD_TEST_LOCK"

func TestAStoreIsReadWhileNobodyHasItAlone(t *testing.T) {
	if dir := os.Getenv(lockEnv); dir != "" {
		if _, err := OpenRead(dir); err != nil {
			fmt.Println("reading:", fault.Of(err).Code)
		}
		if _, err := Open(dir, Options{}); err != nil {
			fmt.Println("writing:", fault.Of(err).Code)
		}
		os.Exit(0)
	}
	dir := t.TempDir()
	another := func(when, want string) {
		t.Helper()
		cmd := exec.Command(os.Args[0], "-test.run=^TestAStoreIsReadWhileNobodyHasItAlone$")
		cmd.Env = append(os.Environ(), lockEnv+"="+dir)
		if out, err := cmd.Output(); err != nil || string(out) != want {
			t.Errorf("%s another process says %q, %v; want %q", when, out, err, want)
		}
	}
	s := open(t, dir, Options{})
	another("while it is written", "reading: conflict\nwriting: conflict\n")
	mustClose(t, s)
	r, err := OpenRead(dir)
	if err != nil {
		t.Fatal(err)
	}
	another("while it is read", "writing: conflict\n")
	mustClose(t, r)
	another("when it is closed", "")
}
