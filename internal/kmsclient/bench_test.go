package kmsclient

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkSingleCalls is 32 goroutines that encrypt 1 KiB at a time, against a
// server in this process that does no cryptography.
func BenchmarkSingleCalls(b *testing.B) {
	for _, inFlight := range []int{1, 2, 3, 4} {
		b.Run(fmt.Sprintf("inflight=%d", inFlight), func(b *testing.B) {
			kms, c, _ := rig(b, Config{InFlight: inFlight})
			singleCalls(b, c)
			b.ReportMetric(float64(b.N)/float64(kms.calls.Load()), "calls/batch")
		})
	}
}

func singleCalls(b *testing.B, c *Client) {
	plaintext := strings.Repeat("x", 1024)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	b.ReportAllocs()
	from := cpu()
	b.ResetTimer()
	for range 32 {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := encryptOne(ctx, c, plaintext); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
	b.ReportMetric(float64(cpu()-from)/float64(b.N), "cpu-ns/op")
}

// cpu returns the time that this process has worked, client and server.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
