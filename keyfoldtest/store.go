package keyfoldtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

// stores are where a server and its key process keep their data; the zero value: in
// the directory of OnDisk, or in memory. The environment variable KEYFOLD_TEST_STORE
// set to postgres has both in a PostgreSQL server of this test binary's own, with a
// new, empty store for each test.
type stores struct{ server, keys storespec.Spec }

// storesFor are the stores of a server, which are those of an earlier one in dir.
func storesFor(t testing.TB, dir string) stores {
	t.Helper()
	switch where := os.Getenv("KEYFOLD_TEST_STORE"); where {
	case "":
		return stores{}
	case "postgres":
	default:
		t.Fatalf("keyfoldtest: KEYFOLD_TEST_STORE is %q; unset it, or set it to postgres", where)
	}
	if dir == "" {
		return stores{newPostgres(t), newPostgres(t)}
	}
	note := filepath.Join(dir, "test-stores")
	text, err := os.ReadFile(note)
	if err != nil {
		text = []byte(pgtest.Schema(t) + "\n" + pgtest.Schema(t))
		err = os.MkdirAll(dir, 0o700)
		if err == nil {
			err = os.WriteFile(note, text, 0o600)
		}
	}
	if err != nil {
		t.Fatalf("keyfoldtest: %v", err)
	}
	server, keys, _ := strings.Cut(string(text), "\n")
	return stores{parseStore(t, server), parseStore(t, keys)}
}

func newPostgres(t testing.TB) storespec.Spec { return parseStore(t, pgtest.Schema(t)) }

func parseStore(t testing.TB, url string) storespec.Spec {
	t.Helper()
	spec, err := storespec.Parse(url + "&pool_max_conns=8")
	if err != nil {
		t.Fatalf("keyfoldtest: %v", err)
	}
	return spec
}
