package pgstore

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

func open(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(context.Background(), url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, pgtest.URL(t)) })
}

// TestDurable kills the server, with all its processes, between a close and an
// open. What the suite takes for the directory of a store holds the URL of one.
func TestDurable(t *testing.T) {
	t.Parallel()
	server, opens := pgtest.New(t), 0
	storetest.RunDurable(t, func(t *testing.T, dir string) store.Store {
		if opens++; opens < 15 || opens%50 == 0 { // the model opens very often
			server.Kill(t)
			server.Start(t)
		}
		path := filepath.Join(dir, "url")
		url, err := os.ReadFile(path)
		if err != nil {
			url = []byte(server.Database(t))
			if err := os.WriteFile(path, url, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return open(t, string(url))
	})
}
