package thread

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// MoveJob is the name of the kind that MoveKind returns.
const MoveJob = "thread-dek"

// MoveArgs are the arguments of a MoveJob.
type MoveArgs struct {
	Thread string `json:"thread"`       // ID
	Key    string `json:"key,omitzero"` // of the DEK under which it was begun; "": the job begins, or takes up what another has begun
}

// MoveKind is the job that brings all rows of one thread, which may be deleted,
// under a fresh DEK and then destroys the old one in the KMS; of a thread that is
// not encrypted it is the first DEK. Its units are rows: messages, their older
// versions, deleted ones, and reactions.
//
// # Why nothing under the old DEK is left, or appears
//
// The thread's record names the DEK that everything is written under. Every commit
// of a row requires that record as its writer read it, and writes under that DEK
// alone (meta.putRow, Service.writable).
//
//  1. begin. One commit makes a fresh DEK the record's, and notes the old one in
//     Moving. Who read the record before finds his commit refused, reads again, and
//     writes under the new DEK. So the rows under the old DEK are all there by now:
//     they can become fewer and do not change their keys. An edit or a deletion
//     that gives a row another name seals it anew, under the new DEK.
//  2. sweep. Only then the job learns the newest message, and passes over all rows
//     of messages up to that one in the order of their keys, which meets every row
//     under the old DEK that is still there. A row is read, opened under one DEK or
//     the other, and if it is under the old one it is replaced by the same text under
//     the new, on the condition that it is at the revision at which it was read: who
//     was faster has written it under the new DEK. The batch is one commit together
//     with the job's cursor, and with the row by which readers guess. It requires the
//     thread's record, so that this job is the one that Moving names.
//     A row that appears behind the job is under the new DEK and needs no look.
//  3. flip. The commit of the last batch, if every row opened, takes Moving out of
//     the record: no row is under the old DEK, and none can appear.
//  4. shred. Only once that is on stable storage, the old DEK is destroyed. A
//     cancelled job does so too if it was flipped. A DEK that is not there any more was
//     destroyed by a try whose answer was lost. Where the KMS does not let this server
//     destroy it, the job fails, and the commit that ends it notes the DEK in the
//     thread's record (meta.Owed): the next job's flip takes it from there, and so does
//     a purge.
//
// A row that opens under neither DEK is left as it is, counted and named, and the
// job fails at the end of the sweep: it does not flip, and the old DEK stays, under
// which a copy of the row from a backup may open. The next job begins anew and looks
// at all rows again.
//
// # Why nothing is lost, and readers and writers go on
//
// Each row is replaced whole, in one commit, by what opens to the same text: so
// wherever a crash comes, it opens under one of the two DEKs that the record names.
// A reader tries both. He may have read the record before the beginning, or a row
// before it was replaced, and ask the KMS when the old DEK is no more: then he reads
// both again (Service.reopen). Writers write under the new DEK from the
// beginning on and wait for nothing, but for the one commit that begins.
//
// Two jobs do not work on one thread: Moving names one of them, and a job that
// finds another's name leaves. One that begins without a key takes the thread over
// from whoever had it, who may be gone, and looks at all rows again, since nobody
// can tell which of them the other had to leave. The cursor's row decides nothing:
// whoever put an older one there has readers guess worse.
func (s *Service) MoveKind() job.Kind {
	return job.Kind{
		Name: MoveJob,
		Count: func(ctx context.Context, j job.Job) (int, error) {
			w, err := s.moverOf(j)
			if err != nil {
				return 0, err
			}
			return s.countRows(ctx, w.args.Thread)
		},
		Step: func(ctx context.Context, j job.Job) (job.Step, error) {
			w, err := s.moverOf(j)
			if err != nil {
				return job.Step{}, err
			}
			return w.single(ctx)
		},
		Done: func(ctx context.Context, j job.Job) error {
			w, err := s.moverOf(j)
			if err != nil {
				return err
			}
			return w.shred(ctx)
		},
		Undo: func(ctx context.Context, j job.Job) (b store.Batch, err error) {
			w, err := s.moverOf(j)
			if err != nil {
				return b, err
			}
			err = w.shredOrOwe(ctx, &b)
			return b, err
		},
	}
}

