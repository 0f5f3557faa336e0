package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

func TestAPrefixEndsAtTheFirstKeyBehindIt(t *testing.T) {
	for p, end := range map[string]string{
		"":             "",
		"a":            "b",
		"ab":           "ac",
		"a\x00":        "a\x01",
		"a\xfe":        "a\xff",
		"a\xff":        "b",
		"a\xff\xff":    "b",
		"\xff":         "",
		"\xff\xff":     "",
		"thread:7:msg": "thread:7:msh",
	} {
		if got := store.Prefix(p); got.Start != p || got.End != end {
			t.Errorf("Prefix(%q) = %q, want the end %q", p, got, end)
		}
	}
}

func TestAPrefixHoldsJustTheKeysThatBeginWithIt(t *testing.T) {
	text := rapid.StringOfN(rapid.RuneFrom([]rune{0, 1, 'a', 'b'}), 0, 4, -1)
	bytes := rapid.OneOf(text, rapid.Map(text, func(s string) string { return strings.ReplaceAll(s, "b", "\xff") }))
	rapid.Check(t, func(t *rapid.T) {
		p, key := bytes.Draw(t, "prefix"), bytes.Draw(t, "key")
		r := store.Prefix(p)
		in := key >= r.Start && (r.End == "" || key < r.End)
		if in != strings.HasPrefix(key, p) {
			t.Fatalf("%q in Prefix(%q) = %v", key, p, in)
		}
	})
}

func TestAScanIsBoundedWhateverTheOptionsSay(t *testing.T) {
	for limit, want := range map[int]int{-1: store.MaxScan, 0: store.MaxScan, 1: 1, store.MaxScan: store.MaxScan, store.MaxScan + 1: store.MaxScan} {
		if got := (store.ScanOptions{Limit: limit}).Max(); got != want {
			t.Errorf("Max with limit %d = %d, want %d", limit, got, want)
		}
	}
}

func TestAScanIsFullAtTheFirstBoundItMeets(t *testing.T) {
	opt := store.ScanOptions{Limit: 3, MaxBytes: 10}
	for _, c := range []struct {
		records, bytes int
		full           bool
	}{{0, 0, false}, {2, 9, false}, {2, 10, true}, {3, 0, true}, {1, 11, true}} {
		if got := opt.Full(c.records, c.bytes); got != c.full {
			t.Errorf("Full(%d, %d) = %v", c.records, c.bytes, got)
		}
	}
	if (store.ScanOptions{}).Full(store.MaxScan-1, 1<<40) {
		t.Error("no bound of bytes is a bound")
	}
}

func TestRevisionsAreNeverZeroAndDoNotRepeat(t *testing.T) {
	seen := map[store.Revision]bool{0: true}
	for range 10_000 {
		r := store.NewRevision()
		if seen[r] {
			t.Fatalf("revision %d twice", r)
		}
		seen[r] = true
	}
}

func TestValidateHoldsTheLimitsToTheByte(t *testing.T) {
	key, value := strings.Repeat("k", store.MaxKey), make([]byte, store.MaxValue)
	fits := store.MaxBatch - 2*len("k") - store.MaxValue
	for _, c := range []struct {
		name string
		fill func(*store.Batch)
		ok   bool
	}{
		{"nothing", func(*store.Batch) {}, true},
		{"the longest key", func(b *store.Batch) { b.Put(key, nil); b.Delete(key); b.RequireAbsent(key) }, true},
		{"a put of a longer key", func(b *store.Batch) { b.Put(key+"k", nil) }, false},
		{"a delete of a longer key", func(b *store.Batch) { b.Delete(key + "k") }, false},
		{"a requirement of a longer key", func(b *store.Batch) { b.RequireRevision(key+"k", 1) }, false},
		{"a put of no key", func(b *store.Batch) { b.Put("", nil) }, false},
		{"a delete of no key", func(b *store.Batch) { b.Delete("") }, false},
		{"a requirement of no key", func(b *store.Batch) { b.RequireAbsent("") }, false},
		{"the longest value", func(b *store.Batch) { b.Put("k", value) }, true},
		{"a longer value", func(b *store.Batch) { b.Put("k", append(value, 0)) }, false},
		{"the longest batch", func(b *store.Batch) { b.Put("k", value); b.Put("k", value[:fits]) }, true},
		{"a longer batch", func(b *store.Batch) { b.Put("k", value); b.Put("k", value[:fits+1]) }, false},
	} {
		var b store.Batch
		c.fill(&b)
		if err := b.Validate(); (err == nil) != c.ok || err != nil && !errors.Is(err, store.ErrLimit) {
			t.Errorf("%s: Validate = %v", c.name, err)
		}
	}
}

