package allinone

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/thread"
)

// runs waits until there have been n runs of retention, and until they have ended.
func (r *running) runs(n int) {
	r.t.Helper()
	for {
		jobs, err := r.Jobs.List(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		jobs = slices.DeleteFunc(jobs, func(j job.Job) bool { return j.Kind != thread.PurgeJob })
		if len(jobs) < n {
			time.Sleep(time.Millisecond)
			continue
		}
		if len(jobs) > n {
			r.t.Fatalf("there have been %d runs, want %d", len(jobs), n)
		}
		for _, j := range jobs {
			if j, err = r.Jobs.Wait(r.t.Context(), j.ID); err != nil || j.Status != job.Completed {
				r.t.Fatalf("%+v, %v", j, err)
			}
		}
		return
	}
}

// A schedule counts from the last run that there was, restarts or not.
func TestRetentionRunsWhenItsTimeHasCome(t *testing.T) {
	var clock atomic.Int64
	clock.Store(1_790_000_000)
	now := func() time.Time { return time.Unix(clock.Load(), 0) }
	dir := t.TempDir()
	r := start(t, Config{DataDir: dir, Retention: time.Hour, Now: now})
	r.runs(1)
	r.stop()
	clock.Add(3599)
	r = start(t, Config{DataDir: dir, Retention: time.Hour, Now: now})
	r.stop()
	r = start(t, Config{DataDir: dir, Now: now}) // off
	r.runs(1)
	r.stop()
	clock.Add(1)
	r = start(t, Config{DataDir: dir, Retention: time.Hour, Now: now})
	r.runs(2)
	r.stop()
}
