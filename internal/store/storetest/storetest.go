// Package storetest is the one suite that every engine of package store must
// pass. Run holds the contract; RunDurable adds what a disk must keep.
//
// It trusts nothing but the methods of store.Store, and leaves no state behind:
// each case opens an empty store of its own.
package storetest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/store"
)

type testCase struct {
	name string
	test func(*testing.T, store.Store)
}

// Run checks the contract of store.Store. Each call of open must return a new,
// empty store; the suite closes it.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	run(t, open, []testCase{
		{"a put record comes back with its revision", putAndGet},
		{"a missing key is ErrNotFound", missingKey},
		{"a batch gives one revision to all it puts", oneRevision},
		{"the last write to a key in a batch wins", lastWriteWins},
		{"an empty batch does nothing", emptyBatch},
		{"a failing precondition changes nothing", failingPrecondition},
		{"a stale revision conflicts", staleRevision},
		{"require absent conflicts with a record", requireAbsent},
		{"a precondition may name a key that is not written", preconditionElsewhere},
		{"a batch of preconditions alone is a check", preconditionsAlone},
		{"a revision does not come back after a delete", revisionReuse},
		{"ranges hold what lies between their ends", ranges},
		{"prefixes end where they should", prefixes},
		{"reverse scans run downwards from the end", reverseScans},
		{"a scan stops at its limit", limits},
		{"a scan stops at its bound of bytes", byteBounds},
		{"a scan stops at MaxScan", scanCap},
		{"sizes at the limit pass and sizes over it change nothing", sizeLimits},
		{"values belong to the caller", ownership},
		{"gets that are read ahead are answered as others are, and once", readAhead},
		{"a call with a done context does nothing", doneContext},
		{"a closed store answers ErrClosed", closedStore},
		{"a close waits for the calls that run", closeUnderLoad},
		{"scans see a batch whole or not at all", wholeBatches},
		{"a store behaves like a map", func(t *testing.T, s store.Store) { model(t, s, nil) }},
	})
	RunAtOnce(t, open)
}

// RunAtOnce is the part of Run in which many calls meet.
func RunAtOnce(t *testing.T, open func(t *testing.T) store.Store) {
	run(t, open, []testCase{
		{"32 writers count without a gap", counters},
		{"a blind write does not slip into a conditional one", blindRace},
		{"two batches that write the same keys do not mix", mixedWrites},
		{"two batches that forbid each other do not both pass", writeSkew},
		{"two batches that need each other's record unchanged do not both pass", guardSkew},
		{"a check never approves what was never there together", crossCheck},
	})
}