func TestAllYieldsEveryRecordInOrder(t *testing.T) {
	ctx := context.Background()
	for _, n := range []int{0, 1, 255, 256, 257, 512, 600} {
		var s memstore.Store
		var b store.Batch
		b.Put("before", nil)
		b.Put("k;", nil)
		for i := range n {
			b.Put(fmt.Sprintf("k:%04d", i), nil)
		}
		if _, err := s.Commit(ctx, &b); err != nil {
			t.Fatal(err)
		}
		var got []string
		for r, err := range store.All(ctx, &s, store.Prefix("k:")) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r.Key)
		}
		if len(got) != n || !slices.IsSorted(got) {
			t.Errorf("All yields %d of %d records, in order %v", len(got), n, slices.IsSorted(got))
		}
	}
}

func TestAllTakesLargeValuesAFewAtATime(t *testing.T) {
	ctx, s := context.Background(), &pageStore{}
	var b store.Batch
	for i := range 20 {
		b.Put(fmt.Sprintf("%02d", i), make([]byte, 3<<20))
	}
	if _, err := s.Commit(ctx, &b); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range store.All(ctx, s, store.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 20 || s.largest > 4 {
		t.Errorf("All yields %d of 20 records of 3 MiB, up to %d in a page", n, s.largest)
	}
}

// pageStore notes the largest number of records that a Scan returned.
type pageStore struct {
	memstore.Store
	largest int
}

func (s *pageStore) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	recs, err := s.Store.Scan(ctx, r, opt)
	s.largest = max(s.largest, len(recs))
	return recs, err
}

func TestAllStopsWhenItsCallerDoes(t *testing.T) {
	var s memstore.Store
	var b store.Batch
	b.Put("a", nil)
	b.Put("b", nil)
	if _, err := s.Commit(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	for r, err := range store.All(context.Background(), &s, store.Range{}) {
		if err != nil || r.Key != "a" {
			t.Errorf("All = %q, %v", r.Key, err)
		}
		break
	}
	s.Close()
	for _, err := range store.All(context.Background(), &s, store.Range{}) {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("All of a closed store = %v", err)
		}
	}
}

func TestRetryGoesOnOnlyAfterAConflict(t *testing.T) {
	other := errors.New("another error")
	for _, c := range []struct {
		answers []error
		want    error
	}{
		{[]error{nil}, nil},
		{[]error{store.ErrConflict, store.ErrConflict, nil}, nil},
		{[]error{fmt.Errorf("wrapped: %w", store.ErrConflict), other}, other},
		{[]error{other}, other},
	} {
		tries := 0
		err := store.Retry(context.Background(), func() error { tries++; return c.answers[tries-1] })
		if !errors.Is(err, c.want) || tries != len(c.answers) {
			t.Errorf("Retry over %v = %v after %d tries", c.answers, err, tries)
		}
	}
}

func TestRetryEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		tries := 0
		err := store.Retry(ctx, func() error { tries++; return store.ErrConflict })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Retry = %v", err)
		}
		// The waits grow to 8 ms at most, 4 ms in the mean.
		if tries < 125 {
			t.Errorf("%d tries in a second: the waits grow too long", tries)
		}
	})
}
