package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in fixed buckets: 64 to each power of two
// nanoseconds, so that a value read back is at most 1.6 % too high. The zero
// value is ready for use; it belongs to one goroutine until it is merged.
type histogram struct {
	counts [64 * 58]uint64
	total  uint64
	max    time.Duration
}

func bucket(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < 64 {
		return int(v)
	}
	shift := bits.Len64(v) - 7 // v>>shift is in [64, 128)
	return 64*shift + int(v>>shift)
}

// upper is the greatest duration that falls into bucket i.
func upper(i int) time.Duration {
	if i < 128 {
		return time.Duration(i)
	}
	shift := i/64 - 1
	return time.Duration((uint64(i-64*shift)+1)<<shift - 1)
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(d)]++
	h.total++
	h.max = max(h.max, d)
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
	h.max = max(h.max, o.max)
}

// quantile is the duration that a share q (0 to 1) of the values do not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	rank, seen := uint64(q*float64(h.total)), uint64(0)
	for i, n := range h.counts {
		if seen += n; seen > rank {
			return min(upper(i), h.max)
		}
	}
	return h.max
}
