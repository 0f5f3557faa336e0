package thread

import (
	"context"
	"errors"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// RotateAllJob is the name of the kind that RotateAllKind returns.
const RotateAllJob = "thread-dek-all"

// RotateAllArgs are the arguments of a RotateAllJob.
type RotateAllArgs struct {
	Plain   bool     `json:"plain,omitzero"`   // only threads that are not encrypted, or not to the end
	Threads []string `json:"threads,omitzero"` // IDs; none: all
	Rate    int      `json:"rate,omitzero"`    // rows per second at most; 0: as fast as it goes
}

// RotateAllKind is the job that does what MoveKind does for every thread that is
// there when it is started, or those that are named, in the order of their IDs. Its
// units are threads. One of which rows open under neither DEK keeps both and is
// named, and so is one that is damaged or not there; one that another job takes up
// meanwhile is left to that. One of which the KMS does not let this
// server destroy the old DEK is named with what to do, and keeps a note of it. A
// server that does not encrypt leaves threads alone that are not encrypted.
func (s *Service) RotateAllKind() job.Kind {
	return job.Kind{
		Name: RotateAllJob,
		Count: func(ctx context.Context, j job.Job) (int, error) {
			w, err := s.allMoverOf(j)
			if n := len(w.all.Threads); n > 0 || err != nil {
				return n, err
			}
			return s.count(ctx)
		},
		Step: func(ctx context.Context, j job.Job) (job.Step, error) {
			w, err := s.allMoverOf(j)
			if err != nil {
				return job.Step{}, err
			}
			return w.step(ctx)
		},
		Undo: func(ctx context.Context, j job.Job) (b store.Batch, err error) {
			w, err := s.allMoverOf(j)
			if err != nil {
				return b, err
			}
			err = w.shredOrOwe(ctx, &b)
			return b, err
		},
	}
}

// allMover is a RotateAllJob at work.
type allMover struct {
	mover
	all RotateAllArgs
}

func (s *Service) allMoverOf(j job.Job) (allMover, error) {
	w := allMover{mover: mover{Service: s, Job: j, at: new(moved)}}
	return w, j.Decode(&w.all, w.at)
}

// step destroys the DEK of the thread that arrived with the last commit, keeps to
// the rate, and takes the thread that is at work a step on, or the next.
func (w allMover) step(ctx context.Context) (s job.Step, err error) {
	if err := w.shred(ctx); errors.Is(err, fault.Forbidden) {
		return w.owes(ctx)
	} else if err != nil {
		return s, err
	}
	w.at.Shred = nil
	var pause time.Duration
	w.batch, pause = w.pace()
	if err := wait(ctx, pause); err != nil {
		return s, err
	}
	w.at.Rows = 0
	if w.at.Key == "" {
		return w.next(ctx)
	}
	thread := w.at.Thread
	s, out, err := w.mover.step(ctx)
	if errors.Is(err, fault.Damaged) {
		s, out, err = job.Step{}, stuck, nil
	}
	if err != nil {
		return s, err
	}
	s.Processed, s.Failed = 0, nil
	if out == onTheWay {
		return s.At(w.at)
	}
	s.Processed = 1
	if out == stuck || out != arrived && w.all.Plain { // or rows that another has in hand may lie in clear
		s.Failed = []string{"thread " + thread}
	}
	*w.at = moved{Thread: thread, Rows: w.at.Rows, Shred: w.at.Shred}
	return s.At(w.at)
}

// owes notes and names the thread of which the KMS destroys no DEK.
func (w allMover) owes(ctx context.Context) (s job.Step, err error) {
	if err := w.owe(ctx, &s.Batch); err != nil {
		return s, err
	}
	s.Failed = []string{"thread " + w.at.Thread + ", whose old DEK the KMS does not let this server destroy: " + giveShred}
	w.at.Shred = nil
	return s.At(w.at)
}

// next begins with the next thread.
func (w allMover) next(ctx context.Context) (s job.Step, err error) {
	for ; s.Processed < rewrapLook; s.Processed++ {
		id, rec, err := w.threadAfter(ctx, w.at.Thread)
		if err != nil {
			return s, err
		}
		if s.Done = id == ""; s.Done {
			break
		}
		w.at.Thread = id
		m, err := parseMeta(id, rec)
		if err != nil || m.KMS.plain() && !m.Plain && m.Purge == nil {
			s.Failed = append(s.Failed, "thread "+id)
			continue
		}
		if m.Purge != nil && w.all.Plain { // rows that are yet to go may lie in clear
			s.Failed = append(s.Failed, "thread "+id)
		}
		if m.Purge != nil || !w.concerns(m) {
			continue
		}
		processed, failed := s.Processed, s.Failed
		s, _, err = w.begin(ctx, m)
		if err != nil {
			return s, err
		}
		s.Processed, s.Failed = processed, failed
		break
	}
	return s.At(w.at)
}

// threadAfter is Service.threadAfter among those that the job is for.
func (w allMover) threadAfter(ctx context.Context, after string) (id string, rec store.Record, err error) {
	if len(w.all.Threads) == 0 {
		return w.Service.threadAfter(ctx, after)
	}
	for _, t := range w.all.Threads {
		if t > after && (id == "" || t < id) {
			id = t
		}
	}
	if !isThreadID(id) {
		return id, rec, nil
	}
	rec, err = w.store.Get(ctx, layout.ThreadMeta(id))
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return id, rec, store.Fault(err)
}

// concerns reports whether m is for this job.
func (w allMover) concerns(m meta) bool {
	switch {
	case m.Plain:
		return w.all.Plain || !w.plain
	case w.all.Plain:
		return m.Moving != nil && m.Moving.Old.plain()
	}
	return m.CreatedTS < w.Created.UnixNano()
}

// longestPause is how long a job rests between two batches at most.
const longestPause = 5 * time.Second

// pace returns how many rows the next batch may have, and how long to wait before
// it for those of the last one.
func (w allMover) pace() (batch int, pause time.Duration) {
	if w.all.Rate <= 0 {
		return w.moveBatch, 0
	}
	batch = min(w.moveBatch, w.all.Rate*int(longestPause/time.Second))
	return batch, min(longestPause, time.Duration(w.at.Rows)*time.Second/time.Duration(w.all.Rate))
}

// wait waits, or until ctx is done.
func wait(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
