package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

// database names an empty database.
func database(t *testing.T) string {
	t.Helper()
	return pgtest.URL(t)
}

func openSpec(t *testing.T, text string) storespec.Store {
	t.Helper()
	spec, err := storespec.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	s, err := spec.OpenCopy(t.Context(), storespec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fillStore puts n records into the store that text names, some of them large.
func fillStore(t *testing.T, text string, n int) {
	t.Helper()
	s := openSpec(t, text)
	b := new(store.Batch)
	for i := range n {
		b.Put(fmt.Sprintf("thread:%08d:meta", i), bytes.Repeat([]byte{byte(i)}, 200))
		if len(b.Writes) == 2000 || i == n-1 {
			if _, err := s.Commit(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			b = new(store.Batch)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// noted reports whether there is an unfinished copy in the store, and how many
// records it has.
func noted(t *testing.T, text string) (unfinished bool, records int) {
	t.Helper()
	s := openSpec(t, text)
	defer s.Close()
	for rec, err := range store.All(t.Context(), s, store.Range{}) {
		switch {
		case err != nil:
			t.Fatal(err)
		case rec.Key == layout.StoreCopy():
			unfinished = true
		default:
			records++
		}
	}
	return unfinished, records
}

func TestACopyThatIsKilledGoesOn(t *testing.T) {
	const records = 15_000
	old := "pebble:" + t.TempDir()
	fillStore(t, old, records)
	for name, c := range map[string]struct {
		target string
		moves  func(t *testing.T) bool // whether some of the copy is in the target
	}{
		"to PostgreSQL":  {target: database(t)},
		"to a directory": {target: "pebble:" + filepath.Join(t.TempDir(), "new")},
	} {
		t.Run(name, func(t *testing.T) {
			sh := &shell{t: t, env: map[string]string{"KEYFOLD_COPY_TO": c.target}}
			killMidway(t, sh, old, c.target)
			_, had := noted(t, c.target)
			mustNotServe(t, c.target)
			out := sh.run("store", "copy", "--from", old, "--json")
			if !strings.Contains(out, fmt.Sprintf(`"records": %d`, records)) {
				t.Error(out)
			}
			if unfinished, n := noted(t, c.target); unfinished || n != records || had == 0 {
				t.Errorf("%d records, unfinished: %t; %d of them before the kill", n, unfinished, had)
			}
		})
	}
}

// killMidway kills a copy when some of it is in the target, and not all.
func killMidway(t *testing.T, sh *shell, from, to string) {
	t.Helper()
	cmd, output := sh.start("store", "copy", "--from", from)
	for until := time.Now().Add(2 * time.Minute); !moving(t, to); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("nothing is copied: %s", output)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if unfinished, _ := noted(t, to); !unfinished {
		t.Fatalf("the copy ended before it was killed: %s", output)
	}
}

// moving reports whether records are in the target. A directory belongs to the
// process that copies, so what can be seen of it is its log.
func moving(t *testing.T, to string) bool {
	t.Helper()
	dir, ok := strings.CutPrefix(to, "pebble:")
	if !ok {
		s := openSpec(t, to)
		defer s.Close()
		recs, err := s.Scan(t.Context(), store.Range{}, store.ScanOptions{Limit: 2}) // the note, and a record
		return err == nil && len(recs) == 2
	}
	var size int64
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".log" {
			if info, err := e.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil
	})
	return err == nil && size > 1<<20
}

// mustNotServe checks that no server starts on an unfinished copy.
func mustNotServe(t *testing.T, spec string) {
	t.Helper()
	sh := &shell{t: t, env: map[string]string{"KEYFOLD_STORE": spec, "KEYFOLD_DATA": t.TempDir(), "KEYFOLD_ADDR": "127.0.0.1:0"}}
	code, _, stderr := sh.try("", "dev")
	if code != 1 || !strings.Contains(stderr, "is not finished, and it does not hold all yet; run the same keyfold store copy again") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestACopyIsRefusedWhereItCannotBe(t *testing.T) {
	dir := t.TempDir()
	data, other := filepath.Join(dir, "data"), filepath.Join(dir, "other")
	fillStore(t, "pebble:"+filepath.Join(data, "server"), 3)
	if err := errors.Join(os.Mkdir(other, 0o700), os.WriteFile(filepath.Join(other, "letter"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	source, target := "pebble:"+filepath.Join(data, "server"), "pebble:"+filepath.Join(dir, "new")
	for _, c := range []struct {
		code     int
		from, to string
		want     string
		more     []string
	}{
		{2, "", target, "name both stores", nil},
		{2, source, "", "name both stores", nil},
		{2, source, source, "are the same store", nil},
		{2, source, "postgres://me:canary@x@db", "--to: the URL has more than one @", nil},
		{2, "canary", target, "--from: write pebble:DIR", nil},
		{1, "pebble:" + data, target, "there is no store in " + data + "\nhint: did you mean " + source + "?", nil},
		{1, source, "pebble:" + other, "holds other things; name a new directory", nil},
		{1, source, target, "is not the store of a key process; leave --keys away", []string{"--keys"}},
	} {
		sh := &shell{t: t, env: map[string]string{}}
		code, stdout, stderr := sh.try("", append([]string{"store", "copy", "--from", c.from, "--to", c.to}, c.more...)...)
		if code != c.code || stdout != "" || !strings.Contains(stderr, c.want) || strings.Contains(stderr, "canary") {
			t.Errorf("%s to %s: exit %d, %q, %q; want %d, %q", c.from, c.to, code, stdout, stderr, c.code, c.want)
		}
	}
	served := openSpec(t, source)
	defer served.Close()
	sh := &shell{t: t, env: map[string]string{}}
	if code, _, stderr := sh.try("", "store", "copy", "--from", source, "--to", target); code != 1 || !strings.Contains(stderr, "end it; it must not run while its store is copied") {
		t.Errorf("a source that is served: exit %d, %s", code, stderr)
	}
}

func TestAServerMovesToPostgreSQLAndBack(t *testing.T) {
	dir := t.TempDir()
	old, back := "pebble:"+filepath.Join(dir, "server"), "pebble:"+filepath.Join(dir, "back")
	rows, keys := database(t), database(t)
	vault := ""
	onServer(t, dir, "", func(sh *shell) {
		var v struct{ ID string }
		if err := json.Unmarshal([]byte(sh.run("vault", "create", "payments", "--json")), &v); err != nil {
			t.Fatal(err)
		}
		vault = v.ID
		putSecret(sh, vault, "one")
	})
	sh := &shell{t: t, env: map[string]string{}}
	sh.run("store", "copy", "--from", old, "--to", rows)
	sh.run("store", "copy", "--keys", "--from", "pebble:"+filepath.Join(dir, "kms"), "--to", keys)
	onServer(t, dir, rows, func(sh *shell) {
		mustGet(sh, vault, "one")
		putSecret(sh, vault, "two")
	})
	sh.run("store", "copy", "--from", rows, "--to", back)
	onServer(t, dir, back, func(sh *shell) { mustGet(sh, vault, "two") })

	// The keys in their database are those to either.
	spec := func(text string) storespec.Spec {
		s, err := storespec.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, text := range []string{rows, back} {
		node, err := allinone.Open(t.Context(), allinone.Config{DataDir: dir, Store: spec(text), KeyStore: spec(keys)})
		if err != nil {
			t.Fatal(err)
		}
		if err := node.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func putSecret(sh *shell, vault, value string) {
	sh.t.Helper()
	if code, _, stderr := sh.try(value, "secret", "put", vault, "a/b"); code != 0 {
		sh.t.Fatal(stderr)
	}
}

func mustGet(sh *shell, vault, want string) {
	sh.t.Helper()
	if got := sh.run("secret", "get", vault, "a/b"); got != want {
		sh.t.Errorf("got %q, want %q", got, want)
	}
}

// onServer runs a development server on dir and the store that spec names, for do.
func onServer(t *testing.T, dir, spec string, do func(*shell)) {
	t.Helper()
	sh := &shell{t: t, env: map[string]string{"KEYFOLD_DATA": dir, "KEYFOLD_ADDR": "127.0.0.1:0", "KEYFOLD_STORE": spec}}
	cmd, output := sh.start("dev")
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	file := filepath.Join(dir, devFileName)
	for until := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("the server ended: %v\n%s", err, output)
		default:
		}
		if time.Now().After(until) {
			_ = cmd.Process.Kill()
			t.Fatal("the server does not start")
		}
	}
	do(sh)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}
