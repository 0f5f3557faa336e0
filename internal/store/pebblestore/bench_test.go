package pebblestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/keyfold/keyfold/internal/store"
)

// BenchmarkCommit makes synced commits of one record of 1 KiB, by 1 and by 32
// writers at once, without a precondition and with one (that the key is new).
func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 32} {
		for _, conditional := range []bool{false, true} {
			b.Run(fmt.Sprintf("writers=%d/conditional=%v", writers, conditional), func(b *testing.B) {
				benchmarkCommit(b, writers, 1<<10, conditional)
			})
		}
	}
}

// BenchmarkCommitLarge makes synced commits of one record of 60 KiB, by 32
// writers at once. For a figure that counts the compactions, ask for 20,000.
func BenchmarkCommitLarge(b *testing.B) { benchmarkCommit(b, 32, 60<<10, false) }

func benchmarkCommit(b *testing.B, writers, size int, conditional bool) {
	s := open(b, b.TempDir(), Options{})
	defer s.Close()
	value := random(rand.New(rand.NewPCG(1, 1)), size)
	var n atomic.Int64
	b.ReportAllocs()
	b.SetBytes(int64(size))
	defer reportCPU(b)()
	b.ResetTimer()
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
				putNew(b, s, i, value, conditional)
			}
		})
	}
	group.Wait()
}

// reportCPU adds the CPU time of the process per operation, which says more than
// the wall clock when other work shares the machine.
func reportCPU(b *testing.B) func() {
	before := cpuTime(b)
	return func() { b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op") }
}

func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

func putNew(b *testing.B, s *Store, n int64, value []byte, conditional bool) {
	var batch store.Batch
	key := fmt.Sprintf("thread:%04d:msg:%016d", n%100, n)
	batch.Put(key, value)
	if conditional {
		batch.RequireAbsent(key)
	}
	if _, err := s.Commit(context.Background(), &batch); err != nil {
		b.Error(err)
	}
}

// stocked returns a store with 20,000 records of 1 KiB, most of them in tables.
func stocked(b testing.TB) *Store {
	s := open(b, b.TempDir(), Options{})
	value := random(rand.New(rand.NewPCG(1, 1)), 1<<10)
	for i := range 200 {
		var batch store.Batch
		for j := range 100 {
			batch.Put(key(i*100+j), value)
		}
		if _, err := s.Commit(context.Background(), &batch); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

func key(n int) string { return fmt.Sprintf("thread:%04d:msg:%016d", n/1000, n) }

func BenchmarkGet(b *testing.B) {
	s := stocked(b)
	defer s.Close()
	ctx, r := context.Background(), rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	defer reportCPU(b)()
	for b.Loop() {
		if _, err := s.Get(ctx, key(r.IntN(20_000))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScan50(b *testing.B) {
	s := stocked(b)
	defer s.Close()
	ctx, r := context.Background(), rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	defer reportCPU(b)()
	for b.Loop() {
		recs, err := s.Scan(ctx, store.Range{Start: key(r.IntN(19_000))}, store.ScanOptions{Limit: 50})
		if err != nil || len(recs) != 50 {
			b.Fatal(len(recs), err)
		}
	}
}
