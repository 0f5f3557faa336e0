package server

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyfold/keyfold/internal/httpx"
)

// requests counts what the server answered, by the rows of its table: how often,
// with which status, how long it took. Nothing of a request is in it but which row
// it met; all that met none are one.
type requests struct {
	count   *prometheus.CounterVec   // route, method, code
	seconds *prometheus.HistogramVec // route, method
}

// newRequests returns counters in reg, which shows calls, those under way, too.
func newRequests(reg prometheus.Registerer, calls func() int64) *requests {
	m := &requests{
		count: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "keyfold_http_requests_total",
			Help: "Requests answered, by the route's pattern. Route none: there is no such route, or it does not take the method. Code 0: there was no answer."}, []string{"route", "method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "keyfold_http_request_duration_seconds",
			Help:    "Time from a request's head to the end of its answer. Streams of events last until they end.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60}}, []string{"route", "method"}),
	}
	reg.MustRegister(m.count, m.seconds,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "keyfold_http_requests_in_flight", Help: "Requests that are being answered."},
			func() float64 { return float64(calls()) }))
	return m
}

// codes are statuses as labels; strconv.Itoa would allocate each.
var codes = func() (all [600]string) {
	for i := range all {
		all[i] = strconv.Itoa(i)
	}
	return all
}()

// observe is httpx.Config.Observe.
func (m *requests) observe(row *httpx.Row, status int, took time.Duration) {
	route, method := "none", "none"
	if row != nil {
		route, method = row.Pattern, row.Method
	}
	m.count.WithLabelValues(route, method, codes[status]).Inc()
	m.seconds.WithLabelValues(route, method).Observe(took.Seconds())
}
