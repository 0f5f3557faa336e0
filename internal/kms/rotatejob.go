package kms

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// The job "kek.rotate" first rotates, then rewraps every thread's DEK that lies
// under an older version of the threads' KEK than its primary. Its cursor is the
// store key after which it goes on: "kek:..." while it rotates, "dek:..." then.
//
// A rotation is committed by itself, before the batch that says so; asked again,
// the job finds it done. DEKs are rewrapped in the batch. Of an import, which is
// committed with the job, the rewrap alone is left.
const rotateKindName = "kek.rotate"

// rotation is the arguments of the job.
type rotation struct {
	KEKID    string `json:"kek_id,omitzero"` // the threads'; "" with All
	From     uint32 `json:"from,omitzero"`   // its primary when the job was asked for
	All      bool   `json:"all,omitzero"`
	Imported uint32 `json:"imported,omitzero"` // the primary that was imported; From is none, and nothing is rotated
	Actor    string `json:"actor"`             // who asked
}

// So many rows a batch of the job reads. Those of DEKs are committed together.
const (
	keksPerStep = 20
	deksPerStep = 100
)

func (s *Service) rotateKind() job.Kind {
	return job.Kind{Name: rotateKindName, Count: s.countRotation, Step: s.stepRotation, Done: s.endRotation}
}

// startRotation starts the job, or finds it running if it was asked for before.
func (s *Service) startRotation(ctx context.Context, r rotation) (job.Job, error) {
	all, err := s.jobs.List(ctx)
	if err != nil {
		return job.Job{}, err
	}
	for _, j := range all {
		if args, err := rotationOf(j); err == nil && j.Status == job.Running && args.same(r) {
			return j, nil
		}
	}
	var j job.Job
	err = s.Audited(ctx, "kek.rewrap", r.target(), map[string]any{"job": "start"}, func() (err error) {
		j, err = s.jobs.Start(ctx, rotateKindName, r)
		return err
	})
	return j, err
}

func (r rotation) same(o rotation) bool { r.Actor = o.Actor; return r == o }

func (r rotation) target() string {
	if r.All {
		return "*"
	}
	return r.KEKID
}

func rotationOf(j job.Job) (r rotation, err error) {
	if j.Kind != rotateKindName {
		return r, errors.New("a job of another kind")
	}
	return r, json.Unmarshal(j.Args, &r, json.RejectUnknownMembers(true))
}

func (s *Service) countRotation(ctx context.Context, j job.Job) (int, error) {
	r, err := rotationOf(j)
	prefixes := []string{layout.DEK("")}
	if r.All {
		prefixes = append(prefixes, layout.KEK(""))
	}
	n := 0
	for _, prefix := range prefixes {
		for _, err := range store.All(ctx, s.store, store.Prefix(prefix)) {
			if err != nil {
				return 0, asFault(err)
			}
			n++
		}
	}
	return n, asFault(err)
}

func (s *Service) stepRotation(ctx context.Context, j job.Job) (job.Step, error) {
	r, err := rotationOf(j)
	if err != nil {
		return job.Step{}, fault.Wrap(fault.Damaged, err, "the arguments of the job are damaged")
	}
	ctx = WithActor(ctx, r.Actor)
	var step job.Step
	switch {
	case strings.HasPrefix(j.Cursor, layout.DEK("")):
		step, err = s.stepDEKs(ctx, j.Cursor, s.tries.page(j, deksPerStep))
	case r.All:
		step, err = s.stepKEKs(ctx, j.Cursor, j.Created)
	default:
		step = job.Step{Cursor: layout.DEK("")}
		s.rotating.Lock()
		_, err = s.rotateFrom(ctx, r.KEKID, r.From)
		s.rotating.Unlock()
	}
	return step, asFault(err)
}

// after returns up to n rows under prefix, after cursor.
func (s *Service) after(ctx context.Context, prefix, cursor string, n int) ([]store.Record, error) {
	r := store.Prefix(prefix)
	if cursor > r.Start {
		r.Start = cursor + "\x00"
	}
	return s.store.Scan(ctx, r, store.ScanOptions{Limit: n})
}

// stepKEKs rotates the KEKs after cursor whose primary is older than began.
func (s *Service) stepKEKs(ctx context.Context, cursor string, began time.Time) (job.Step, error) {
	recs, err := s.after(ctx, layout.KEK(""), cursor, keksPerStep)
	if err != nil {
		return job.Step{}, err
	}
	step := job.Step{Cursor: layout.DEK(""), Processed: len(recs)}
	if len(recs) == keksPerStep {
		step.Cursor = recs[len(recs)-1].Key
	}
	for _, rec := range recs {
		err := s.rotateOlder(ctx, strings.TrimPrefix(rec.Key, layout.KEK("")), began)
		if errors.Is(err, fault.Damaged) {
			step.Failed = append(step.Failed, rec.Key)
		} else if err != nil && !errors.Is(err, fault.NotFound) {
			return job.Step{}, err
		}
	}
	return step, nil
}

