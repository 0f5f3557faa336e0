// Package cachestat counts how caches do, and shows it to Prometheus. What a cache
// holds is not in it.
package cachestat

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Counts are of one cache, since the process began. They may be used by many
// goroutines; the zero Counts is ready.
type Counts struct{ hits, misses, evictions atomic.Uint64 }

// Looked counts one look.
func (c *Counts) Looked(found bool) {
	if found {
		c.hits.Add(1)
	} else {
		c.misses.Add(1)
	}
}

// Evicted counts what had to make room for another.
func (c *Counts) Evicted() { c.evictions.Add(1) }

// Stats is how a cache stood at one moment.
type Stats struct {
	Hits, Misses, Evictions uint64
	Entries                 int
}

// Stats is c, of a cache with so many entries.
func (c *Counts) Stats(entries int) Stats {
	return Stats{c.hits.Load(), c.misses.Load(), c.evictions.Load(), entries}
}

// Add adds o to s.
func (s *Stats) Add(o Stats) {
	s.Hits, s.Misses, s.Evictions, s.Entries = s.Hits+o.Hits, s.Misses+o.Misses, s.Evictions+o.Evictions, s.Entries+o.Entries
}

// Collector shows caches by their names, which are constants of the program.
type Collector map[string]func() Stats

var (
	lookups   = prometheus.NewDesc("keyfold_cache_lookups_total", "Looks into a cache, by whether it had what was looked for.", []string{"cache", "outcome"}, nil)
	evictions = prometheus.NewDesc("keyfold_cache_evictions_total", "What left a cache to make room.", []string{"cache"}, nil)
	entries   = prometheus.NewDesc("keyfold_cache_entries", "What a cache holds now.", []string{"cache"}, nil)
)

// Describe is prometheus.Collector's.
func (c Collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{lookups, evictions, entries} {
		out <- d
	}
}

// Collect is prometheus.Collector's.
func (c Collector) Collect(out chan<- prometheus.Metric) {
	for name, stats := range c {
		s := stats()
		out <- prometheus.MustNewConstMetric(lookups, prometheus.CounterValue, float64(s.Hits), name, "hit")
		out <- prometheus.MustNewConstMetric(lookups, prometheus.CounterValue, float64(s.Misses), name, "miss")
		out <- prometheus.MustNewConstMetric(evictions, prometheus.CounterValue, float64(s.Evictions), name)
		out <- prometheus.MustNewConstMetric(entries, prometheus.GaugeValue, float64(s.Entries), name)
	}
}
