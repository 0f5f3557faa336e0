package server

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/keyfold/keyfold/internal/job"
)

// listedJobs are Jobs that only list.
type listedJobs struct {
	Jobs
	all []job.Job
}

func (l listedJobs) List(context.Context) ([]job.Job, error) { return l.all, nil }

func TestJobsAreShownByKindAndNeverByName(t *testing.T) {
	now := time.Unix(10_000, 0)
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	reg := prometheus.NewRegistry()
	reg.MustRegister(newJobMetrics(listedJobs{all: []job.Job{
		{ID: "canary-1", Kind: "a", Status: job.Running, Processed: 3, Failed: 1, Total: 10, Created: at(9000), Updated: at(9900)},
		{ID: "canary-2", Kind: "a", Status: job.Running, Processed: 4, Total: 10, Created: at(9500), Updated: at(9990)},
		{ID: "canary-3", Kind: "a", Status: job.Completed, Created: at(1), Updated: at(2000)},
		{ID: "canary-4", Kind: "a", Status: job.Completed, Created: at(1), Updated: at(1000)},
		{ID: "canary-5", Kind: "b", Status: job.Failed, Created: at(1), Updated: at(3000), Error: "canary"},
		{ID: "canary-6", Kind: "b", Status: job.Interrupted, Created: at(8000), Updated: at(8001)},
	}}, func() time.Time { return now }))
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP keyfold_job_failed Units that running jobs left as they were.
# TYPE keyfold_job_failed gauge
keyfold_job_failed{kind="a"} 1
# HELP keyfold_job_idle_seconds Time since the running job of a kind that waits longest has done anything.
# TYPE keyfold_job_idle_seconds gauge
keyfold_job_idle_seconds{kind="a"} 100
# HELP keyfold_job_last_failure_timestamp_seconds When a job of a kind last failed.
# TYPE keyfold_job_last_failure_timestamp_seconds gauge
keyfold_job_last_failure_timestamp_seconds{kind="b"} 3000
# HELP keyfold_job_last_success_timestamp_seconds When a job of a kind was last completed.
# TYPE keyfold_job_last_success_timestamp_seconds gauge
keyfold_job_last_success_timestamp_seconds{kind="a"} 2000
# HELP keyfold_job_oldest_age_seconds Age of the oldest job that has not ended.
# TYPE keyfold_job_oldest_age_seconds gauge
keyfold_job_oldest_age_seconds{kind="a"} 1000
keyfold_job_oldest_age_seconds{kind="b"} 2000
# HELP keyfold_job_processed Units that running jobs have done, failed ones included.
# TYPE keyfold_job_processed gauge
keyfold_job_processed{kind="a"} 7
# HELP keyfold_job_total Units that running jobs counted at their start.
# TYPE keyfold_job_total gauge
keyfold_job_total{kind="a"} 20
# HELP keyfold_jobs Jobs that the store remembers.
# TYPE keyfold_jobs gauge
keyfold_jobs{kind="a",status="completed"} 2
keyfold_jobs{kind="a",status="running"} 2
keyfold_jobs{kind="b",status="failed"} 1
keyfold_jobs{kind="b",status="interrupted"} 1
`))
	if err != nil {
		t.Error(err)
	}
}

// stuckJobs are Jobs that list nothing before free is closed, whatever the context says.
type stuckJobs struct {
	Jobs
	free  chan struct{}
	asked atomic.Int32
}

func (s *stuckJobs) List(context.Context) ([]job.Job, error) {
	s.asked.Add(1)
	<-s.free
	return []job.Job{{ID: "1", Kind: "a", Status: job.Completed, Updated: time.Unix(1, 0)}}, nil
}

func TestAStoreThatIsStuckHoldsUpOneListOfJobsAndEachScrapeForTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		jobs := &stuckJobs{free: make(chan struct{})}
		reg := prometheus.NewRegistry()
		reg.MustRegister(newJobMetrics(jobs, time.Now))
		scrape := func(want int, wait time.Duration) {
			t.Helper()
			start := time.Now()
			families, err := reg.Gather()
			if took := time.Since(start); err != nil || len(families) != want || took != wait {
				t.Errorf("%d metrics after %v, %v; want %d after %v", len(families), took, err, want, wait)
			}
		}
		for range 3 {
			scrape(0, 2*time.Second)
		}
		if n := jobs.asked.Load(); n != 1 {
			t.Errorf("the store is asked %d times", n)
		}
		close(jobs.free)
		synctest.Wait()
		scrape(2, 0) // how many there are, and when the last was completed
	})
}
