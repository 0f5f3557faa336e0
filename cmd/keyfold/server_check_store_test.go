package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsserver"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

// keysAt is the URL of a key process with keys of its own, until the test ends.
func keysAt(t *testing.T) string {
	t.Helper()
	keys := must(kms.New(t.Context(), kms.Config{Store: memstore.New(), Root: must(keyring.MemoryRoot())(t)}))(t)
	dir := must(os.MkdirTemp("", "kf"))(t) // short enough for a socket
	s := must(kmsserver.New(kmsserver.Config{KMS: keys}))(t)
	socket := filepath.Join(dir, "kms.sock")
	go s.Serve(must(s.Listen(socket, nil))(t))
	t.Cleanup(func() {
		if err := errors.Join(s.Close(context.Background()), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
		keys.Close()
	})
	return unixScheme + socket
}

// guarded is a PostgreSQL server that wants passwords over TCP.
func guarded(t *testing.T) *pgtest.Server {
	t.Helper()
	s := pgtest.New(t)
	s.Exec(t, "postgres", "CREATE ROLE keyfold SUPERUSER LOGIN PASSWORD 'canary'")
	s.Write(t, "pg_hba.conf", []byte("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"))
	s.Exec(t, "postgres", "SELECT pg_reload_conf()")
	return s
}

// rows is all that is in a database: its tables, and each row with the transaction
// that wrote it.
func rows(t *testing.T, s *pgtest.Server, name string) (all []string) {
	t.Helper()
	tables := s.Exec(t, name, "SELECT coalesce(string_agg(relname || ' ' || xmin, ',' ORDER BY relname), '') FROM pg_class WHERE relnamespace = 'public'::regnamespace")
	all = append(all, tables)
	for _, table := range []string{"keyfold_schema", "keyfold_records"} {
		if strings.Contains(tables, table) {
			all = append(all, s.Exec(t, name, "SELECT string_agg(r::text || r.xmin, ',' ORDER BY r::text) FROM "+table+" AS r"))
		}
	}
	return all
}

// putRow writes a row into the store that text names.
func putRow(t *testing.T, text, key string) {
	t.Helper()
	s := openSpec(t, text)
	b := new(store.Batch)
	b.Put(key, nil)
	_, err := s.Commit(t.Context(), b)
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
}

// What a check says of a store is what a start says, and neither the directory nor the
// database is another afterwards.
func TestACheckSaysOfTheStoreWhatAStartSays(t *testing.T) {
	t.Chdir(t.TempDir())
	ours, other := keysAt(t), keysAt(t)
	pg := guarded(t)
	url := func(name, password string) string {
		return fmt.Sprintf("postgres://keyfold:%s@127.0.0.1:%d/%s?sslmode=disable", password, pg.Port, name)
	}
	full, newer, unfinished, empty := pg.NewDatabase(t), pg.NewDatabase(t), pg.NewDatabase(t), pg.NewDatabase(t)
	shell := func(env map[string]string) *shell {
		all := map[string]string{"KEYFOLD_PUBLIC_URL": "https://localhost", "KEYFOLD_ADDR": "127.0.0.1:0", "KEYFOLD_DATA": "data", "KEYFOLD_KMS": ours}
		maps.Copy(all, env)
		return &shell{t: t, env: all}
	}
	for _, env := range []map[string]string{
		{}, {"KEYFOLD_STORE": url(full, "canary")}, {"KEYFOLD_STORE": url(newer, "canary")}, {"KEYFOLD_DATA": "inside", "KEYFOLD_KMS": "embedded"}, {"KEYFOLD_DATA": "strange", "KEYFOLD_KMS": "embedded"},
	} {
		_, stop := started(t, shell(env).env)
		stop()
	}
	for to, from := range map[string]string{"keyless": "inside", "rootless": "inside", "mixed": "inside", "unfinished": "data", "damaged": "data"} {
		if err := errors.Join(os.CopyFS(to, os.DirFS(from)), os.Chmod(to, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		os.Chmod("keyless/root.key", 0o600), os.RemoveAll("keyless/kms"), os.Remove("rootless/root.key"),
		os.Chmod("mixed/root.key", 0o600), os.RemoveAll("mixed/kms"), os.CopyFS("mixed/kms", os.DirFS("strange/kms")),
	); err != nil {
		t.Fatal(err)
	}
	for _, manifest := range must(filepath.Glob("damaged/server/MANIFEST-*"))(t) {
		if err := os.WriteFile(manifest, []byte("no manifest of Pebble's, and long enough to be one"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pg.Exec(t, newer, "UPDATE keyfold_schema SET version = 2")
	putRow(t, url(unfinished, "canary"), layout.StoreCopy())
	putRow(t, "pebble:unfinished/server", layout.StoreCopy())

	for _, c := range []struct {
		name string
		env  map[string]string
		want string // what both say, "" when a server starts
		note string
	}{
		{"a directory", nil, "", ""},
		{"a database", map[string]string{"KEYFOLD_STORE": url(full, "canary"), "KEYFOLD_DATA": ""}, "", ""},
		{"keys inside", map[string]string{"KEYFOLD_KMS": "embedded", "KEYFOLD_DATA": "inside"}, "", ""},
		{"a new directory", map[string]string{"KEYFOLD_DATA": "new"}, "", ""},
		{"a new directory, keys inside", map[string]string{"KEYFOLD_KMS": "embedded", "KEYFOLD_DATA": "new"}, "", ""},
		{"an empty database", map[string]string{"KEYFOLD_STORE": url(empty, "canary")}, "", "note: store: postgres://keyfold@127.0.0.1:" + fmt.Sprint(pg.Port) + "/" + empty + " has no tables of Keyfold yet; the first start makes them\n"},
		{"a key process that is away", map[string]string{"KEYFOLD_KMS": "unix:///nowhere/kms.sock"}, "", "warning: kms.url: the KMS does not answer"},
		{"another's keys to a directory", map[string]string{"KEYFOLD_KMS": other}, "this key process has not the keys to this server's data; start the one that has, or name it with KEYFOLD_KMS", ""},
		{"another's keys to a database", map[string]string{"KEYFOLD_KMS": other, "KEYFOLD_STORE": url(full, "canary")}, "this key process has not the keys to this server's data; start the one that has, or name it with KEYFOLD_KMS", ""},
		{"another's keys inside", map[string]string{"KEYFOLD_KMS": "embedded", "KEYFOLD_DATA": "strange", "KEYFOLD_STORE": "pebble:inside/server"}, "this key process has not the keys to this server's data", ""},
		{"another's key store", map[string]string{"KEYFOLD_KMS": "embedded", "KEYFOLD_DATA": "mixed"}, "root key does not open", ""},
		{"a lost key store", map[string]string{"KEYFOLD_KMS": "embedded", "KEYFOLD_DATA": "keyless"}, "keyless/server holds data, but keyless/kms has lost the keys to it; restore", ""},
		{"a lost root key", map[string]string{"KEYFOLD_KMS": "embedded", "KEYFOLD_DATA": "rootless"}, "rootless/root.key is missing, and the keys in rootless/kms open with nothing else; restore it from its backup", ""},
		{"the store of a key process", map[string]string{"KEYFOLD_STORE": "pebble:inside/kms"}, "the server was given the store of a key process; name a store of its own with KEYFOLD_STORE", ""},
		{"a damaged directory", map[string]string{"KEYFOLD_DATA": "damaged"}, "damaged/server is damaged: ", ""},
		{"an unfinished copy in a directory", map[string]string{"KEYFOLD_DATA": "unfinished"}, "is not finished, and it does not hold all yet; run the same keyfold store copy again", ""},
		{"an unfinished copy in a database", map[string]string{"KEYFOLD_STORE": url(unfinished, "canary")}, "is not finished, and it does not hold all yet; run the same keyfold store copy again", ""},
		{"a wrong password", map[string]string{"KEYFOLD_STORE": url(full, "canarybird")}, "the database refuses the connection (the database answered SQLSTATE 28P01); correct its URL or the role", ""},
		{"a newer schema", map[string]string{"KEYFOLD_STORE": url(newer, "canary")}, "the database has schema version 2, and this program knows 1 and older; run the newer program", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			databases := func() (all []string) {
				for _, name := range []string{full, newer, unfinished, empty} {
					all = append(all, rows(t, pg, name)...)
				}
				return all
			}
			files, records := tree(t), databases()
			code, out, stderr := shell(c.env).try("", "server", "check")
			if !slices.Equal(files, tree(t)) || !slices.Equal(records, databases()) {
				t.Errorf("the check changed something:\n%q\n%q\n%q\n%q", files, tree(t), records, databases())
			}
			if strings.Contains(out+stderr, "canary") {
				t.Errorf("a password is told: %s%s", out, stderr)
			}
			if c.want == "" {
				if code != 0 || strings.Contains(out, "error: ") || !strings.Contains(out, c.note) || c.note == "" && !strings.HasSuffix(out, "nothing is wrong\n") && !strings.HasPrefix(out, "warning: kms.url: embedded") {
					t.Errorf("exit %d: %s%s", code, out, stderr)
				}
				return
			}
			if code != 1 || !strings.Contains(out, "error: store: ") || !strings.Contains(out, c.want) {
				t.Errorf("check: exit %d: %s%s", code, out, stderr)
			}
			if code, _, stderr := shell(c.env).try("", "server"); code != 1 || !strings.Contains(stderr, c.want) {
				t.Errorf("server: exit %d: %s", code, stderr)
			}
		})
	}
}

// running is a server in a process of its own, which holds the lock that one in this
// process would not against us, until end.
func running(t *testing.T, sh *shell) (end func()) {
	t.Helper()
	cmd := exec.Command("keyfold", "server") // installed by TestMain
	for name, value := range sh.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out := must(cmd.StdoutPipe())(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "keyfold listens on ") {
		t.Errorf("the server says %q, %v", line, err)
	}
	return func() {
		t.Helper()
		if err := errors.Join(cmd.Process.Signal(os.Interrupt), cmd.Wait()); err != nil {
			t.Error(err)
		}
	}
}

// A server in a directory has it alone; in a database it does not.
func TestACheckPassesOverTheStoreOfARunningServer(t *testing.T) {
	t.Chdir(t.TempDir())
	ours, other := keysAt(t), keysAt(t)
	for _, c := range []struct {
		name, store, kms string
		code             int
		want             string
	}{
		{"its own", "", ours, 0, "note: store: it is in use and was not looked into: another keyfold is using "},
		{"with another's keys", "", other, 0, "note: store: it is in use and was not looked into: another keyfold is using "},
		{"in a database", database(t), ours, 0, "nothing is wrong\n"},
		{"in a database, with another's keys", database(t), other, 1, "this key process has not the keys to this server's data"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sh := &shell{t: t, env: map[string]string{"KEYFOLD_PUBLIC_URL": "https://localhost", "KEYFOLD_ADDR": "127.0.0.1:0", "KEYFOLD_DATA": "data", "KEYFOLD_KMS": ours, "KEYFOLD_STORE": c.store}}
			end := running(t, sh)
			sh.env["KEYFOLD_KMS"] = c.kms
			if code, out, stderr := sh.try("", "server", "check"); code != c.code || !strings.Contains(out, c.want) {
				t.Errorf("exit %d: %s%s", code, out, stderr)
			}
			end()
		})
	}
}
