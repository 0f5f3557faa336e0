package storetest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/store"
)

func putAndGet(t *testing.T, s store.Store) {
	for _, value := range []string{"v", "", "with\x00NUL", strings.Repeat("x", 100_000)} {
		rev := put(t, s, "k", value)
		r, err := s.Get(context.Background(), "k")
		if err != nil || r.Key != "k" || string(r.Value) != value || r.Revision != rev {
			t.Errorf("Get = %.60q %v, %v; want %.60q at %v", r.Value, r.Revision, err, value, rev)
		}
		if rev == 0 {
			t.Error("a put got revision 0")
		}
	}
}

func missingKey(t *testing.T, s store.Store) {
	put(t, s, "b", "v")
	for _, key := range []string{"a", "c", "bb", "b\x00", ""} {
		wantValue(t, s, key, "")
	}
	commit(t, s, func(b *store.Batch) { b.Delete("b"); b.Delete("never there") })
	wantValue(t, s, "b", "")
}

func oneRevision(t *testing.T, s store.Store) {
	rev := commit(t, s, func(b *store.Batch) { b.Put("a", nil); b.Put("b", nil); b.Put("c", nil) })
	recs, err := s.Scan(context.Background(), store.Range{}, store.ScanOptions{})
	if err != nil || len(recs) != 3 {
		t.Fatalf("Scan = %v, %v", recs, err)
	}
	for _, r := range recs {
		if r.Revision != rev {
			t.Errorf("%q is at %v, want %v", r.Key, r.Revision, rev)
		}
	}
}

func lastWriteWins(t *testing.T, s store.Store) {
	commit(t, s, func(b *store.Batch) {
		b.Put("put", []byte("first"))
		b.Put("gone", []byte("first"))
		b.Delete("back")
		b.Put("put", []byte("last"))
		b.Delete("gone")
		b.Put("back", []byte("last"))
	})
	wantValue(t, s, "put", "last")
	wantValue(t, s, "gone", "")
	wantValue(t, s, "back", "last")
}

func emptyBatch(t *testing.T, s store.Store) {
	if rev := commit(t, s, func(*store.Batch) {}); rev != 0 {
		t.Errorf("an empty batch got revision %v", rev)
	}
}

func failingPrecondition(t *testing.T, s store.Store) {
	rev := put(t, s, "a", "old")
	put(t, s, "b", "old")
	wantConflict(t, s, func(b *store.Batch) {
		b.Put("a", []byte("new"))
		b.Delete("b")
		b.Put("c", []byte("new"))
		b.RequireRevision("a", rev)
		b.RequireAbsent("b")
	})
	wantValue(t, s, "a", "old")
	wantValue(t, s, "b", "old")
	wantValue(t, s, "c", "")
	if r, _ := s.Get(context.Background(), "a"); r.Revision != rev {
		t.Errorf("a failed commit moved the revision from %v to %v", rev, r.Revision)
	}
}

func staleRevision(t *testing.T, s store.Store) {
	first := put(t, s, "k", "1")
	second := commit(t, s, func(b *store.Batch) { b.Put("k", []byte("2")); b.RequireRevision("k", first) })
	wantConflict(t, s, func(b *store.Batch) { b.Put("k", []byte("3")); b.RequireRevision("k", first) })
	wantConflict(t, s, func(b *store.Batch) { b.Delete("k"); b.RequireRevision("k", first) })
	wantConflict(t, s, func(b *store.Batch) { b.Put("none", nil); b.RequireRevision("none", first) })
	wantValue(t, s, "k", "2")
	commit(t, s, func(b *store.Batch) { b.Delete("k"); b.RequireRevision("k", second) })
	wantValue(t, s, "k", "")
}

func requireAbsent(t *testing.T, s store.Store) {
	create := func(b *store.Batch) { b.Put("k", []byte("v")); b.RequireAbsent("k") }
	rev := commit(t, s, create)
	wantConflict(t, s, create)
	commit(t, s, func(b *store.Batch) { b.Delete("k"); b.RequireRevision("k", rev) })
	commit(t, s, create)
}

func preconditionElsewhere(t *testing.T, s store.Store) {
	rev := put(t, s, "guard", "1")
	guarded := func(b *store.Batch) { b.Put("k", []byte("v")); b.RequireRevision("guard", rev) }
	commit(t, s, guarded)
	wantValue(t, s, "guard", "1")
	put(t, s, "guard", "2")
	wantConflict(t, s, guarded)
}

