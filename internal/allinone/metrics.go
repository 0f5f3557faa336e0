package allinone

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/keyfold/keyfold/internal/cachestat"
	"github.com/keyfold/keyfold/internal/keymetrics"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/token"
	"github.com/keyfold/keyfold/internal/trail"
)

// newMetrics returns what a process measures of itself whatever it does.
func newMetrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// show registers the caches of the server, of an embedded KMS (keys, nil for
// none), the audit trail and the ages of keys.
func (n *Node) show(keys *kms.Service, tokens *token.Service, t *trail.Trail, cfg Config) {
	caches := cachestat.Collector{"tokens": tokens.Cache}
	if s, ok := store.As[interface{ Cache() cachestat.Stats }](n.Store); ok {
		caches["rows"] = s.Cache
	}
	if keys != nil {
		for name, stats := range keys.Caches() {
			caches[name] = stats
		}
		n.metrics.MustRegister(keymetrics.New(keys, cfg.Now))
	}
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	n.metrics.MustRegister(caches, trailMetrics{t},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "keyfold_token_signing_key_age_seconds", Help: "How long the key that signs access tokens has done so; 0 before the first token."}, func() float64 {
			if since := tokens.SigningSince(); !since.IsZero() {
				return max(0, now().Sub(since).Seconds())
			}
			return 0
		}))
}

// trailMetrics shows how the audit trail stands. No event is in it.
type trailMetrics struct{ trail *trail.Trail }

var (
	auditWaiting = prometheus.NewDesc("keyfold_audit_waiting_records", "Events of the audit trail that are not on stable storage yet; their calls wait for it.", nil, nil)
	auditLast    = prometheus.NewDesc("keyfold_audit_last_record_timestamp_seconds", "When this process last stored events of the audit trail; 0: not yet.", nil, nil)
	auditFailed  = prometheus.NewDesc("keyfold_audit_failed_records_total", "Events of the audit trail that could not be stored; what they stand for was not done.", nil, nil)
)

// Describe is prometheus.Collector's.
func (m trailMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{auditWaiting, auditLast, auditFailed} {
		out <- d
	}
}

// Collect is prometheus.Collector's.
func (m trailMetrics) Collect(out chan<- prometheus.Metric) {
	s := m.trail.Stats()
	last := 0.0
	if !s.Last.IsZero() {
		last = float64(s.Last.UnixNano()) / 1e9
	}
	out <- prometheus.MustNewConstMetric(auditWaiting, prometheus.GaugeValue, float64(s.Waiting))
	out <- prometheus.MustNewConstMetric(auditLast, prometheus.GaugeValue, last)
	out <- prometheus.MustNewConstMetric(auditFailed, prometheus.CounterValue, float64(s.Failed))
}