// moved is the cursor of a MoveJob and a RotateAllJob, as JSON. Empty: at the start.
type moved struct {
	Thread string   `json:"thread,omitzero"` // that is at work, or was last
	Key    string   `json:"key,omitzero"`    // its new DEK; "": it is not begun
	Last   string   `json:"last,omitzero"`   // the newest message to look at; "": not known yet
	After  rowName  `json:"after,omitzero"`  // the last row that is done; "": none is
	Left   int      `json:"left,omitzero"`   // rows so far that open under neither DEK
	Rows   int      `json:"rows,omitzero"`   // of the last batch
	Stuck  bool     `json:"stuck,omitzero"`  // all rows are done, but for those left
	Shred  []string `json:"shred,omitzero"`  // IDs of the DEKs that nothing of it is under any more
}

// outcome is what a step comes to for its thread, once it is committed.
type outcome int

const (
	onTheWay outcome = iota
	arrived          // all rows are under the new DEK
	stuck            // all are but those that open under neither
	gone             // there is no such thread any more
	others           // another job does it
)

// mover is a job at work on threads.
type mover struct {
	*Service
	job.Job
	args  MoveArgs
	at    *moved
	batch int // rows of one batch at most
}

func (s *Service) moverOf(j job.Job) (mover, error) {
	w := mover{Service: s, Job: j, at: new(moved), batch: s.moveBatch}
	return w, j.Decode(&w.args, w.at)
}

var (
	errGone   = fault.New(fault.NotFound, "there is no such thread, or no more")
	errOthers = fault.New(fault.Conflict, "another job goes on with this thread")
)

// single takes the one thread a step on.
func (w mover) single(ctx context.Context) (job.Step, error) {
	if w.at.Stuck {
		return job.Step{}, fault.New(fault.Unopenable, "%d rows open under neither the old DEK nor the new one and were left as they are, and so was the old DEK; "+
			"restore them from a backup and rotate again", w.at.Left)
	}
	if w.at.Thread == "" {
		w.at.Thread, w.at.Key = w.args.Thread, w.args.Key
	}
	s, out, err := w.step(ctx)
	switch {
	case err != nil:
		return s, err
	case out == gone:
		return s, fmt.Errorf("%w: %w", job.ErrCancelled, errGone)
	case out == others:
		return s, fmt.Errorf("%w: %w", job.ErrCancelled, errOthers)
	}
	s.Done, w.at.Stuck = out == arrived, out == stuck
	return s.At(w.at)
}

// step takes the thread that is at work a step on, and with it w.at.
func (w mover) step(ctx context.Context) (s job.Step, out outcome, err error) {
	m, err := w.record(ctx, w.at.Thread)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return s, gone, nil
	case err != nil:
		return s, 0, store.Fault(err)
	case w.at.Key == "":
		return w.begin(ctx, m)
	case m.Moving == nil || m.KMS.KeyID != w.at.Key:
		return s, arrived, nil // by another job, which shreds
	case m.Moving.Job != w.ID:
		return s, others, nil
	}
	return w.page(ctx, m)
}

// begin begins to move m, or takes it over from whoever did.
func (w mover) begin(ctx context.Context, m meta) (s job.Step, out outcome, err error) {
	if m.Moving == nil {
		if m, err = w.begun(ctx, &s.Batch, m); errors.Is(err, errLag) {
			err = errOldKEK
		}
		if err != nil {
			return s, 0, err
		}
	}
	m.Moving.Job, w.at.Key = w.ID, m.KMS.KeyID
	return s, onTheWay, m.put(&s.Batch)
}

// giveShred says what to do where the KMS does not let this server destroy DEKs.
const giveShred = "give the server's name the role shred in the key process's configuration, then run it again"

