package server

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyfold/keyfold/internal/httpx"
)

// requests counts what the server answered, by the rows of its table: how often,
// with which status, how long it took. Nothing of a request is in it but which row
// it met; all that met none are one. An answer costs it a few atomic additions and
// no memory.
type requests struct {
	rows  map[*httpx.Row]*answers // whole before the first answer, and then only read
	none  answers
	calls func() int64 // under way
}

// answers are those of one row.
type answers struct {
	method, route string
	codes         [len(codes)]atomic.Uint64 // by place in codes
	within        [len(bounds) + 1]atomic.Uint64
	nanoseconds   atomic.Int64
}

// bounds are those of the histogram, beyond which there is one more bucket.
var bounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 10 * time.Second, time.Minute,
}

// codes are the statuses that are told apart; the first stands for all others, and
// for a call that got no answer.
var codes = [...]int{
	0, http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent, http.StatusFound, http.StatusNotModified,
	http.StatusBadRequest, http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
	http.StatusRequestTimeout, http.StatusConflict, http.StatusGone, http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge,
	http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusTooManyRequests,
	http.StatusInternalServerError, http.StatusNotImplemented, http.StatusServiceUnavailable, http.StatusInsufficientStorage,
}

// places is codes backwards.
var places = func() (all [600]uint8) {
	for i, code := range codes {
		all[code] = uint8(i)
	}
	return all
}()

func newRequests(rows []httpx.Row) *requests {
	m := &requests{rows: make(map[*httpx.Row]*answers, len(rows)), none: answers{method: "none", route: "none"}}
	for i := range rows {
		m.rows[&rows[i]] = &answers{method: rows[i].Method, route: rows[i].Pattern}
	}
	return m
}

// observe is httpx.Config.Observe.
func (m *requests) observe(row *httpx.Row, status int, took time.Duration) {
	a := m.rows[row]
	if a == nil {
		a = &m.none
	}
	place := uint8(0)
	if status >= 0 && status < len(places) {
		place = places[status]
	}
	bucket := 0
	for bucket < len(bounds) && took > bounds[bucket] {
		bucket++
	}
	a.codes[place].Add(1)
	a.within[bucket].Add(1)
	a.nanoseconds.Add(int64(took))
}

var (
	requestCount   = prometheus.NewDesc("keyfold_http_requests_total", "Requests answered, by the route's pattern. Route none: there is no such route, or it does not take the method.", []string{"route", "method", "code"}, nil)
	requestSeconds = prometheus.NewDesc("keyfold_http_request_duration_seconds", "Time from a request's head to the end of its answer. Streams of events last until they end.", []string{"route", "method"}, nil)
	requestsNow    = prometheus.NewDesc("keyfold_http_requests_in_flight", "Requests that are being answered.", nil, nil)
)

func (m *requests) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requestCount, requestSeconds, requestsNow} {
		ch <- d
	}
}

// Collect tells of the routes that were answered at least once.
func (m *requests) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(requestsNow, prometheus.GaugeValue, float64(m.calls()))
	m.none.collect(ch)
	for _, a := range m.rows {
		a.collect(ch)
	}
}

func (a *answers) collect(ch chan<- prometheus.Metric) {
	for i := range a.codes {
		n, name := a.codes[i].Load(), "other"
		if i > 0 {
			name = strconv.Itoa(codes[i])
		}
		if n > 0 {
			ch <- prometheus.MustNewConstMetric(requestCount, prometheus.CounterValue, float64(n), a.route, a.method, name)
		}
	}
	var sum uint64
	buckets := make(map[float64]uint64, len(bounds))
	for i, bound := range bounds {
		sum += a.within[i].Load()
		buckets[bound.Seconds()] = sum
	}
	if sum += a.within[len(bounds)].Load(); sum > 0 {
		ch <- prometheus.MustNewConstHistogram(requestSeconds, sum, time.Duration(a.nanoseconds.Load()).Seconds(), buckets, a.route, a.method)
	}
}
