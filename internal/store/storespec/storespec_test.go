package storespec

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func TestASpecNamesItsStoreAndNeverItsPassword(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "",
		"pebble:/var/lib/k/server":    "pebble:/var/lib/k/server",
		"pebble:d/":                   "pebble:d",
		"postgres://db":               "postgres://db",
		"postgres://me@db:5432/k":     "postgres://me@db:5432/k",
		"postgresql://me:canary@db/k": "postgresql://me@db/k",
		"postgres://me:ca%40nary%2F@a:1,b:2/k?target_session_attrs=read-write&sslmode=verify-full": "postgres://me@a:1,b:2/k",
		"postgres:///k?host=/run/pg&password=canary&sslpassword=canary&search_path=keys":           "postgres:///k?host=%2Frun%2Fpg&search_path=keys",
		"postgres://db/k?user=me&password=canary%":                                                 "postgres://db/k",
		"postgres://:canary@db/k": "postgres://@db/k",
	} {
		s, err := Parse(text)
		if err != nil || s.String() != want {
			t.Errorf("%q is %q, %v; want %q", text, s.String(), err, want)
		}
		if secret := strings.Contains(text, "nary"); secret != s.HasPassword() {
			t.Errorf("%q has a password: %t", text, !secret)
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("open", "store", s, "in", struct{ S Spec }{s}, "error", fmt.Errorf("%s: %w", s, errors.New("away")))
		printed := log.String()
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			printed += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, &s) + fmt.Sprintf(verb, []Spec{s}) + fmt.Sprintf(verb, struct{ S Spec }{s})
		}
		if strings.Contains(printed, "nary") {
			t.Errorf("%q is printed with its password:\n%s", text, printed)
		}
	}
}

func TestASpecThatIsNoneIsRefusedWithoutItsWords(t *testing.T) {
	for _, text := range []string{
		"canary", "/canary", "mysql://canary@db", "pebble", "pebble:", "pebble://canary", "host=db password=canary", "postgres:canary",
		"postgres://me:ca/nary@db/k", "postgres://me:ca?nary@db/k", "postgres://me:ca#nary@db/k", "postgres://me:ca@nary@db/k", " postgres://me:canary@db",
	} {
		s, err := Parse(text)
		if err == nil {
			t.Errorf("%q is %q", text, s)
		} else if strings.Contains(err.Error(), "nary") || !strings.Contains(err.Error(), "write ") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAStoreInADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s := InDir(dir)
	if there, err := s.Exists(t.Context()); there || err != nil || s.Vacant(t.Context()) != nil {
		t.Fatalf("before: %t, %v", there, err)
	}
	st := mustOpen(t, s)
	if _, err := s.Open(t.Context(), Options{}); !errors.Is(err, fault.Conflict) {
		t.Errorf("a second time: %v", err)
	}
	put(t, st, "k")
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	st = mustOpen(t, s)
	if _, err := st.Get(t.Context(), "k"); err != nil {
		t.Error(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if there, err := s.Exists(t.Context()); !there || err != nil {
		t.Errorf("after: %t, %v", there, err)
	}
	if err := s.Vacant(t.Context()); err == nil || !strings.Contains(err.Error(), "there is a store in "+dir) {
		t.Error(err)
	}
	other := InDir(t.TempDir())
	if err := os.WriteFile(filepath.Join(other.Dir(), "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := other.Vacant(t.Context()); err == nil || !strings.Contains(err.Error(), "holds other things") {
		t.Error(err)
	}
}

func mustOpen(t *testing.T, s Spec) Store {
	t.Helper()
	st, err := s.Open(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func put(t *testing.T, st store.Store, key string) {
	t.Helper()
	b := new(store.Batch)
	b.Put(key, nil)
	if _, err := st.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func TestAnUnfinishedCopyDoesNotOpen(t *testing.T) {
	s := InDir(t.TempDir())
	st := mustOpen(t, s)
	put(t, st, layout.StoreCopy())
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it does not stay locked
		_, err := s.Open(t.Context(), Options{})
		if !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "run the same keyfold store copy again") {
			t.Fatal(err)
		}
	}
	st, err := s.OpenCopy(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}

func TestAPlaceIsAbsolute(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := errors.Join(os.Mkdir("a", 0o700), os.Symlink("a", "b")); err != nil {
		t.Fatal(err)
	}
	want, err := filepath.EvalSymlinks(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "./b/", filepath.Join(dir, "b")} {
		s, err := Parse("pebble:" + name)
		if err == nil {
			s, err = s.Absolute()
		}
		if err != nil || s.Dir() != want {
			t.Errorf("%s is %s, %v; want %s", name, s, err, want)
		}
	}
}