// shred destroys the DEKs that nothing is under any more since the job's last
// commit. fault.Forbidden: the KMS does not let this server do so.
func (w mover) shred(ctx context.Context) error {
	for _, key := range w.at.Shred {
		switch err := w.kms.ShredDEK(ctx, key); {
		case errors.Is(err, fault.Forbidden):
			return fault.Wrap(fault.Forbidden, err, "all rows are under the new DEK, but the KMS does not let this server destroy the old one: %s", giveShred)
		case err != nil && !errors.Is(err, fault.NotFound):
			return fault.Wrap(fault.Unavailable, err, "all rows are under the new DEK, but the KMS has not destroyed the old one: %s", fault.Of(err).Message)
		}
	}
	return nil
}

// shredOrOwe is shred, or adds to b that the thread's DEKs are yet to be destroyed.
func (w mover) shredOrOwe(ctx context.Context, b *store.Batch) error {
	err := w.shred(ctx)
	if !errors.Is(err, fault.Forbidden) {
		return err
	}
	return w.owe(ctx, b)
}

// owe adds to b that the DEKs of the thread are yet to be destroyed. A thread whose
// record is gone or damaged takes no note.
func (w mover) owe(ctx context.Context, b *store.Batch) error {
	rec, err := w.store.Get(ctx, layout.ThreadMeta(w.at.Thread))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	} else if err != nil {
		return store.Fault(err)
	}
	m, err := parseMeta(w.at.Thread, rec)
	switch {
	case err != nil:
		return nil
	case m.Purge != nil:
		m.Purge.DEKs = append(m.Purge.DEKs, w.at.Shred...)
	default:
		m.Owed = append(m.Owed, w.at.Shred...)
	}
	return m.put(b)
}

// MoveJobs is what RotateDEK needs of the runner of jobs, which knows MoveKind.
type MoveJobs interface {
	StartWith(ctx context.Context, kind string, args any, rows func(id string) (store.Batch, error)) (job.Job, error)
	Get(ctx context.Context, id string) (job.Job, error)
}

// RotateDEK gives a thread, which may be deleted, a fresh DEK, and answers its ID
// and the job that brings what there is under it; new messages are under it as soon
// as this returns. Of a thread that is at it already it answers the DEK and the job
// that there is, or another job if that one has ended. Who may ask is the caller's
// to decide. Errors: NotFound, Conflict (the thread is not encrypted, on a server
// that does not encrypt), Unavailable (nothing was begun), Damaged.
func (s *Service) RotateDEK(ctx context.Context, jobs MoveJobs, threadID string) (keyID string, j job.Job, err error) {
	err = retryKEK(ctx, func() (err error) {
		m, err := s.record(ctx, threadID)
		if err != nil {
			return err
		}
		if m.Moving != nil {
			if j, err = jobs.Get(ctx, m.Moving.Job); err == nil && j.Status == job.Running {
				keyID = m.KMS.KeyID
				return nil
			} else if err != nil && !errors.Is(err, fault.NotFound) {
				return err
			}
		}
		keyID, j, err = s.startMove(ctx, jobs, m)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		err = errGone
	}
	return keyID, j, store.Fault(err)
}

// startMove begins to move m, or goes on with it, and starts the job with that.
func (s *Service) startMove(ctx context.Context, jobs MoveJobs, m meta) (keyID string, j job.Job, err error) {
	var b store.Batch
	switch {
	case m.Moving != nil:
	case m.Plain && s.plain:
		return "", j, fault.New(fault.Conflict, "this thread is not encrypted, and this server does not encrypt; switch encryption on first")
	default:
		if m, err = s.begun(ctx, &b, m); err != nil {
			return "", j, err
		}
	}
	j, err = jobs.StartWith(ctx, MoveJob, MoveArgs{m.ID, m.KMS.KeyID}, func(id string) (store.Batch, error) {
		m.Moving.Job = id
		return b, m.put(&b)
	})
	return m.KMS.KeyID, j, err
}
