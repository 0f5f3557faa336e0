package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestABucketsUpperBoundIsItsGreatestDuration(t *testing.T) {
	for i := range 64 * 50 {
		d := upper(i)
		if bucket(d) != i || bucket(d+1) != i+1 {
			t.Fatalf("bucket %d ends at %d, which is in %d; the next is in %d", i, d, bucket(d), bucket(d+1))
		}
	}
}

func TestEveryDurationHasABucket(t *testing.T) {
	var h histogram
	for _, d := range []time.Duration{-1, 0, 1, 63, 64, 127, 128, time.Hour, math.MaxInt64} {
		h.add(d)
	}
	if h.total != 9 || h.max != math.MaxInt64 {
		t.Errorf("total %d, max %d", h.total, h.max)
	}
}

func TestQuantilesAreTwoPercentFromThoseOfTheSortedSample(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var a, b histogram
	var sample []time.Duration
	for i := range 20_000 {
		d := time.Duration(math.Exp(r.NormFloat64()*2 + 12))
		sample = append(sample, d)
		[]*histogram{&a, &b}[i%2].add(d)
	}
	a.merge(&b)
	slices.Sort(sample)
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 1} {
		want := sample[min(int(q*float64(len(sample))), len(sample)-1)]
		if got := a.quantile(q); got < want || float64(got) > 1.02*float64(want)+1 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}
