package audit

import (
	"context"
	"sync/atomic"
	"testing"
)

var event = Event{Actor: "uid:1000", Action: "breakglass.read", Target: "0198aaaa-0000-7000-8000-000000000001", Detail: map[string]any{"messages": 50}}

// BenchmarkRecord is one record at a time, and of 32 callers at once.
func BenchmarkRecord(b *testing.B) {
	b.Run("1", func(b *testing.B) { benchRecord(b, 1) })
	b.Run("32", func(b *testing.B) { benchRecord(b, 32) })
}

func benchRecord(b *testing.B, callers int) {
	l := open(b, newDir(b), Options{})
	var next atomic.Int64
	done := make(chan error, callers)
	b.ReportAllocs()
	b.ResetTimer()
	for range callers {
		go func() {
			for next.Add(1) <= int64(b.N) {
				if err := l.Record(context.Background(), event); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range callers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkVerify reads a log of 20000 records in groups of 10.
func BenchmarkVerify(b *testing.B) {
	dir := newDir(b)
	l := open(b, dir, Options{})
	for range 2000 {
		if err := l.Record(b.Context(), event, event, event, event, event, event, event, event, event, event); err != nil {
			b.Fatal(err)
		}
	}
	closeLog(b, l)
	for b.Loop() {
		if r := verify(b, dir); !r.OK() {
			b.Fatal(r)
		}
	}
	b.ReportMetric(20_000*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
