package pgstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

func putBoth(t *testing.T, s *Store, v int) {
	t.Helper()
	b := new(store.Batch)
	b.Put("a", fmt.Append(nil, v))
	b.Put("z", fmt.Append(nil, 1000-v))
	if _, err := s.Commit(t.Context(), b); err != nil {
		t.Error(err)
	}
}

func mustSnapshot(t *testing.T, s *Store) store.Snapshot {
	t.Helper()
	n, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestASnapshotIsOfOneMoment(t *testing.T) {
	s, err := Open(t.Context(), pgtest.URL(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	putBoth(t, s, 0)
	var writing sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	writing.Go(func() {
		for i := 1; ctx.Err() == nil; i++ {
			putBoth(t, s, i%1000)
		}
	})
	for range 20 {
		n := mustSnapshot(t, s)
		sum := 0
		for i, r := range []store.Range{{Start: "a", End: "b"}, {Start: "z"}, {Start: "b", End: "z"}} {
			recs, err := n.Scan(t.Context(), r, store.ScanOptions{MaxBytes: 100})
			if err != nil || len(recs) != 1 && i < 2 || len(recs) != 0 && i == 2 {
				t.Fatalf("%v, %v", recs, err)
			}
			for _, rec := range recs {
				var v int
				if _, err := fmt.Sscan(string(rec.Value), &v); err != nil || rec.Revision == 0 {
					t.Fatal(rec, err)
				}
				sum += v
			}
			putBoth(t, s, 7+i)
		}
		if sum != 1000 {
			t.Errorf("a snapshot of two moments: %d", sum)
		}
		if err := errors.Join(n.Close(), n.Close()); err != nil {
			t.Error(err)
		}
		if _, err := n.Scan(t.Context(), store.Range{}, store.ScanOptions{}); !errors.Is(err, store.ErrClosed) {
			t.Errorf("a scan after its close: %v", err)
		}
	}
	stop()
	writing.Wait()
}

func TestAStoreClosesAfterItsSnapshots(t *testing.T) {
	s, err := Open(t.Context(), pgtest.URL(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	n := mustSnapshot(t, s)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Scan(done, store.Range{}, store.ScanOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a done context: %v", err)
	}
	if _, err := s.Snapshot(done); !errors.Is(err, context.Canceled) {
		t.Errorf("a snapshot with a done context: %v", err)
	}
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	for range 10 {
		if _, err := n.Scan(t.Context(), store.Range{}, store.ScanOptions{Reverse: true}); err != nil {
			t.Errorf("while the store waits to be closed: %v", err)
		}
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err := <-closed; err != nil {
		t.Errorf("the store's close: %v", err)
	}
	if _, err := s.Snapshot(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("snapshot of a closed store: %v", err)
	}
}
