package main

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestEachOfDoesAll(t *testing.T) {
	for _, n := range []int{0, 1, 3, 100} {
		var sum atomic.Int64
		err := eachOf(t.Context(), n, 7, func(_ context.Context, i int) error { sum.Add(int64(i)); return nil })
		if err != nil || int(sum.Load()) != n*(n-1)/2 {
			t.Errorf("%d: sum %d, %v", n, sum.Load(), err)
		}
	}
}

func TestEachOfStopsAtTheFirstError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun atomic.Int64
		stop := errors.New("stop")
		err := eachOf(t.Context(), 1000, 4, func(context.Context, int) error {
			if begun.Add(1) == 10 {
				return stop
			}
			time.Sleep(time.Millisecond)
			return nil
		})
		if n := begun.Load(); !errors.Is(err, stop) || n < 10 || n > 12 {
			t.Errorf("%d begun, %v", n, err)
		}
	})
}

func TestAnInterruptLetsWorkFinishAndBeginsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var begun, finished atomic.Int64
		err := eachOf(ctx, 100, 4, func(work context.Context, _ int) error {
			if begun.Add(1) == 4 {
				cancel()
			}
			time.Sleep(finishTime / 2)
			if work.Err() == nil {
				finished.Add(1)
			}
			return work.Err()
		})
		if !errors.Is(err, context.Canceled) || begun.Load() != 4 || finished.Load() != 4 {
			t.Errorf("%d begun, %d finished, %v", begun.Load(), finished.Load(), err)
		}
	})
}

func TestWorkThatDoesNotEndIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := eachOf(ctx, 1, 1, func(work context.Context, _ int) error { <-work.Done(); return work.Err() })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("answered %v", err)
		}
		work, release := outlive(ctx, finishTime)
		defer release()
		begin := time.Now()
		<-work.Done()
		if d := time.Since(begin); d != finishTime {
			t.Errorf("given up after %v", d)
		}
	})
}

func TestAnInterruptAfterTheLastIsNone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := eachOf(ctx, 1, 1, func(context.Context, int) error { cancel(); return nil })
	if err != nil {
		t.Errorf("answered %v", err)
	}
}
