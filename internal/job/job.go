// Package job runs resumable work: read a page, prepare its writes, commit them
// together with how far the job is.
//
// It owns the rows job:* of a store. A job's progress changes in the same
// commit as the rows that the batch changed, and every commit of a job requires
// its row as the holder last wrote it. So a crash between two batches loses
// nothing and does nothing twice: the next holder goes on at the cursor. One
// holder at a time works on a job, under a lease that others take over when it
// has run out; a holder that was slower than its lease finds its commit refused.
//
// It trusts the store, and the clocks of those who share it to within the lease:
// a clock that is wrong costs work done for nothing, never a batch done twice.
// What a Kind does elsewhere than in its batches, such as in the key process, it
// may do after its lease: that must be so that it changes nothing the second time,
// and does no harm late.
package job

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/keyfold/keyfold/internal/store"
)

// Status says where a job stands.
type Status string

const (
	Running     Status = "running"     // somebody works on it, or will
	Interrupted Status = "interrupted" // it lacks what only Again can bring; Error says what
	Completed   Status = "completed"   // all is done; units that failed are named
	Failed      Status = "failed"      // it cannot go on; Error says why
	Cancelled   Status = "cancelled"   // it was stopped between two batches
)

// ended reports whether nothing more can happen to a job.
func (s Status) ended() bool { return s != Running && s != Interrupted }

// What a Step's error wraps that ends the work, but not as Failed.
var (
	ErrInterrupted = errors.New("job: interrupted") // until Again
	ErrCancelled   = errors.New("job: cancelled")   // what it works on is gone
)

// Job is one job as it stands in the store.
type Job struct {
	ID        string          `json:"id"` // a UUID; of two jobs the one made later has the greater ID
	Kind      string          `json:"kind"`
	Args      json.RawMessage `json:"args,omitzero"` // as given to Start; never a secret
	Status    Status          `json:"status"`
	Total     int             `json:"total"`     // units of work, as counted at the start; more may come
	Processed int             `json:"processed"` // units done, failed ones included
	Failed    int             `json:"failed"`
	FailedOf  []string        `json:"failed_of,omitempty"` // the first 100 names of failed units
	Error     string          `json:"error,omitempty"`     // why it failed, or what it waits for
	Cursor    string          `json:"cursor,omitempty"`    // belongs to the Kind
	Created   time.Time       `json:"created_at"`
	Updated   time.Time       `json:"updated_at"`
}

// Kind is one kind of work. Each call of its functions has a lease's time. A
// fault.Unavailable, a store.ErrConflict and the end of that time are waited
// out and tried again with the same Job; ErrInterrupted and ErrCancelled say what
// they do; any other error fails the job.
type Kind struct {
	Name string
	// Count estimates the units of work, for progress, before the first batch.
	// nil, or not done in a third of the lease: unknown, 0.
	Count func(ctx context.Context, j Job) (int, error)
	// Step prepares the next batch after j.Cursor. Nothing of it counts before
	// it was committed; after a conflict or a crash it is asked again with the
	// same cursor.
	Step func(ctx context.Context, j Job) (Step, error)
	// Done runs after the commit of the last batch and before the job is
	// completed; it may run again after a crash. nil: nothing.
	Done func(ctx context.Context, j Job) error
	// Undo returns what is committed together with the end of a job that is
	// cancelled, by whomever, or failed: j says which. nil: nothing.
	Undo func(ctx context.Context, j Job) (store.Batch, error)
	// Ended runs once this process, which worked on j, finds that j runs no more:
	// to let go of what it holds in memory. Not after a crash. nil: nothing.
	Ended func(j Job)
}

// Step is one batch of work.
type Step struct {
	Batch     store.Batch // committed together with the job's progress
	Cursor    string
	Processed int      // units in this batch, failed ones included
	Failed    []string // names of those that failed and were left as they are
	Anew      bool     // forget the units that failed before: they are met again
	Done      bool     // there is nothing after this batch
	// Ahead: the next Step may be called while this batch is committed, with the
	// Job as it will stand then. What it returns counts only if the commit does not
	// fail; so it must not read what this batch or its time of commit decides.
	Ahead bool
}

// maxFailedOf is how many names of failed units a job keeps.
const maxFailedOf = 100

// after returns j as it stands once s is committed.
func (j Job) after(s Step) Job {
	j.Cursor, j.Error = s.Cursor, ""
	if s.Anew {
		j.Processed, j.Failed, j.FailedOf = j.Processed-j.Failed, 0, nil
	}
	j.Processed += s.Processed
	j.Failed += len(s.Failed)
	room := max(0, maxFailedOf-len(j.FailedOf))
	j.FailedOf = append(j.FailedOf[:len(j.FailedOf):len(j.FailedOf)], s.Failed[:min(room, len(s.Failed))]...)
	return j
}
