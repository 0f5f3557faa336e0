//go:build !race

package pebblestore

import (
	"context"
	"math"
	"testing"

	"github.com/keyfold/keyfold/internal/store"
)

// TestHotCallsAllocateLittle holds the counts of the calls that every request
// makes. The race detector allocates too, hence the build tag.
func TestHotCallsAllocateLittle(t *testing.T) {
	s := stocked(t)
	defer s.Close()
	ctx, value := context.Background(), make([]byte, 1<<10)
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		most float64
		call func() error
	}{
		{"Get", 4, func() error { _, err := s.Get(ctx, key(7)); return err }},
		{"Scan of 50", 105, func() error {
			_, err := s.Scan(ctx, store.Range{Start: key(7)}, store.ScanOptions{Limit: 50})
			return err
		}},
		{"Commit of one put", 2, func() error {
			b := store.Batch{Writes: []store.Write{{Key: "k", Value: value}}}
			_, err := s.Commit(ctx, &b)
			return err
		}},
	} {
		got := math.Inf(1)
		for range 5 { // the least is the call's own: what Pebble does beside it only adds
			got = min(got, testing.AllocsPerRun(200, func() {
				if err := c.call(); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			}))
		}
		if t.Logf("%s: %v allocations", c.name, got); got > c.most {
			t.Errorf("%s allocates %v times, at most %v is fine", c.name, got, c.most)
		}
	}
}
