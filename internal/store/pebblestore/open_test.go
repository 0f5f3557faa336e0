package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"go.uber.org/goleak"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// secondRole tries to open a store that another process has.
func secondRole(dir string) error {
	_, err := Open(dir, Options{})
	if errors.Is(err, fault.Conflict) {
		fmt.Println(err)
		return nil
	}
	return fmt.Errorf("Open = %w, want fault.Conflict", err)
}

func TestASecondOpenNamesTheLock(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	put(t, s, "k", []byte("v"))
	want := "another keyfold is using " + dir + " (it holds the lock " + filepath.Join(dir, "LOCK") + ")"
	out, err := play(t, "second", dir).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), want) {
		t.Errorf("another process: %v, %s", err, out)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, dir + "/.", link} {
		if _, err := Open(name, Options{}); !errors.Is(err, fault.Conflict) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("the same process, by %s: %v", name, err)
		}
	}
	if out, err := play(t, "second", dir).CombinedOutput(); err != nil {
		t.Errorf("another process, after attempts of this one: %v, %s", err, out)
	}
	mustClose(t, s)
	mustClose(t, open(t, dir, Options{}))
}

func TestTheDirectoryIsPrivate(t *testing.T) {
	wide := filepath.Join(t.TempDir(), "wide")
	if err := os.Mkdir(wide, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{wide, filepath.Join(t.TempDir(), "a", "b", "new")} {
		mustClose(t, open(t, dir, Options{}))
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
	}
}

func TestADirectoryThatCannotBeUsedIsNotCalledDamaged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		if _, err := Open(dir, Options{}); !errors.Is(err, fault.Unavailable) || errors.Is(err, store.ErrDamaged) {
			t.Errorf("Open(%s) = %v", dir, err)
		}
	}
}

// TestPebbleTalksToTheLogOnly also pins the format: a new version of Pebble may
// have a newer one, and to go there is a decision, since there is no way back.
func TestPebbleTalksToTheLogOnly(t *testing.T) {
	if format != pebble.FormatNewest {
		t.Errorf("Pebble has format %v, the store uses %v", pebble.FormatNewest, format)
	}
	var log bytes.Buffer
	s := open(t, t.TempDir(), Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	put(t, s, "k", []byte("canary"))
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := s.db.FormatMajorVersion(); got != format {
		t.Errorf("the store has format %v, want %v", got, format)
	}
	mustClose(t, s)
	lines := strings.Count(log.String(), "\n")
	if lines == 0 || strings.Count(log.String(), "level=DEBUG") != lines || strings.Contains(log.String(), "canary") {
		t.Errorf("the log is not all debug lines:\n%s", &log)
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	others := goleak.IgnoreCurrent()
	s := open(t, t.TempDir(), Options{})
	put(t, s, "k", []byte("v"))
	if _, err := s.Get(context.Background(), "k"); err != nil {
		t.Error(err)
	}
	mustClose(t, s)
	goleak.VerifyNone(t, others)
}
