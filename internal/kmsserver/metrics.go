package kmsserver

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
)

// metrics counts what the server does: routes, codes, sizes and times. No name
// of a key or a caller is in it.
type metrics struct {
	requests *prometheus.CounterVec   // route, code
	seconds  *prometheus.HistogramVec // route
	items    *prometheus.CounterVec   // route, outcome
	batch    *prometheus.HistogramVec // route
	refused  prometheus.Counter
	show     http.Handler
}

func newMetrics(reg *prometheus.Registry, cs *conns) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "keyfold_kms_requests_total", Help: "Requests answered."}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "keyfold_kms_request_seconds", Help: "Time from a request's head to the end of its answer.",
			Buckets: prometheus.ExponentialBuckets(50e-6, 4, 10)}, []string{"route"}),
		items: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "keyfold_kms_items_total", Help: "Items answered; the outcome is ok or the code of the failure."}, []string{"route", "outcome"}),
		batch: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "keyfold_kms_batch_items", Help: "Items in one request.",
			Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}}, []string{"route"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "keyfold_kms_refused_total", Help: "Requests of callers who are not in the list or lack the role."}),
		show:    promhttp.HandlerFor(reg, promhttp.HandlerOpts{DisableCompression: true}),
	}
	reg.MustRegister(m.requests, m.seconds, m.items, m.batch, m.refused)
	reg.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "keyfold_kms_connections_fresh", Help: "Connections that have not sent a request of a listed caller."},
			func() float64 { return float64(cs.counts().fresh) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "keyfold_kms_connections", Help: "Connections of listed callers."},
			func() float64 { return float64(cs.counts().known) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "keyfold_kms_connections_fresh_ended_total", Help: "Fresh connections ended because there were too many."},
			func() float64 { return float64(cs.counts().freshEnded) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "keyfold_kms_connections_ended_total", Help: "Connections of listed callers ended because there were too many."},
			func() float64 { return float64(cs.counts().knownEnded) }),
	)
	return m
}

// observe is httpx.Config.Observe.
func (m *metrics) observe(row *httpx.Row, status int, took time.Duration) {
	route := "none"
	if row != nil {
		route = row.Pattern
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// count counts the items of one call by what became of them.
func (m *metrics) count(route string, n int, failed map[fault.Code]int) {
	m.batch.WithLabelValues(route).Observe(float64(n))
	for code, k := range failed {
		m.items.WithLabelValues(route, string(code)).Add(float64(k))
		n -= k
	}
	m.items.WithLabelValues(route, "ok").Add(float64(n))
}

// page is a http.ResponseWriter that keeps what it gets.
type page struct {
	header http.Header
	body   []byte
}

func (p *page) Header() http.Header         { return p.header }
func (p *page) WriteHeader(int)             {}
func (p *page) Write(b []byte) (int, error) { p.body = append(p.body, b...); return len(b), nil }

// answer answers GET /metrics.
func (m *metrics) answer(_ context.Context, c *httpx.Call) error {
	p := &page{header: http.Header{}}
	m.show.ServeHTTP(p, &http.Request{Method: http.MethodGet, URL: new(url.URL), Header: http.Header{}})
	c.Send(http.StatusOK, p.header["Content-Type"], p.body)
	return nil
}
