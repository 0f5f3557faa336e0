package pgstore

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

// Rows are what a first start leaves, cut off at each of its steps, and what a newer
// program leaves.
func TestADatabaseThatIsOpenedAsItIsStaysSo(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	name := server.NewDatabase(t)
	made := func() string {
		return server.Exec(t, name, `SELECT coalesce(string_agg(relname || xmin, ',' ORDER BY relname), 'nothing') FROM pg_class WHERE relnamespace = 'public'::regnamespace`)
	}
	version := func() string {
		return server.Exec(t, name, `SELECT coalesce(sum(version), -1) || ' ' || count(*) FROM keyfold_schema`)
	}
	for _, c := range []struct {
		sql  string
		is   error
		want string
	}{
		{"SELECT 1", fs.ErrNotExist, "there are no tables of Keyfold in the database"},
		{stSchemaMake.sql, fs.ErrNotExist, "there are no tables"},
		{stSchemaRow.sql, fs.ErrNotExist, "there are no tables"},
		{migrations[0].sql + "; UPDATE keyfold_schema SET version = 1", nil, ""},
		{"UPDATE keyfold_schema SET version = 2", fault.Invalid, "schema version 2, and this program knows 1 and older"},
	} {
		server.Exec(t, name, c.sql)
		tables, at := made(), ""
		if strings.Contains(tables, "keyfold_schema") {
			at = version()
		}
		s, err := OpenAsIs(t.Context(), server.Address(name), Options{})
		if err == nil {
			err = s.Close()
		}
		if !errors.Is(err, c.is) || c.is != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("after %s: %v", c.sql, err)
		}
		if now := made(); now != tables {
			t.Errorf("after %s: %s, before %s", c.sql, now, tables)
		}
		if at != "" && version() != at {
			t.Errorf("after %s: version %s, before %s", c.sql, version(), at)
		}
	}
}
