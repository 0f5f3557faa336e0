package storetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/store"
)

func ranges(t *testing.T, s store.Store) {
	wantKeys(t, s, store.Range{}, store.ScanOptions{}, "")
	fill(t, s, "a", "aa", "b", "c", "d")
	for _, c := range []struct{ start, end, want string }{
		{"", "", "a aa b c d"},
		{"b", "", "b c d"},
		{"", "b", "a aa"},
		{"a", "b", "a aa"},
		{"a\x00", "c", "aa b"},
		{"b", "b\x00", "b"},
		{"b", "b", ""},
		{"c", "b", ""},
		{"d\x00", "", ""},
		{"e", "f", ""},
	} {
		wantKeys(t, s, store.Range{Start: c.start, End: c.end}, store.ScanOptions{}, c.want)
	}
}

func prefixes(t *testing.T, s store.Store) {
	keys := []string{"\x00", "\x00\x00", "a", "a\x00", "a\x00b", "a\xff", "a\xff\x00", "a\xff\xff", "b", "\xff", "\xff\x00", "\xff\xff", "\xff\xffz"}
	fill(t, s, keys...)
	for _, p := range append(keys, "", "a\xff\xff\xff", "\xff\xff\xff", "nothing") {
		want := []string{}
		for _, k := range keys {
			if len(k) >= len(p) && k[:len(p)] == p {
				want = append(want, k)
			}
		}
		if d := cmp.Diff(want, scan(t, s, store.Prefix(p), store.ScanOptions{})); d != "" {
			t.Errorf("Prefix(%q) (-want +got):\n%s", p, d)
		}
	}
}

func reverseScans(t *testing.T, s store.Store) {
	fill(t, s, "a", "b", "c", "d", "\xff\xff")
	down := store.ScanOptions{Reverse: true}
	wantKeys(t, s, store.Range{Start: "b"}, down, "\xff\xff d c b")
	wantKeys(t, s, store.Range{End: "c"}, down, "b a")
	wantKeys(t, s, store.Range{Start: "b", End: "d"}, down, "c b")
	wantKeys(t, s, store.Range{Start: "d", End: "b"}, down, "")
	wantKeys(t, s, store.Prefix("\xff"), down, "\xff\xff")
	wantKeys(t, s, store.Range{}, store.ScanOptions{Reverse: true, Limit: 2}, "\xff\xff d")
	wantKeys(t, s, store.Range{End: "d"}, store.ScanOptions{Reverse: true, Limit: 2}, "c b")
}

func limits(t *testing.T, s store.Store) {
	fill(t, s, "a", "b", "c")
	for limit, want := range map[int]string{1: "a", 2: "a b", 3: "a b c", 4: "a b c", 0: "a b c", -1: "a b c"} {
		wantKeys(t, s, store.Range{}, store.ScanOptions{Limit: limit}, want)
	}
}

func byteBounds(t *testing.T, s store.Store) {
	fill(t, s, "a", "b", "c") // values of 3 bytes
	for bound, want := range map[int]string{1: "a", 3: "a", 4: "a b", 6: "a b", 7: "a b c", 1000: "a b c", 0: "a b c"} {
		wantKeys(t, s, store.Range{}, store.ScanOptions{MaxBytes: bound}, want)
	}
	wantKeys(t, s, store.Range{}, store.ScanOptions{MaxBytes: 4, Reverse: true}, "c b")
	wantKeys(t, s, store.Range{}, store.ScanOptions{MaxBytes: 1000, Limit: 2}, "a b")
}

func scanCap(t *testing.T, s store.Store) {
	const n = store.MaxScan + 5
	commit(t, s, func(b *store.Batch) {
		for i := range n {
			b.Put(fmt.Sprintf("%06d", i), nil)
		}
	})
	for _, limit := range []int{0, store.MaxScan, store.MaxScan + 1} {
		up, err := s.Scan(context.Background(), store.Range{}, store.ScanOptions{Limit: limit})
		if err != nil || len(up) != store.MaxScan || up[0].Key != "000000" {
			t.Errorf("Scan with limit %d = %d records, %v", limit, len(up), err)
		}
		down, err := s.Scan(context.Background(), store.Range{}, store.ScanOptions{Limit: limit, Reverse: true})
		if err != nil || len(down) != store.MaxScan || down[0].Key != fmt.Sprintf("%06d", n-1) {
			t.Errorf("reverse Scan with limit %d = %d records, %v", limit, len(down), err)
		}
	}
	seen := 0
	for r, err := range store.All(context.Background(), s, store.Range{}) {
		if err != nil || r.Key != fmt.Sprintf("%06d", seen) {
			t.Fatalf("All: record %d is %q, %v", seen, r.Key, err)
		}
		seen++
	}
	if seen != n {
		t.Errorf("All yielded %d of %d records", seen, n)
	}
}
