package storespec

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func TestAViewIsReadAloneAndMakesNothing(t *testing.T) {
	for name, s := range map[string]Spec{"a directory": InDir(filepath.Join(t.TempDir(), "new")), "a database": database(t)} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				if _, err := s.View(t.Context()); !errors.Is(err, fs.ErrNotExist) {
					t.Fatalf("before there is a store: %v", err)
				}
			}
			st := mustOpen(t, s)
			put(t, st, "k")
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			v, err := s.View(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, there := v.Get(t.Context(), "k")
			_, none := v.Get(t.Context(), "j")
			if there != nil || !errors.Is(none, store.ErrNotFound) {
				t.Errorf("Get: %v, %v", there, none)
			}
			b := new(store.Batch)
			b.Delete("k")
			if _, err := v.Commit(t.Context(), b); err == nil {
				t.Error("it takes a commit")
			}
			if err := v.Close(); err != nil {
				t.Error(err)
			}
			st = mustOpen(t, s)
			if _, err := st.Get(t.Context(), "k"); err != nil {
				t.Error(err)
			}
			put(t, st, layout.StoreCopy())
			if err := st.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.View(t.Context()); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "run the same keyfold store copy again") {
				t.Errorf("an unfinished copy: %v", err)
			}
		})
	}
}
