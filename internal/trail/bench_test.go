package trail

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

// BenchmarkRecord is one event at a time, and of 64 goroutines at once, on disk.
func BenchmarkRecord(b *testing.B) {
	b.Run("1", func(b *testing.B) { benchRecord(b, 1) })
	b.Run("64", func(b *testing.B) { benchRecord(b, 64) })
}

func benchRecord(b *testing.B, callers int) {
	w := newWorld(b)
	disk, err := pebblestore.Open(b.TempDir(), pebblestore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer disk.Close()
	w.store = disk
	tr, err := Open(b.Context(), Config{Store: disk, Box: w.box(disk), Every: -1})
	if err != nil {
		b.Fatal(err)
	}
	e := event("o", "secret.read")
	var next atomic.Int64
	var all sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range callers {
		all.Go(func() {
			for next.Add(1) <= int64(b.N) {
				if err := tr.Record(context.Background(), e); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	if err := tr.Close(); err != nil {
		b.Error(err)
	}
}

// BenchmarkVerify is one call at its most, in memory.
func BenchmarkVerify(b *testing.B) {
	w := newWorld(b)
	tr := w.open()
	for i := range MaxVerify {
		if err := tr.Record(b.Context(), event("o", "secret.read")); err != nil {
			b.Fatal(err)
		}
		if i%100 == 99 {
			w.checkpoint(tr)
		}
	}
	r := w.reader(tr)
	b.ReportAllocs()
	for b.Loop() {
		if v, err := r.Verify(b.Context(), owner, VerifyQuery{Limit: MaxVerify}); err != nil || v.EventsSigned != MaxVerify {
			b.Fatalf("%+v, %v", v, err)
		}
	}
	b.ReportMetric(MaxVerify*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
