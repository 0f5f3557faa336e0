// Package keymetrics shows Prometheus how old keys are, wherever the KMS runs: in a
// process of its own or in the server's. No name of a key is in it.
package keymetrics

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// KMS tells since when the oldest key of each kind is in use: see
// kms.Service.KeyAges.
type KMS interface {
	KeyAges(ctx context.Context) (map[string]time.Time, error)
}

// How often the rows of keys are read at most, how long that may take, and for how much
// of it a scrape waits.
const (
	lookEvery = time.Minute
	lookTime  = 5 * time.Second
	waitTime  = 2 * time.Second
)

// Collector is keyfold_key_age_seconds{kind}. What it shows is of the last minute, or
// where the keys cannot be read now, of when they last could.
type Collector struct {
	kms KMS
	now func() time.Time

	mu    sync.Mutex    // guards all below
	at    time.Time     // keys were last asked for, whatever the answer
	done  chan struct{} // is closed when that has an answer; nil: they never were
	since map[string]time.Time
}

// New returns a Collector. now is nil for time.Now.
func New(kms KMS, now func() time.Time) *Collector {
	if now == nil {
		now = time.Now
	}
	return &Collector{kms: kms, now: now}
}

var ages = prometheus.NewDesc("keyfold_key_age_seconds",
	"Age of the oldest key of a kind: primaries of KEKs (threads, server, audit, vault), a sample of threads' DEKs (thread_dek), and how long the root key has been in use (root).", []string{"kind"}, nil)

// Describe is prometheus.Collector's.
func (c *Collector) Describe(out chan<- *prometheus.Desc) { out <- ages }

// Collect is prometheus.Collector's. Keys grow older while they cannot be read, so the
// last ages stay; there are none before the first.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	now := c.now()
	select {
	case <-c.look(now):
	case <-time.After(waitTime):
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for kind, t := range c.since {
		out <- prometheus.MustNewConstMetric(ages, prometheus.GaugeValue, max(0, now.Sub(t).Seconds()), kind)
	}
}

// look asks for the keys where it is time to, unless that is under way; what it returns
// is closed when there is an answer.
func (c *Collector) look(now time.Time) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done != nil {
		select {
		case <-c.done:
		default:
			return c.done
		}
		if now.Sub(c.at) < lookEvery {
			return c.done
		}
	}
	c.at, c.done = now, make(chan struct{})
	go c.ask(c.done)
	return c.done
}

func (c *Collector) ask(done chan struct{}) {
	defer close(done)
	ctx, cancel := context.WithTimeout(context.Background(), lookTime)
	defer cancel()
	if since, err := c.kms.KeyAges(ctx); err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.since = since
	}
}
