package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/store"
)

// TestASnapshotShowsOneMoment moves a sum between two keys, far apart, without
// pause. Whoever reads them at two moments sees the sum change.
func TestASnapshotShowsOneMoment(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put := func(n int) {
		var b store.Batch
		b.Put("a", fmt.Append(nil, n))
		b.Put("z", fmt.Append(nil, 1000-n))
		if _, err := s.Commit(t.Context(), &b); err != nil {
			t.Error(err)
		}
	}
	put(0)
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			put(n % 1000)
		}
	})
	for range 50 {
		if got := sumAt(t, s, put); got != 1000 {
			t.Errorf("the sum was %d; want 1000", got)
		}
	}
	stop()
	writer.Wait()
}

// sumAt reads both keys of one snapshot, with another commit in between.
func sumAt(t *testing.T, s *Store, put func(int)) (sum int) {
	t.Helper()
	n, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for i, r := range []store.Range{{Start: "a", End: "b"}, {Start: "z"}} {
		recs, err := n.Scan(t.Context(), r, store.ScanOptions{})
		if err != nil || len(recs) != 1 {
			t.Fatalf("%v, %v", recs, err)
		}
		var v int
		if _, err := fmt.Sscan(string(recs[0].Value), &v); err != nil {
			t.Fatal(err)
		}
		sum += v
		put(500 + i)
	}
	return sum
}

func TestAStoreClosesAfterItsSnapshots(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	n, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	for range 10 {
		if _, err := n.Scan(t.Context(), store.Range{}, store.ScanOptions{}); err != nil {
			t.Errorf("while the store waits to be closed: %v", err)
		}
	}
	if err := errors.Join(n.Close(), n.Close()); err != nil {
		t.Errorf("two closes: %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("the store's close: %v", err)
	}
	if _, err := n.Scan(t.Context(), store.Range{}, store.ScanOptions{}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("scan of a closed snapshot: %v", err)
	}
	if _, err := s.Snapshot(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("snapshot of a closed store: %v", err)
	}
}
