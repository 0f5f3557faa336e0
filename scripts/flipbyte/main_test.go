package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

// versionRow is a row with the wrapped DEK and ciphertext given.
func versionRow(dek, ciphertext []byte) []byte {
	row := append([]byte{1, 0, 0, 0, 2}, "{}"...)
	row = append(append(row, 3), "kek"...)
	row = binary.BigEndian.AppendUint32(row, 1)
	row = append(binary.BigEndian.AppendUint16(row, uint16(len(dek))), dek...)
	return append(row, ciphertext...)
}

func TestOneBitOfTheNamedPartIsFlipped(t *testing.T) {
	dek, ciphertext := bytes.Repeat([]byte{0xdd}, 60), bytes.Repeat([]byte{0xcc}, 40)
	for row, c := range map[string]struct {
		key    string
		value  []byte
		within []byte // where the flipped byte must be
	}{
		"version-ciphertext": {"vault:1:version:a/b:0000000001", versionRow(dek, ciphertext), ciphertext},
		"version-dek":        {"vault:1:version:a/b:0000000001", versionRow(dek, ciphertext), dek},
		"message":            {"thread:1:msg:00-01", ciphertext, ciphertext},
		"thread-dek":         {"dek:1", dek, dek},
	} {
		dir := filepath.Join(t.TempDir(), "store")
		put(t, dir, "vault:1:head:a/b", []byte("head"))
		put(t, dir, c.key, c.value)
		if key, err := flipRow(dir, row, "1"); err != nil || key != c.key {
			t.Errorf("%s: %q, %v", row, key, err)
			continue
		}
		got := get(t, dir, c.key)
		n, at := 0, 0
		for i := range got {
			if got[i] != c.value[i] {
				n, at = n+1, i
			}
		}
		start := bytes.Index(c.value, c.within)
		if n != 1 || len(got) != len(c.value) || at < start || at >= start+len(c.within) {
			t.Errorf("%s: %d bytes differ, the last at %d; it must be within %d to %d", row, n, at, start, start+len(c.within))
		}
	}
}

func TestNothingIsFlippedWhereNothingMatches(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	if _, err := flipRow(dir, "message", ""); err == nil {
		t.Error("a store that is not there")
	}
	put(t, dir, "thread:1:msg:00-01", []byte("m"))
	for _, c := range [][2]string{{"message", "2"}, {"version-dek", ""}, {"nonsense", ""}} {
		if _, err := flipRow(dir, c[0], c[1]); err == nil {
			t.Errorf("-row %s -match %s found something", c[0], c[1])
		}
	}
	for _, row := range [][]byte{nil, {2}, {1, 0xff, 0xff, 0xff, 0xff}, versionRow(nil, nil)} {
		if at, err := inWrappedDEK(row); err == nil {
			t.Errorf("byte %d of %x", at, row)
		}
	}
}

func TestAFilesMiddleIsFlipped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("abcde"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := flipFile(path, -1); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "abbde" {
		t.Errorf("%q", b)
	}
}

func put(t *testing.T, dir, key string, value []byte) {
	t.Helper()
	withStore(t, dir, func(st store.Store) error {
		var b store.Batch
		b.Put(key, value)
		_, err := st.Commit(context.Background(), &b)
		return err
	})
}

func get(t *testing.T, dir, key string) (value []byte) {
	t.Helper()
	withStore(t, dir, func(st store.Store) error {
		rec, err := st.Get(context.Background(), key)
		value = rec.Value
		return err
	})
	return value
}

func withStore(t *testing.T, dir string, do func(store.Store) error) {
	t.Helper()
	st, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := do(st); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}
