package server

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/keyfold/keyfold/internal/httpx"
)

// told is what r exposes: each series and its value.
func told(t *testing.T, r prometheus.Gatherer) map[string]string {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range families {
		if err := expfmt.NewEncoder(&text, expfmt.NewFormat(expfmt.TypeTextPlain)).Encode(f); err != nil {
			t.Fatal(err)
		}
	}
	all := map[string]string{}
	for line := range strings.Lines(text.String()) {
		if at := strings.LastIndexByte(line, ' '); line[0] != '#' {
			all[line[:at]] = strings.TrimSpace(line[at:])
		}
	}
	return all
}

func none() int64 { return 0 }

func TestAnswersAreCountedByRowStatusAndTime(t *testing.T) {
	rows := []httpx.Row{{Method: "GET", Pattern: "/a/{b}"}, {Method: "PUT", Pattern: "/a/{b}"}, {Method: "GET", Pattern: "/never"}}
	r := prometheus.NewPedanticRegistry()
	m := newRequests(r, func() int64 { return 3 })
	for range 3 {
		m.observe(&rows[0], http.StatusOK, 3*time.Millisecond)
	}
	m.observe(&rows[0], http.StatusTooManyRequests, time.Hour)
	m.observe(&rows[1], http.StatusTeapot, time.Microsecond)
	m.observe(&rows[1], 0, 0)
	m.observe(nil, http.StatusNotFound, time.Millisecond)

	all := told(t, r)
	for series, want := range map[string]string{
		`keyfold_http_requests_total{code="200",method="GET",route="/a/{b}"}`:                   "3",
		`keyfold_http_requests_total{code="429",method="GET",route="/a/{b}"}`:                   "1",
		`keyfold_http_requests_total{code="418",method="PUT",route="/a/{b}"}`:                   "1",
		`keyfold_http_requests_total{code="0",method="PUT",route="/a/{b}"}`:                     "1",
		`keyfold_http_requests_total{code="404",method="none",route="none"}`:                    "1",
		`keyfold_http_requests_in_flight`:                                                       "3",
		`keyfold_http_request_duration_seconds_bucket{method="GET",route="/a/{b}",le="0.0025"}`: "0",
		`keyfold_http_request_duration_seconds_bucket{method="GET",route="/a/{b}",le="0.005"}`:  "3",
		`keyfold_http_request_duration_seconds_bucket{method="GET",route="/a/{b}",le="60"}`:     "3",
		`keyfold_http_request_duration_seconds_bucket{method="GET",route="/a/{b}",le="+Inf"}`:   "4",
		`keyfold_http_request_duration_seconds_count{method="GET",route="/a/{b}"}`:              "4",
		`keyfold_http_request_duration_seconds_sum{method="GET",route="/a/{b}"}`:                "3600.009",
		`keyfold_http_request_duration_seconds_bucket{method="PUT",route="/a/{b}",le="0.0005"}`: "2",
		`keyfold_http_request_duration_seconds_bucket{method="none",route="none",le="0.001"}`:   "1",
	} {
		if all[series] != want {
			t.Errorf("%s is %q, want %s", series, all[series], want)
		}
	}
	for name := range all {
		if strings.Contains(name, "never") {
			t.Errorf("there is %s", name)
		}
	}
}

func TestARowsMethodAndPatternAreOneSeries(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range Rows() {
		name := row.Method + " " + row.Pattern
		if seen[name] || name == "none none" {
			t.Errorf("%s comes twice", name)
		}
		seen[name] = true
	}
}

func TestAnAnswerIsCountedWithoutMemory(t *testing.T) {
	rows := Rows()
	m := newRequests(prometheus.NewRegistry(), none)
	if n := testing.AllocsPerRun(100, func() {
		m.observe(&rows[7], http.StatusOK, time.Millisecond)
		m.observe(nil, http.StatusNotFound, time.Second)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkObserve is what the metrics add to a request, but for the count of those
// under way.
func BenchmarkObserve(b *testing.B) {
	rows := Rows()
	m := newRequests(prometheus.NewRegistry(), none)
	b.ReportAllocs()
	for b.Loop() {
		m.observe(&rows[7], http.StatusOK, 2*time.Millisecond)
	}
}