// rotateOlder rotates a KEK if its primary is older than began, or is said to be
// of a time to come: then it was made while the clock was ahead, and is none of
// this job's. The new primary is neither, even where clocks differ.
func (s *Service) rotateOlder(ctx context.Context, id string, began time.Time) error {
	s.rotating.Lock()
	defer s.rotating.Unlock()
	now := s.now()
	if now.Before(began) {
		now = began
	}
	_, err := s.rotate(ctx, id, now, func(primary keyring.VersionInfo) bool {
		return primary.Created.Before(began) || primary.Created.After(now)
	})
	return err
}

// tries remembers which batch a job was asked for last, and how often.
type tries struct {
	mu   sync.Mutex // guards all below
	last map[string]string
	n    map[string]int
}

// page returns how many rows the next batch of j takes: most, and half as many
// each time that the same batch is asked for again. So a job gets on where many
// of its rows are written all the time by those who reserve seals.
func (t *tries) page(j job.Job, most int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		t.last, t.n = map[string]string{}, map[string]int{}
	}
	if t.last[j.ID] == j.Cursor {
		t.n[j.ID]++
	} else {
		t.last[j.ID], t.n[j.ID] = j.Cursor, 0
	}
	return max(1, most>>min(t.n[j.ID], 30))
}

func (t *tries) forget(j job.Job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.last, j.ID)
	delete(t.n, j.ID)
}

// stepDEKs prepares the rewrap of up to n DEKs after cursor. Those made
// meanwhile, before cursor or after it, are under the primary: see commitDEKs.
func (s *Service) stepDEKs(ctx context.Context, cursor string, n int) (job.Step, error) {
	k, err := s.freshKEK(ctx, kmsapi.ThreadsKEK)
	if err != nil {
		return job.Step{}, err
	}
	defer s.keks.release(k)
	recs, err := s.after(ctx, layout.DEK(""), cursor, n)
	if err != nil {
		return job.Step{}, err
	}
	step := job.Step{Cursor: cursor, Processed: len(recs), Done: len(recs) < n}
	step.Batch.RequireRevision(layout.KEK(kmsapi.ThreadsKEK), k.key.rev) // see commitDEKs
	for _, row := range recs {
		step.Cursor = row.Key
		keyID := strings.TrimPrefix(row.Key, layout.DEK(""))
		rec, err := parseRow(row.Value)
		if err == nil {
			_, err = rewrapRow(k.key.Keyring, keyID, rec, row, &step.Batch)
		}
		switch {
		case errors.Is(err, fault.Unavailable), errors.Is(err, fault.Internal):
			return job.Step{}, err
		case err != nil: // it does not parse or open: it stays as it is
			step.Failed = append(step.Failed, keyID)
		}
	}
	wraps := int64(len(step.Batch.Writes))
	k.key.uses[useWrap].Add(wraps)
	return step, s.takeWraps(ctx, k.key, wraps) // before the commit: none of them counts yet
}

func (s *Service) endRotation(ctx context.Context, j job.Job) error {
	s.tries.forget(j)
	r, err := rotationOf(j)
	if err != nil {
		return asFault(err)
	}
	detail := map[string]any{"job": "end", "job_id": j.ID, "processed": j.Processed, "failed": j.Failed}
	return s.Audited(WithActor(ctx, r.Actor), "kek.rewrap", r.target(), detail, func() error { return nil })
}

// Jobs returns the jobs that run and those that ended lately, the newest first.
func (s *Service) Jobs(ctx context.Context) ([]kmsapi.Job, error) {
	all, err := s.jobs.List(ctx)
	if err != nil {
		return nil, err
	}
	jobs := make([]kmsapi.Job, len(all))
	for i, j := range all {
		jobs[i] = wireJob(j)
	}
	return jobs, nil
}

// Job returns a job, or fails with fault.NotFound.
func (s *Service) Job(ctx context.Context, id string) (kmsapi.Job, error) {
	j, err := s.jobs.Get(ctx, id)
	return wireJob(j), err
}

// CancelJob ends a job between two batches: what was rotated and rewrapped
// stays so, and another rotation rewraps the rest. fault.NotFound as for Job.
func (s *Service) CancelJob(ctx context.Context, id string) error {
	j, err := s.jobs.Get(ctx, id)
	if err != nil {
		return err
	}
	return s.Audited(ctx, "job.cancel", id, map[string]any{"kind": j.Kind}, func() error {
		_, err := s.jobs.Cancel(ctx, id)
		return err
	})
}

func wireJob(j job.Job) kmsapi.Job {
	return kmsapi.Job{ID: j.ID, Kind: j.Kind, Status: string(j.Status), Total: j.Total, Processed: j.Processed, Failed: j.Failed,
		FailedOf: j.FailedOf, Error: j.Error, Created: j.Created, Updated: j.Updated}
}
