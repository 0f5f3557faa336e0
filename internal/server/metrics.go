package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/job"
)

// metricsType is the media type of the Prometheus text format.
var metricsType = httpx.ContentType{string(expfmt.NewFormat(expfmt.TypeTextPlain))}

// scraper is httpx.Row.Own of the metrics: it knows the token with this SHA-256. nil: none.
func scraper(want *[sha256.Size]byte) func(bearer string) (access.Principal, bool) {
	if want == nil {
		return nil
	}
	return func(bearer string) (access.Principal, bool) {
		got := sha256.Sum256([]byte(bearer))
		return access.Principal{Kind: access.Scraper, ID: "metrics"}, subtle.ConstantTimeCompare(got[:], want[:]) == 1
	}
}

// showMetrics answers GET /admin/debug/prometheus.
func (a admin) showMetrics(_ context.Context, c *httpx.Call, w io.Writer) error {
	if c.Principal.Kind != access.Scraper {
		if err := operates(c); err != nil {
			return err
		}
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

// jobMetrics collects how jobs stand when it is asked. Jobs that have ended are
// counted, for as long as the store remembers them; of those that have not there is
// their progress, all of a kind together.
type jobMetrics struct {
	jobs Jobs
	now  func() time.Time
	turn chan struct{} // of one: who is in it lists the jobs
}

func newJobMetrics(jobs Jobs, now func() time.Time) jobMetrics {
	return jobMetrics{jobs, now, make(chan struct{}, 1)}
}

// collectTime is how long a scrape waits for the store.
const collectTime = 2 * time.Second

// list lists the jobs; none: the store is away. A store that does not even heed the end
// of a context holds up one list, however many scrapes come meanwhile.
func (m jobMetrics) list() []job.Job {
	ctx, cancel := context.WithTimeout(context.Background(), collectTime)
	defer cancel()
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	listed := make(chan []job.Job, 1)
	go func() {
		defer func() { <-m.turn }()
		jobs, _ := m.jobs.List(ctx) // what the other collectors have is all that can be said
		listed <- jobs
	}()
	select {
	case jobs := <-listed:
		return jobs
	case <-ctx.Done():
		return nil
	}
}

var (
	jobCount     = prometheus.NewDesc("keyfold_jobs", "Jobs that the store remembers.", []string{"kind", "status"}, nil)
	jobProcessed = prometheus.NewDesc("keyfold_job_processed", "Units that running jobs have done, failed ones included.", []string{"kind"}, nil)
	jobFailed    = prometheus.NewDesc("keyfold_job_failed", "Units that running jobs left as they were.", []string{"kind"}, nil)
	jobTotal     = prometheus.NewDesc("keyfold_job_total", "Units that running jobs counted at their start.", []string{"kind"}, nil)
	jobAge       = prometheus.NewDesc("keyfold_job_oldest_age_seconds", "Age of the oldest job that has not ended.", []string{"kind"}, nil)
	jobIdle      = prometheus.NewDesc("keyfold_job_idle_seconds", "Time since the running job of a kind that waits longest has done anything.", []string{"kind"}, nil)
	jobFailure   = prometheus.NewDesc("keyfold_job_last_failure_timestamp_seconds", "When a job of a kind last failed.", []string{"kind"}, nil)
	jobSuccess   = prometheus.NewDesc("keyfold_job_last_success_timestamp_seconds", "When a job of a kind was last completed.", []string{"kind"}, nil)
)

func (m jobMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{jobCount, jobProcessed, jobFailed, jobTotal, jobAge, jobIdle, jobSuccess, jobFailure} {
		ch <- d
	}
}

// jobKind is what is told of the jobs of one kind.
type jobKind struct {
	running                  bool
	processed, failed, total int
	oldest, idle             time.Duration
	success, failure         time.Time
}

func (m jobMetrics) Collect(ch chan<- prometheus.Metric) {
	count, kinds := map[[2]string]int{}, map[string]*jobKind{}
	for _, j := range m.list() {
		count[[2]string{j.Kind, string(j.Status)}]++
		if kinds[j.Kind] == nil {
			kinds[j.Kind] = new(jobKind)
		}
		kinds[j.Kind].add(j, m.now())
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for of, n := range count {
		gauge(jobCount, float64(n), of[0], of[1])
	}
	for name, k := range kinds {
		if k.running {
			gauge(jobProcessed, float64(k.processed), name)
			gauge(jobFailed, float64(k.failed), name)
			gauge(jobTotal, float64(k.total), name)
			gauge(jobIdle, k.idle.Seconds(), name)
		}
		if k.oldest > 0 {
			gauge(jobAge, k.oldest.Seconds(), name)
		}
		for d, t := range map[*prometheus.Desc]time.Time{jobSuccess: k.success, jobFailure: k.failure} {
			if !t.IsZero() {
				gauge(d, float64(t.Unix()), name)
			}
		}
	}
}

func (k *jobKind) add(j job.Job, now time.Time) {
	switch j.Status {
	case job.Running:
		k.running = true
		k.processed, k.failed, k.total = k.processed+j.Processed, k.failed+j.Failed, k.total+j.Total
		k.idle = max(k.idle, now.Sub(j.Updated))
		k.oldest = max(k.oldest, now.Sub(j.Created))
	case job.Interrupted:
		k.oldest = max(k.oldest, now.Sub(j.Created))
	case job.Completed:
		k.success = later(k.success, j.Updated)
	case job.Failed:
		k.failure = later(k.failure, j.Updated)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
