package server

import (
	"context"
	"io"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/job"
)

// metricsType is the media type of the Prometheus text format.
var metricsType = httpx.ContentType{string(expfmt.NewFormat(expfmt.TypeTextPlain))}

// showMetrics answers GET /admin/debug/prometheus.
func (a admin) showMetrics(_ context.Context, c *httpx.Call, w io.Writer) error {
	if err := operates(c); err != nil {
		return err
	}
	families, err := a.metrics.Gather()
	if err != nil {
		return fault.Wrap(fault.Unavailable, err, "the metrics cannot be read now; try again")
	}
	enc := expfmt.NewEncoder(w, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return err
		}
	}
	return nil
}

// newMetrics returns what the server measures of itself, but for its requests.
func newMetrics(jobs Jobs) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(jobMetrics{jobs})
	return r
}

// jobMetrics collects how jobs stand when it is asked. Jobs that have ended are
// counted; of a running one there is its progress.
type jobMetrics struct{ jobs Jobs }

var (
	jobCount     = prometheus.NewDesc("keyfold_jobs", "Jobs that the store remembers.", []string{"kind", "status"}, nil)
	jobProcessed = prometheus.NewDesc("keyfold_job_processed", "Units that a running job has done, failed ones included.", []string{"kind", "job"}, nil)
	jobFailed    = prometheus.NewDesc("keyfold_job_failed", "Units that a running job left as they were.", []string{"kind", "job"}, nil)
	jobTotal     = prometheus.NewDesc("keyfold_job_total", "Units that a running job counted at its start.", []string{"kind", "job"}, nil)
)

func (m jobMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{jobCount, jobProcessed, jobFailed, jobTotal} {
		ch <- d
	}
}

func (m jobMetrics) Collect(ch chan<- prometheus.Metric) {
	jobs, err := m.jobs.List(context.Background())
	if err != nil {
		ch <- prometheus.NewInvalidMetric(jobCount, err)
		return
	}
	count := map[[2]string]int{}
	for _, j := range jobs {
		count[[2]string{j.Kind, string(j.Status)}]++
		if j.Status == job.Running {
			for desc, n := range map[*prometheus.Desc]int{jobProcessed: j.Processed, jobFailed: j.Failed, jobTotal: j.Total} {
				ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), j.Kind, j.ID)
			}
		}
	}
	for of, n := range count {
		ch <- prometheus.MustNewConstMetric(jobCount, prometheus.GaugeValue, float64(n), of[0], of[1])
	}
}
