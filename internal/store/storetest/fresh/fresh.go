// Package fresh gives tests an empty store each, of the engine that the environment
// variable KEYFOLD_TEST_STORE names: in memory, or for "postgres" in a PostgreSQL
// server of the test binary's own.
package fresh

import (
	"os"
	"testing"

	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/pgstore"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

// Postgres reports whether stores are in PostgreSQL.
func Postgres() bool { return os.Getenv("KEYFOLD_TEST_STORE") == "postgres" }

// Store is a new, empty store, closed at the end of the test.
func Store(t testing.TB) store.Store {
	t.Helper()
	if !Postgres() {
		return memstore.New()
	}
	s, err := pgstore.Open(t.Context(), pgtest.Schema(t)+"&pool_max_conns=8", pgstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
