package pgstore

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// forbidden is what CockroachDB or YugabyteDB lack, what PgBouncer in transaction
// mode loses, and what would make a statement depend on an extension.
var forbidden = regexp.MustCompile(`(?i)\b(pg_(try_)?advisory\w*|lock\s+table|listen|unlisten|notify|pg_notify|sequence|nextval|currval|setval|\w*serial|identity|` +
	`extension|temp|temporary|unlogged|do\s*\$|trigger|function|procedure|language|set\s+(local|session|transaction|role)|prepare|execute|deallocate|declare|cursor|fetch|copy|` +
	`inherits|xmin|ctid|tableoid|pg_catalog|savepoint|truncate|vacuum|cluster|returning\s+old|merge|nowait|skip\s+locked|key\s+share|using\s+(gin|gist|brin|hash))\b|do\s*\$\$|^\s*set\b`)

// What may stand before a parenthesis: functions that PostgreSQL, CockroachDB and
// YugabyteDB all document, words of SQL, and our own tables.
var (
	beforeParenthesis = regexp.MustCompile(`([A-Za-z_][A-Za-z0-9_.]*)\s*\(`)
	functions         = []string{"count", "current_setting", "length", "pg_backend_pid", "set_config", "sum", "unnest"}
	otherwise         = []string{"ANY", "AS", "CAST", "CONFLICT", "FROM", "OVER", "VALUES", "WHEN", "r", "keyfold_records", "keyfold_schema"}
)

// notPortable is what of a statement others do not speak, "": nothing that is known.
func notPortable(sql string) string {
	for _, m := range beforeParenthesis.FindAllStringSubmatch(sql, -1) {
		if !slices.Contains(functions, m[1]) && !slices.Contains(otherwise, m[1]) {
			return m[1]
		}
	}
	return forbidden.FindString(sql)
}

// sqlLiterals are the statements in the given Go source.
func sqlLiterals(t *testing.T, path string, source any) (out []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, source, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil && isSQL.MatchString(text) {
				out = append(out, text)
			}
		}
		return true
	})
	return out
}

var isSQL = regexp.MustCompile(`^\s*(?i:SELECT|INSERT|UPDATE|DELETE|WITH|CREATE|ALTER|DROP|BEGIN|COMMIT|ROLLBACK|SET|SHOW|LOCK|DO|TRUNCATE)\b`)

func TestStatementsArePortable(t *testing.T) {
	statements := sqlLiterals(t, "sql.go", nil)
	if len(statements) < 20 {
		t.Fatalf("only %d statements were found", len(statements))
	}
	for _, st := range prepared { // with what follows a constant
		statements = append(statements, st.sql)
	}
	for _, sql := range statements {
		if word := notPortable(sql); word != "" {
			t.Errorf("%q is not portable, or not on the list, in %s", word, sql)
		}
	}
}

func TestThePortabilityTestFindsEachForbiddenWord(t *testing.T) {
	for _, sql := range []string{
		"SELECT pg_advisory_lock(1)", "SELECT pg_try_advisory_xact_lock(1)", "LISTEN x", "NOTIFY x", "SELECT pg_notify('a', 'b')",
		"CREATE SEQUENCE s", "SELECT nextval('s')", "CREATE TABLE t (id bigserial)", "CREATE TABLE t (id serial)",
		"CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY)", "CREATE EXTENSION pgcrypto", "CREATE TEMP TABLE t (a int)",
		"CREATE TEMPORARY TABLE t (a int)", "CREATE UNLOGGED TABLE t (a int)", "DO $$ BEGIN END $$", "LOCK TABLE t", "SET synchronous_commit = on",
		"SET LOCAL synchronous_commit = on", "PREPARE x AS SELECT 1", "DECLARE c CURSOR FOR SELECT 1", "COPY t FROM STDIN",
		"CREATE FUNCTION f() RETURNS int", "CREATE TRIGGER g", "SELECT ctid FROM t", "SELECT xmin FROM t", "SAVEPOINT s", "TRUNCATE t",
		"SELECT 1 FROM t FOR UPDATE SKIP LOCKED", "SELECT 1 FROM t FOR KEY SHARE", "SELECT 1 FROM t FOR UPDATE NOWAIT",
		"CREATE INDEX i ON t USING gin (a)", "SELECT pg_size_pretty(1)", "SELECT key FROM generate_series(1, 2) AS r (key)", "set session characteristics as transaction isolation level serializable",
	} {
		if notPortable(sql) == "" {
			t.Errorf("%s passes", sql)
		}
	}
}

func TestAllStatementsAreInOneFile(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if f == "sql.go" || strings.HasSuffix(f, "_test.go") {
			continue
		}
		for _, sql := range sqlLiterals(t, f, nil) {
			t.Errorf("%s has a statement: %s", f, sql)
		}
	}
	if got := sqlLiterals(t, "x.go", "package x\nvar a = `select 1`"); len(got) != 1 {
		t.Error("a statement elsewhere would not be found")
	}
}

// TestAllStatementsOfTheTableArePrepared looks that none was forgotten.
func TestAllStatementsOfTheTableArePrepared(t *testing.T) {
	names := map[string]bool{}
	for _, st := range prepared {
		if names[st.name] || st.name == "" || len(st.types) != strings.Count(regexp.MustCompile(`\$(\d)`).ReplaceAllString(dedup(st.sql), "$"), "$") {
			t.Errorf("statement %q: its name is used twice, or its types do not fit", st.name)
		}
		names[st.name] = true
	}
	for _, sql := range sqlLiterals(t, "sql.go", nil) {
		found := !strings.Contains(sql, "keyfold_records") || strings.HasPrefix(sql, "CREATE")
		for _, st := range prepared {
			found = found || strings.HasPrefix(st.sql, sql)
		}
		if !found {
			t.Errorf("not prepared: %s", sql)
		}
	}
}

// dedup leaves one of each parameter in sql.
func dedup(sql string) string {
	seen := map[string]bool{}
	return regexp.MustCompile(`\$\d`).ReplaceAllStringFunc(sql, func(p string) string {
		if seen[p] {
			return ""
		}
		seen[p] = true
		return p
	})
}
