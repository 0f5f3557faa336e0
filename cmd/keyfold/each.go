package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// finishTime is how long calls that are under way may take after an interrupt.
const finishTime = 10 * time.Second

// eachOf calls do for 0 to n-1, some at once, begun in this order. At the
// first error, or when ctx ends, it begins no more, lets those under way
// finish under a context that outlives ctx a little, and returns the error or
// ctx's. It returns nil when all were done.
func eachOf(ctx context.Context, n, workers int, do func(ctx context.Context, i int) error) error {
	work, release := outlive(ctx, finishTime)
	defer release()
	var next, done atomic.Int64
	failed := make(chan struct{})
	var failure error
	var once sync.Once
	var wg sync.WaitGroup
	for range min(workers, n) {
		wg.Go(func() {
			for !ended(ctx.Done()) && !ended(failed) {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(work, i); err != nil {
					once.Do(func() { failure = err; close(failed) })
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if failure != nil {
		return failure
	}
	if int(done.Load()) < n {
		return ctx.Err()
	}
	return nil
}

func ended(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// outlive returns a context that ends d after ctx does.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return work, func() { stop(); cancel() }
}
