package thread

import (
	"context"
	"errors"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// PurgeJobs is what StartPurge needs of the runner of jobs, which knows PurgeKind.
type PurgeJobs interface {
	StartWith(ctx context.Context, kind string, args any, rows func(id string) (store.Batch, error)) (job.Job, error)
	Get(ctx context.Context, id string) (job.Job, error)
}

// purgeRun is the row layout.RetentionRun, as JSON: {"job":"0198...","started":1790000000000000001}.
type purgeRun struct {
	Job     string `json:"job"`
	Started int64  `json:"started"` // nanoseconds since 1970
}

// purgeLookAgain is how long a schedule waits for a run that is under way.
const purgeLookAgain = time.Minute

// StartPurge starts a run of retention, of all orgs, unless there is one under way:
// it returns that, or the one that it started. Of all servers that share the store
// one starts it. Who may ask is the caller's to decide.
func (s *Service) StartPurge(ctx context.Context, jobs PurgeJobs) (job.Job, error) {
	j, _, err := s.startPurge(ctx, jobs, 0)
	return j, err
}

// PurgeEvery starts a run if none is under way and the last one began at least so
// long ago, and returns when to call again.
func (s *Service) PurgeEvery(ctx context.Context, jobs PurgeJobs, every time.Duration) (next time.Duration, err error) {
	_, next, err = s.startPurge(ctx, jobs, every)
	return next, err
}

func (s *Service) startPurge(ctx context.Context, jobs PurgeJobs, every time.Duration) (j job.Job, next time.Duration, err error) {
	err = store.Retry(ctx, func() error {
		last, rev, err := s.lastPurge(ctx)
		if err != nil {
			return err
		}
		if last.Job != "" {
			if j, err = jobs.Get(ctx, last.Job); err != nil && !errors.Is(err, fault.NotFound) {
				return err
			}
		}
		now := s.now().UnixNano()
		due := last.Started + int64(every)
		switch {
		case j.Status == job.Running:
			next = min(every, purgeLookAgain)
			return nil
		case every > 0 && last.Started <= now && now < due: // a clock that was put back waits for nothing
			next = time.Duration(due - now)
			return nil
		}
		next = every
		j, err = jobs.StartWith(ctx, PurgeJob, purgeArgs{now}, func(id string) (b store.Batch, err error) {
			row, err := json.Marshal(purgeRun{id, now})
			b.RequireRevision(layout.RetentionRun(), rev)
			b.Put(layout.RetentionRun(), row)
			return b, err
		})
		return err
	})
	return j, next, store.Fault(err)
}

// lastPurge reads the row of the last run; revision 0: there was none.
func (s *Service) lastPurge(ctx context.Context) (last purgeRun, rev store.Revision, err error) {
	rec, err := s.store.Get(ctx, layout.RetentionRun())
	if errors.Is(err, store.ErrNotFound) {
		return last, 0, nil
	} else if err != nil {
		return last, 0, err
	}
	// One that does not parse is no run: the next one puts another in its place.
	if json.Unmarshal(rec.Value, &last) != nil {
		last = purgeRun{}
	}
	return last, rec.Revision, nil
}
