package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"text/tabwriter"
	"time"
)

// result is what a run found, as it is written in JSON. Durations are in
// microseconds unless their name says otherwise.
type result struct {
	Op          string  `json:"op"`
	When        string  `json:"when"` // RFC 3339
	Go          string  `json:"go"`
	CPUs        int     `json:"cpus"`
	Load        string  `json:"load_average"` // before the run
	Connections int     `json:"connections"`
	Size        int     `json:"size"` // bytes
	Seconds     float64 `json:"seconds"`
	Items       int     `json:"items_per_request,omitempty"`

	Rounds     []float64 `json:"rounds_per_second,omitempty"` // of every round; the rest is of the median one
	Requests   uint64    `json:"requests"`
	PerSecond  float64   `json:"per_second"`
	P50        float64   `json:"p50_us"`
	P90        float64   `json:"p90_us"`
	P99        float64   `json:"p99_us"`
	Max        float64   `json:"max_us"`
	Errors     int       `json:"errors"`
	FirstError string    `json:"first_error,omitempty"`
	Sent       int64     `json:"bytes_sent"`
	Received   int64     `json:"bytes_received"`

	ServerCPU    float64 `json:"server_cpu_us_per_request,omitempty"` // an external key process included
	ServerCores  float64 `json:"server_cores,omitempty"`              // CPU time of ServerCPU over the time measured
	ServerRSS    int64   `json:"server_rss_bytes,omitempty"`
	KMSCPU       float64 `json:"kms_cpu_us_per_request,omitempty"` // of an external key process
	KMSRSS       int64   `json:"kms_rss_bytes,omitempty"`
	DatabaseCPU  float64 `json:"database_cpu_us_per_request,omitempty"`
	GeneratorCPU float64 `json:"generator_cpu_us_per_request"`

	StartMS     []float64 `json:"start_ms,omitempty"`       // op start: exec to first 200, on a fresh directory
	RestartMS   []float64 `json:"restart_ms,omitempty"`     // op start: the same on the directory of the start before
	IdleRSS     int64     `json:"idle_rss_bytes,omitempty"` // op start: the greatest seen, a second after the start
	BinaryBytes int64     `json:"binary_bytes,omitempty"`

	Rotation *rotation `json:"rotation,omitempty"` // op cmek-rotate
}

func newResult(op string, s shape) *result {
	return &result{
		Op: op, When: time.Now().UTC().Format(time.RFC3339), Go: runtime.Version(),
		CPUs: runtime.NumCPU(), Load: loadAverage(), Connections: s.connections, Size: s.size,
	}
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

func (r *result) take(t *tally, seconds float64) {
	h := &t.latency
	r.Seconds, r.Requests, r.PerSecond = seconds, h.total, float64(h.total)/seconds
	r.P50, r.P90, r.P99, r.Max = micros(h.quantile(0.5)), micros(h.quantile(0.9)), micros(h.quantile(0.99)), micros(h.max)
	r.Errors, r.Sent, r.Received = t.errors, t.sent, t.received
	if t.first != nil {
		r.FirstError = t.first.Error()
	}
}

func (r *result) perRequest(d time.Duration) float64 {
	if r.Requests == 0 {
		return 0
	}
	return micros(d) / float64(r.Requests)
}

// readResults reads files that hold one result each.
func readResults(paths []string) ([]*result, error) {
	var all []*result
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		r := &result{}
		if err := json.Unmarshal(b, r); err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// table prints results for people.
func table(w io.Writer, all []*result) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "op\trequests/s\tp50 us\tp90 us\tp99 us\tmax us\terrors\tserver us/req\tof it kms\tserver cores\tserver MB\tkms MB\tgenerator us/req\tload\trounds, requests/s\t")
	for _, r := range all {
		if r.Op == "start" {
			continue
		}
		fmt.Fprintf(tw, "%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%d\t%.1f\t%.1f\t%.2f\t%.0f\t%.0f\t%.1f\t%s\t%.0f\t\n",
			r.Op, r.PerSecond, r.P50, r.P90, r.P99, r.Max, r.Errors, r.ServerCPU, r.KMSCPU, r.ServerCores, mb(r.ServerRSS), mb(r.KMSRSS), r.GeneratorCPU, r.Load, r.Rounds)
	}
	tw.Flush()
	for _, r := range all {
		if r.Items > 1 {
			fmt.Fprintf(w, "%s: %.0f items/s, %.2f us of server CPU per item\n", r.Op, r.PerSecond*float64(r.Items), r.ServerCPU/float64(r.Items))
		}
		if r.Op == "start" {
			fmt.Fprintf(w, "start: %.0f ms on a fresh directory, %.0f ms again (slowest); idle %.1f MB; binary %.1f MB\n",
				greatest(r.StartMS), greatest(r.RestartMS), mb(r.IdleRSS), mb(r.BinaryBytes))
		}
		if r.Rotation != nil {
			fmt.Fprint(w, r.Rotation.line(r))
		}
		if r.FirstError != "" {
			fmt.Fprintf(w, "%s: first error: %s\n", r.Op, r.FirstError)
		}
	}
}

func mb(n int64) float64 { return float64(n) / 1e6 }

func greatest(all []float64) float64 {
	m := 0.0
	for _, v := range all {
		m = max(m, v)
	}
	return m
}
