package metered

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

func TestAMeteredStoreIsAStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return New(memstore.New(), prometheus.NewRegistry()) })
}

func TestEveryCallIsCountedByWhatBecameOfIt(t *testing.T) {
	reg, ctx := prometheus.NewRegistry(), t.Context()
	s := New(memstore.New(), reg)
	var b store.Batch
	b.RequireAbsent("k")
	b.Put("k", []byte("canary-value"))
	for _, want := range []error{nil, store.ErrConflict} {
		if _, err := s.Commit(ctx, &b); !errors.Is(err, want) {
			t.Fatal(err)
		}
	}
	s.Get(ctx, "k")
	s.Get(ctx, "canary-key")
	s.Scan(ctx, store.Range{}, store.ScanOptions{})
	s.Close()
	s.Get(ctx, "k")
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP keyfold_store_operations_total Calls of the store. Outcome conflict: another change was faster, and whoever called begins again.
# TYPE keyfold_store_operations_total counter
keyfold_store_operations_total{operation="commit",outcome="conflict"} 1
keyfold_store_operations_total{operation="commit",outcome="error"} 0
keyfold_store_operations_total{operation="commit",outcome="not_found"} 0
keyfold_store_operations_total{operation="commit",outcome="ok"} 1
keyfold_store_operations_total{operation="get",outcome="conflict"} 0
keyfold_store_operations_total{operation="get",outcome="error"} 1
keyfold_store_operations_total{operation="get",outcome="not_found"} 1
keyfold_store_operations_total{operation="get",outcome="ok"} 1
keyfold_store_operations_total{operation="scan",outcome="conflict"} 0
keyfold_store_operations_total{operation="scan",outcome="error"} 0
keyfold_store_operations_total{operation="scan",outcome="not_found"} 0
keyfold_store_operations_total{operation="scan",outcome="ok"} 1
`), "keyfold_store_operations_total")
	if err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(reg, "keyfold_store_operation_duration_seconds"); n != 3 || err != nil {
		t.Errorf("%d histograms, %v", n, err)
	}
}

func TestMeteringAGetAllocatesNothing(t *testing.T) {
	plain, ctx := memstore.New(), context.Background()
	var b store.Batch
	b.Put("k", []byte("v"))
	if _, err := plain.Commit(ctx, &b); err != nil {
		t.Fatal(err)
	}
	allocs := func(s store.Store) float64 { return testing.AllocsPerRun(100, func() { s.Get(ctx, "k") }) }
	if own := allocs(New(plain, prometheus.NewRegistry())) - allocs(plain); own != 0 {
		t.Errorf("metering a Get allocates %.0f times", own)
	}
}

func BenchmarkGet(b *testing.B) {
	plain := memstore.New()
	var batch store.Batch
	batch.Put("k", []byte("v"))
	if _, err := plain.Commit(context.Background(), &batch); err != nil {
		b.Fatal(err)
	}
	for name, s := range map[string]store.Store{"plain": plain, "metered": New(plain, prometheus.NewRegistry())} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Get(context.Background(), "k")
			}
		})
	}
}
