package storetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/store"
)

// RunDurable checks that what was committed is there after a restart. Each call
// of open must open the store that lives in dir, and make it if dir is empty.
func RunDurable(t *testing.T, open func(t *testing.T, dir string) store.Store) {
	t.Run("records survive a close and an open", func(t *testing.T) {
		dir := t.TempDir()
		var want []store.Record
		for range 3 {
			s := open(t, dir)
			wantRecords(t, s, want)
			want = scramble(t, s, len(want))
			mustClose(t, s)
		}
		s := open(t, dir)
		wantRecords(t, s, want)
		mustClose(t, s)
	})
	t.Run("records survive an unclean stop", func(t *testing.T) {
		dir := t.TempDir()
		var want []store.Record
		for range 3 {
			s := open(t, dir)
			wantRecords(t, s, want)
			want = scramble(t, s, len(want))
			next := t.TempDir()
			CopyDir(t, next, dir)
			mustClose(t, s)
			dir = next
		}
		s := open(t, dir)
		wantRecords(t, s, want)
		mustClose(t, s)
	})
	t.Run("a revision from before a restart still holds", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		rev := put(t, s, "k", "v")
		stale := put(t, s, "l", "v")
		commit(t, s, func(b *store.Batch) { b.Delete("l") })
		mustClose(t, s)
		s = open(t, dir)
		put(t, s, "l", "v")
		wantConflict(t, s, func(b *store.Batch) { b.Put("l", nil); b.RequireRevision("l", stale) })
		commit(t, s, func(b *store.Batch) { b.Put("k", nil); b.RequireRevision("k", rev) })
		mustClose(t, s)
	})
	t.Run("a store that is closed and opened behaves like a map", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		model(t, s, func(old store.Store) store.Store {
			mustClose(t, old)
			s = open(t, dir)
			return s
		})
		mustClose(t, s)
	})
}

// scramble puts, replaces and deletes records, some of them large, and returns
// what the store holds then.
func scramble(t *testing.T, s store.Store, seed int) []store.Record {
	t.Helper()
	for i := range 30 {
		commit(t, s, func(b *store.Batch) {
			b.Put(fmt.Sprintf("k%03d", (seed+i*7)%50), fmt.Appendf(nil, "value %d of %d", i, seed))
			b.Delete(fmt.Sprintf("k%03d", (seed+i*3)%50))
			if i%10 == 0 {
				b.Put(fmt.Sprintf("large%d", i), make([]byte, 1_500_000+seed))
			}
		})
	}
	recs, err := s.Scan(context.Background(), store.Range{}, store.ScanOptions{})
	if err != nil || len(recs) == 0 {
		t.Fatalf("Scan = %d records, %v", len(recs), err)
	}
	return recs
}

func wantRecords(t *testing.T, s store.Store, want []store.Record) {
	t.Helper()
	got, err := s.Scan(context.Background(), store.Range{}, store.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(got, want, same) {
		t.Fatalf("after opening again the store holds %d records, not the same as the %d before", len(got), len(want))
	}
}

func mustClose(t *testing.T, s store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// CopyDir copies the files of an open store from src to dst, as a killed
// process would have left them: what was written is there, synced or not. It
// starts again when the engine changed something meanwhile in the background. A
// file called LOCK is left out, since closing it would drop the lock of the
// store that is open.
func CopyDir(t testing.TB, dst, src string) {
	t.Helper()
	for {
		before := listing(t, src)
		err := copyFiles(dst, src)
		if listing(t, src) == before {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
	}
}

// copyFiles makes dst hold what src holds, and nothing else.
func copyFiles(dst, src string) error {
	entries, err := os.ReadDir(src)
	if err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(dst), os.Mkdir(dst, 0o700)); err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || e.Name() == "LOCK" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(src, e.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dst, e.Name()), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// listing names the files of dir with their sizes and times of change.
func listing(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			fmt.Fprintln(&out, e.Name(), info.Size(), info.ModTime().UnixNano())
		}
	}
	return out.String()
}
