package keymetrics

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// fakeKMS counts how often it is asked.
type fakeKMS struct {
	since map[string]time.Time
	err   error
	asked int
}

func (f *fakeKMS) KeyAges(context.Context) (map[string]time.Time, error) {
	f.asked++
	return f.since, f.err
}

func collected(c *Collector) int {
	out := make(chan prometheus.Metric, 10)
	c.Collect(out)
	return len(out)
}

func TestAStoreThatFailsIsAskedOnceAMinuteAndTheAgesStay(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	f := &fakeKMS{err: errors.New("the store is away")}
	c := New(f, func() time.Time { return now })
	scrape := func(times, ages, asked int) {
		t.Helper()
		for range times {
			if n := collected(c); n != ages {
				t.Errorf("%d ages, want %d", n, ages)
			}
		}
		if f.asked != asked {
			t.Errorf("asked %d times, want %d", f.asked, asked)
		}
	}
	scrape(3, 0, 1) // nothing is known yet
	now = now.Add(lookEvery)
	f.since, f.err = map[string]time.Time{"threads": now, "audit": now}, nil
	scrape(3, 2, 2)
	now = now.Add(lookEvery)
	f.since, f.err = nil, errors.New("the store is away")
	scrape(3, 2, 3)
	now = now.Add(lookEvery)
	f.since = map[string]time.Time{"threads": now}
	f.err = nil
	scrape(3, 1, 4)
}

// slowKMS answers after a while, whatever the context says.
type slowKMS struct {
	takes atomic.Int64 // a Duration
	asked atomic.Int32
}

func (s *slowKMS) KeyAges(context.Context) (map[string]time.Time, error) {
	s.asked.Add(1)
	time.Sleep(time.Duration(s.takes.Load()))
	return map[string]time.Time{"threads": time.Now()}, nil
}

func TestAScrapeWaitsTwoSecondsForTheAgesAndALaterOneHasThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k slowKMS
		c := New(&k, nil)
		scrape := func(ages int, wait time.Duration, asked int32) {
			t.Helper()
			start := time.Now()
			n := collected(c)
			if took := time.Since(start); n != ages || took != wait || k.asked.Load() != asked {
				t.Errorf("%d ages after %v, asked %d times; want %d after %v, %d", n, took, k.asked.Load(), ages, wait, asked)
			}
		}
		k.takes.Store(int64(3 * time.Second))
		scrape(0, 2*time.Second, 1)
		time.Sleep(2 * time.Second)
		scrape(1, 0, 1)
		k.takes.Store(int64(time.Hour)) // the store is stuck
		time.Sleep(lookEvery)
		for range 5 {
			scrape(1, 2*time.Second, 2)
			time.Sleep(lookEvery)
		}
		time.Sleep(2 * time.Hour)
	})
}
