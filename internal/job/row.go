package job

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// row is a job's row, a JSON object under layout.Job:
//
//	{"id":"0198...","kind":"vault-rewrap","args":{"vault":"","rotate":true},"status":"running",
//	 "total":230,"processed":100,"failed":1,"failed_of":["..."],"cursor":"...",
//	 "created_at":"2026-11-22T10:00:00Z","updated_at":"2026-11-22T10:00:01Z",
//	 "holder":"5f0c...","lease_until":"2026-11-22T10:00:31Z"}
//
// A member that is not known is refused: an older program must not go on with a
// job of which it understands a part. "ended" says that the last batch is
// committed and Kind.Done is left to do. Without a holder, or once lease_until
// has come, a running job is anybody's to take up.
type row struct {
	Job
	Ended  bool      `json:"ended,omitzero"`
	Holder string    `json:"holder,omitzero"`
	Until  time.Time `json:"lease_until,omitzero"`
}

// held is a row as it was read or written last.
type held struct {
	row
	rev store.Revision
}

var errNoJob = fault.New(fault.NotFound, "there is no such job; finished jobs are kept until there are 1000 newer ones")

// parse reads a row.
func parse(rec store.Record) (held, error) {
	h := held{rev: rec.Revision}
	err := json.Unmarshal(rec.Value, &h.row, json.RejectUnknownMembers(true))
	if err == nil && layout.Job(h.ID) != rec.Key {
		err = errors.New("the row of another job")
	}
	if err == nil && !slices.Contains([]Status{Running, Interrupted, Completed, Failed, Cancelled}, h.Status) {
		err = errors.New("an unknown status")
	}
	if err != nil {
		return held{}, fault.Wrap(fault.Damaged, err, "the row of job %s is damaged or of a newer version of this program",
			strings.TrimPrefix(rec.Key, layout.Job("")))
	}
	return h, nil
}

// load reads a job.
func (r *Runner) load(ctx context.Context, id string) (held, error) {
	if uuid.Validate(id) != nil || len(id) != 36 {
		return held{}, errNoJob
	}
	rec, err := r.store.Get(ctx, layout.Job(id))
	if errors.Is(err, store.ErrNotFound) {
		return held{}, errNoJob
	} else if err != nil {
		return held{}, err
	}
	return parse(rec)
}

// save commits b with next in the place of h, which is then next.
func (r *Runner) save(ctx context.Context, h *held, b store.Batch, next row) error {
	next.Updated = r.now().UTC()
	value, err := json.Marshal(next)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "the job's row does not encode")
	}
	key := layout.Job(next.ID)
	b.RequireRevision(key, h.rev)
	b.Put(key, value)
	rev, err := r.store.Commit(ctx, &b)
	if err == nil {
		*h = held{row: next, rev: rev}
	}
	return err
}

// mine returns w under a fresh lease of r's.
func (r *Runner) mine(w row) row {
	w.Holder, w.Until = r.holder, r.now().UTC().Add(r.lease)
	return w
}

// free returns w held by nobody.
func free(w row) row {
	w.Holder, w.Until = "", time.Time{}
	return w
}

// ends returns w with its last status.
func ends(w row, s Status, why string) row {
	w = free(w)
	w.Status, w.Error = s, why
	return w
}
