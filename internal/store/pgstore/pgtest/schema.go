package pgtest

import (
	"fmt"
	"sync"
	"testing"
)

var hurry sync.Once

// Schema is the URL of a new, empty schema in a database of the shared server: as good
// as a database for one store, made in a fraction of the time, and left behind. From
// the first one on the shared server syncs nothing to its disk, so it is not for tests
// of what survives a crash.
func Schema(t testing.TB) string {
	t.Helper()
	s := Shared(t)
	hurry.Do(func() {
		s.Exec(t, "postgres", "ALTER SYSTEM SET fsync = off")
		s.Exec(t, "postgres", "SELECT pg_reload_conf()")
	})
	name := fmt.Sprint("test", databases.Add(1))
	s.Exec(t, "postgres", "CREATE SCHEMA "+name)
	return s.Address("postgres") + "&search_path=" + name
}
