package pgstore

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

// A program that knows more steps than the database has takes those that are missing,
// each once however many open it at the same moment, keeps what is stored, and takes
// none of them where one fails. It is not parallel: no other test may see its steps.
func TestEachStepThatIsMissingIsTakenOnce(t *testing.T) {
	server := pgtest.Shared(t)
	name := server.NewDatabase(t)
	before := open(t, server.Address(name))
	b := new(store.Batch)
	b.Put("k", []byte("v"))
	if _, err := before.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	known := slices.Clone(migrations)
	t.Cleanup(func() { migrations = known })

	migrations = append(slices.Clone(known),
		statement{sql: `CREATE TABLE IF NOT EXISTS steps (n bigint NOT NULL)`},
		statement{sql: `INSERT INTO steps (n) VALUES (1)`},
		statement{sql: `INSERT INTO steps (n) VALUES (NULL)`})
	if _, err := Open(t.Context(), server.Address(name), Options{}); err == nil {
		t.Fatal("a step that fails was no error")
	}
	if got := server.Exec(t, name, `SELECT version || ' ' || (to_regclass('steps') IS NULL) FROM keyfold_schema`); got != fmt.Sprint(len(known), " true") {
		t.Errorf("after a step that fails: %s", got)
	}

	migrations[len(known)+2].sql = `INSERT INTO steps (n) VALUES (2)`
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			s, err := Open(t.Context(), server.Address(name), Options{})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if rec, err := s.Get(t.Context(), "k"); err != nil || string(rec.Value) != "v" {
				t.Errorf("what was stored before is %q, %v", rec.Value, err)
			}
		})
	}
	all.Wait()
	if got := server.Exec(t, name, `SELECT version || ' ' || (SELECT string_agg(n::text, ',' ORDER BY n) FROM steps) FROM keyfold_schema`); got != fmt.Sprint(len(migrations), " 1,2") {
		t.Errorf("after 8 at once: %s", got)
	}
}