func run(t *testing.T, open func(t *testing.T) store.Store, cases []testCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			c.test(t, s)
			if err := s.Close(); err != nil && !errors.Is(err, store.ErrClosed) {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

func readAhead(t *testing.T, s store.Store) {
	put(t, s, "a", "1")
	put(t, s, "b", "1")
	get := func(ctx context.Context, key string) string {
		t.Helper()
		r, err := s.Get(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			return "none"
		}
		if err != nil || r.Key != key {
			t.Fatalf("Get %q = %q, %v", key, r.Key, err)
		}
		defer copy(r.Value, "#") // which no other may see
		return string(r.Value)
	}
	ctx := store.Ahead(context.Background(), s, "a", "b", "b", "c")
	put(t, s, "a", "2") // before the first Get
	for i, want := range []string{"a 2", "b 1", "c none", "z none"} {
		key, value, _ := strings.Cut(want, " ")
		if got := get(ctx, key); got != value {
			t.Errorf("Get %d, of %q, = %q, want %q", i, key, got, value)
		}
	}
	put(t, s, "a", "3")
	put(t, s, "c", "3")
	if a, c, b := get(ctx, "a"), get(ctx, "c"), get(context.Background(), "b"); a != "3" || c != "3" || b != "1" {
		t.Errorf("once each was had, the next Gets = %q, %q and %q", a, c, b)
	}
	put(t, s, "b", "2")
	if b := get(ctx, "b"); b != "2" {
		t.Errorf("the second Get of a key that was named twice = %q", b)
	}
	put(t, s, "b", "1")
	before := store.Ahead(context.Background(), s, "a")
	after := store.Ahead(before, s, "b", "a")
	if a, b := get(before, "a"), get(after, "b"); a != "3" || b != "1" {
		t.Errorf("of two that are read ahead in turn the Gets = %q and %q", a, b)
	}
	put(t, s, "a", "5")
	if a := get(after, "a"); a != "5" {
		t.Errorf("the second Get of what was read ahead in turn = %q", a)
	}
	put(t, s, "a", "3")
	after = store.Ahead(after, s, "a", "c") // once those before were had
	put(t, s, "c", "4")
	if c, a := get(after, "c"), get(after, "a"); c != "4" || a != "3" {
		t.Errorf("of two that are read after others the Gets = %q and %q", c, a)
	}
	ended, end := context.WithCancel(store.Ahead(context.Background(), s, "a", "b"))
	end()
	if _, err := s.Get(ended, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get with a context that ended = %v", err)
	}
}

// commit applies what fill puts into a batch and returns the revision.
func commit(t testing.TB, s store.Store, fill func(*store.Batch)) store.Revision {
	t.Helper()
	rev, err := try(s, fill)
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	return rev
}

// try is commit for batches that may fail.
func try(s store.Store, fill func(*store.Batch)) (store.Revision, error) {
	var b store.Batch
	fill(&b)
	return s.Commit(context.Background(), &b)
}

// put writes one record without a precondition.
func put(t testing.TB, s store.Store, key, value string) store.Revision {
	t.Helper()
	return commit(t, s, func(b *store.Batch) { b.Put(key, []byte(value)) })
}

// wantConflict checks that the batch fails with ErrConflict.
func wantConflict(t testing.TB, s store.Store, fill func(*store.Batch)) {
	t.Helper()
	if _, err := try(s, fill); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Commit = %v, want ErrConflict", err)
	}
}

// wantValue checks the value under key; "" means that there is no record.
func wantValue(t testing.TB, s store.Store, key, value string) {
	t.Helper()
	r, err := s.Get(context.Background(), key)
	if value == "" {
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Get(%q) = %q, %v, want ErrNotFound", key, r.Value, err)
		}
		return
	}
	if err != nil || string(r.Value) != value || r.Key != key {
		t.Errorf("Get(%q) = %+v, %v, want value %q", key, r, err, value)
	}
}

// scan returns the keys of a scan, each checked to hold the value "v:"+key.
func scan(t testing.TB, s store.Store, r store.Range, opt store.ScanOptions) []string {
	t.Helper()
	recs, err := s.Scan(context.Background(), r, opt)
	if err != nil {
		t.Fatalf("Scan(%q): %v", r, err)
	}
	keys := []string{}
	for _, rec := range recs {
		keys = append(keys, rec.Key)
		if string(rec.Value) != "v:"+rec.Key || rec.Revision == 0 {
			t.Errorf("Scan(%q): wrong record %+v", r, rec)
		}
	}
	return keys
}

// wantKeys checks the keys that a scan returns, in order, given as one
// string with blanks between.
func wantKeys(t testing.TB, s store.Store, r store.Range, opt store.ScanOptions, keys string) {
	t.Helper()
	if d := cmp.Diff(strings.Fields(keys), scan(t, s, r, opt)); d != "" {
		t.Errorf("Scan(%q, %+v) (-want +got):\n%s", r, opt, d)
	}
}

// fill puts records whose values are "v:" and their key.
func fill(t testing.TB, s store.Store, keys ...string) {
	t.Helper()
	commit(t, s, func(b *store.Batch) {
		for _, k := range keys {
			b.Put(k, []byte("v:"+k))
		}
	})
}