func preconditionsAlone(t *testing.T, s store.Store) {
	rev := put(t, s, "k", "v")
	check := func(b *store.Batch) { b.RequireRevision("k", rev); b.RequireAbsent("none") }
	if got := commit(t, s, check); got != 0 {
		t.Errorf("a batch without writes got revision %v", got)
	}
	put(t, s, "none", "now there")
	wantConflict(t, s, check)
}

func revisionReuse(t *testing.T, s store.Store) {
	seen := map[store.Revision]bool{}
	for range 20 {
		rev := put(t, s, "k", "the same value")
		if seen[rev] {
			t.Fatalf("revision %v came back", rev)
		}
		seen[rev] = true
		commit(t, s, func(b *store.Batch) { b.Delete("k") })
	}
	put(t, s, "k", "the same value")
	for old := range seen {
		wantConflict(t, s, func(b *store.Batch) { b.Put("k", nil); b.RequireRevision("k", old) })
	}
}

func sizeLimits(t *testing.T, s store.Store) {
	longKey, value := strings.Repeat("k", store.MaxKey), make([]byte, store.MaxValue)
	put(t, s, "kept", "v")
	for name, fill := range map[string]func(*store.Batch){
		"a key too long":     func(b *store.Batch) { b.Put(longKey+"k", nil) },
		"no key":             func(b *store.Batch) { b.Put("", nil) },
		"a delete of no key": func(b *store.Batch) { b.Delete("") },
		"a check too long":   func(b *store.Batch) { b.RequireAbsent(longKey + "k") },
		"a value too long":   func(b *store.Batch) { b.Put("k", make([]byte, store.MaxValue+1)) },
		"a batch too long": func(b *store.Batch) {
			b.Put("k1", value)
			b.Put("k2", value)
		},
	} {
		_, err := try(s, func(b *store.Batch) { b.Delete("kept"); fill(b) })
		if !errors.Is(err, store.ErrLimit) {
			t.Errorf("%s: Commit = %v, want ErrLimit", name, err)
		}
		wantValue(t, s, "kept", "v")
	}
	commit(t, s, func(b *store.Batch) { b.Put(longKey, []byte("v")); b.Put("big", value) })
	wantValue(t, s, longKey, "v")
	if r, err := s.Get(context.Background(), "big"); err != nil || !bytes.Equal(r.Value, value) {
		t.Errorf("Get of %d bytes = %d bytes, %v", len(value), len(r.Value), err)
	}
}

func ownership(t *testing.T, s store.Store) {
	value := []byte("value")
	var b store.Batch
	b.Put("k", value)
	b.Put("l", value)
	if _, err := s.Commit(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	clear(value)
	for range 2 {
		r, err := s.Get(context.Background(), "k")
		if err != nil || string(r.Value) != "value" {
			t.Fatalf("Get = %q, %v", r.Value, err)
		}
		clear(append(r.Value, "over the end"...))
		clear(r.Value)
		recs, err := s.Scan(context.Background(), store.Range{}, store.ScanOptions{})
		if err != nil || len(recs) != 2 {
			t.Fatalf("Scan = %v, %v", recs, err)
		}
		for _, r := range recs {
			if string(r.Value) != "value" {
				t.Fatalf("Scan: %q holds %q", r.Key, r.Value)
			}
			clear(append(r.Value, "over the end"...))
			clear(r.Value)
		}
	}
}

func doneContext(t *testing.T, s store.Store) {
	put(t, s, "k", "v")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var b store.Batch
	b.Delete("k")
	if _, err := s.Commit(ctx, &b); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit = %v", err)
	}
	if _, err := s.Get(ctx, "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get = %v", err)
	}
	if _, err := s.Scan(ctx, store.Range{}, store.ScanOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Scan = %v", err)
	}
	wantValue(t, s, "k", "v")
}

func closedStore(t *testing.T, s store.Store) {
	ctx := context.Background()
	put(t, s, "k", "v")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(ctx, "k"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Get = %v", err)
	}
	if _, err := s.Scan(ctx, store.Range{}, store.ScanOptions{}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Scan = %v", err)
	}
	for name, b := range map[string]*store.Batch{
		"put":   {Writes: []store.Write{{Key: "k"}}},
		"check": {Preconditions: []store.Precondition{{Key: "other"}}},
		"empty": {},
	} {
		if _, err := s.Commit(ctx, b); !errors.Is(err, store.ErrClosed) {
			t.Errorf("Commit of %s = %v", name, err)
		}
	}
	if err := s.Close(); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Close = %v", err)
	}
}
