package keymetrics

import (
	"context"
	"errors"
	"testing"
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
