package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// RotationJob is the name of the kind that RotationKind returns.
const RotationJob = "cmek-rotation"

// rotationArgs are the arguments of a RotationJob. Session names the keys in the
// KMS; it opens nothing outside of it.
type rotationArgs struct {
	Vault        string      `json:"vault"`
	Old          string      `json:"old"` // fingerprints
	New          string      `json:"new"`
	KeyCheck     string      `json:"key_check,omitzero"` // of the new key
	AcceptFailed bool        `json:"accept_failed,omitzero"`
	Session      string      `json:"session"`
	Org          string      `json:"org"` // whose trail hears of the end
	ByKind       access.Kind `json:"by_kind"`
	By           string      `json:"by"` // who asked last
}

// RotationKind is the job that re-encrypts every version of a vault that is
// under its CMEK key, old, disabled, expired and deleted ones too, under another
// key, and then makes that the vault's. Versions under other keys and plain ones
// are left alone. The keys are in a session of the KMS: when it is gone, the job
// is interrupted until Rotate brings them again.
//
// # Why nothing under the old fingerprint is left, or appears
//
// Every commit that brings a version row with a fingerprint that the vault
// decides (Put, ReencryptVersion) requires the vault's meta row as it read it.
// While meta has a rotation, such a row is tagged as it was declared, old or new,
// and old when nothing was declared.
//
//  1. pass. The job scans all version rows and re-encrypts those that are tagged
//     old, each batch in one commit with the cursor, and begins again while a
//     pass finds many: writers under the old key go on meanwhile.
//  2. close. One commit sets meta.Rotation.Closed. Who read meta before finds his
//     commit refused, reads again, and may not write under the old tag (vault.tag).
//     From here on no row tagged old can appear: Put and ReencryptVersion refuse
//     it, a rewrap leaves attributes as they are, and both a rewrap and this job
//     replace a row only at the revision that they read, so that neither brings
//     back what the other replaced.
//  3. drain. One more scan of all rows. It began after the closing, so each row
//     tagged old lies there already, keeps its key, and is met.
//     A page may be made while the one before it is committed, the first never.
//  4. flip. The commit that ends the drain's last page is done; the next one makes
//     the new fingerprint the vault's and removes meta.Rotation, if meta is as it
//     was read, together with the job's last progress. A row tagged old is refused
//     from now on as that of a strange key.
//
// A row tagged old that is under the new key already, since its writer declared
// nothing, is only tagged anew. One that opens with neither key is left, counted
// and named. A pass that ends with such rows fails the job, which removes
// meta.Rotation and leaves the vault's fingerprint, unless they were accepted:
// then they are all that stays under the old fingerprint. Whoever accepts them
// before the job has failed, in a request that is answered, has it pass once more,
// with the vault open to the old key. Each commit changes tag
// and value of a row together, so that wherever a crash comes every row opens
// with the key that its tag names.
//
// # Why a rewrap may run at the same time
//
// RewrapKind needs that no row appears under an older version of the KEK than the
// vault's meta says behind its scan. This job does not require meta, but a row
// that it writes is never under an older version than the row it replaces, nor
// than meta said when the batch was made (replace). If the rewrap has passed the
// row, the row as it was read here is either of before, and the commit is refused,
// or under the primary already, and so is the new one.
func (s *Service) RotationKind() job.Kind {
	return job.Kind{
		Name: RotationJob,
		Count: func(ctx context.Context, j job.Job) (int, error) {
			w, err := s.reencrypting(j)
			if err != nil {
				return 0, err
			}
			return w.count(ctx)
		},
		Step: func(ctx context.Context, j job.Job) (job.Step, error) {
			w, err := s.reencrypting(j)
			if err != nil {
				return job.Step{}, err
			}
			return w.step(ctx)
		},
		Done: func(ctx context.Context, j job.Job) error {
			w, err := s.reencrypting(j)
			if err != nil {
				return err
			}
			w.endSession()
			return w.record(ctx, "cmek.rotate_complete")
		},
		Undo: func(ctx context.Context, j job.Job) (store.Batch, error) {
			w, err := s.reencrypting(j)
			if err != nil {
				return store.Batch{}, err
			}
			return w.undo(ctx)
		},
		Ended: func(j job.Job) {
			if w, err := s.reencrypting(j); err == nil {
				w.endSession()
			}
		},
	}
}

// place is the cursor of a RotationJob, as JSON. Empty: at the start of the
// first pass.
type place struct {
	Phase  stage  `json:"phase,omitzero"`
	After  string `json:"after,omitzero"`  // key of the last version row that is done; "": none is
	Done   int    `json:"done,omitzero"`   // versions re-encrypted in this pass
	Passes int    `json:"passes,omitzero"` // that ended
}

// stage is what comes next at a place.
type stage string

const (
	passing  stage = ""
	closes   stage = "close"
	draining stage = "drain"
	flipping stage = "flip"
	fails    stage = "fail"
)

// A pass that found fewer versions than fewLeft, or is the last of maxPasses, is
// followed by the closing.
const (
	fewLeft   = 100
	maxPasses = 8
)

// reencrypting is a RotationJob at work.
type reencrypting struct {
	*Service
	job.Job
	args rotationArgs
	at   place
}

func (s *Service) reencrypting(j job.Job) (reencrypting, error) {
	w := reencrypting{Service: s, Job: j}
	return w, j.Decode(&w.args, &w.at)
}

func (w reencrypting) step(ctx context.Context) (job.Step, error) {
	v, err := w.load(ctx, w.args.Vault)
	if err != nil {
		return job.Step{}, err
	}
	if !w.runsIn(v) {
		return job.Step{}, fmt.Errorf("%w: %w", job.ErrCancelled, errNotRotating)
	}
	switch w.at.Phase {
	case closes:
		return w.shut(v, true, place{Phase: draining, Passes: w.at.Passes})
	case flipping:
		return w.flip(v)
	case fails:
		if w.args.AcceptFailed { // said after the pass that failed
			return w.shut(v, false, place{Passes: w.at.Passes})
		}
		return job.Step{}, fault.New(fault.Unopenable, "%d versions open with neither key and were left as they are; mend or delete them and rotate again, "+
			"or send the same request with accept_failed, which leaves them under the old key", w.Job.Failed)
	}
	return w.page(ctx, v)
}

var errNotRotating = fault.New(fault.NotFound, "the vault was deleted, or knows nothing of this rotation")

// runsIn reports whether v knows of this job. It does not when it was deleted.
func (w reencrypting) runsIn(v vault) bool {
	return v.rev != 0 && v.Rotation != nil && v.Rotation.Job == w.ID
}

// passed returns what follows at, where a scan has met all rows and left some.
func (w reencrypting) passed(at place, left int) place {
	next := place{Passes: at.Passes + 1}
	switch {
	case left > 0 && !w.args.AcceptFailed:
		next.Phase = fails
	case at.Phase == draining:
		next.Phase = flipping
	case at.Done < fewLeft || next.Passes >= maxPasses:
		next.Phase = closes
	}
	return next
}

// shut closes the vault to writes under the old key, or opens it again.
func (w reencrypting) shut(v vault, closed bool, next place) (s job.Step, err error) {
	r := *v.Rotation
	r.Closed, v.Rotation = closed, &r
	if err := v.putMeta(&s.Batch); err != nil {
		return s, err
	}
	return s.At(next)
}

// flip makes the new key the vault's.
func (w reencrypting) flip(v vault) (s job.Step, err error) {
	v.Fingerprint, v.Since, v.KeyCheck, v.Rotation = w.args.New, w.time(), w.args.KeyCheck, nil
	s.Done = true
	if err := v.putMeta(&s.Batch); err != nil {
		return s, err
	}
	return s.At(w.at)
}

// putMeta adds v's meta row to b, on the condition that it is as v was read.
func (v vault) putMeta(b *store.Batch) error {
	key := layout.VaultMeta(v.id)
	b.RequireRevision(key, v.rev)
	return put(b, key, v.vaultMeta)
}

// undo takes the rotation out of its vault. What is under the new key stays so.
func (w reencrypting) undo(ctx context.Context) (b store.Batch, err error) {
	v, err := w.load(ctx, w.args.Vault)
	switch {
	case errors.Is(err, fault.Damaged):
		return b, nil // the job ends, so that the vault can be restored
	case err != nil:
		return b, err
	case w.runsIn(v):
		v.Rotation = nil
		err = v.putMeta(&b)
	case v.Fingerprint == w.args.New:
		return b, fault.New(fault.Conflict, "the rotation is complete already")
	}
	if err == nil && w.Status == job.Failed {
		err = w.record(ctx, "cmek.rotate_fail")
	}
	return b, err
}

// endSession has the KMS wipe the keys, which it does by itself after a while
// when it does not hear this.
func (w reencrypting) endSession() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := w.kms.CloseCMEKRotation(ctx, w.args.Session); err != nil {
		w.log.Warn("the key process was not told that a CMEK rotation has ended; it wipes the keys after 10 minutes", "job", w.ID, "error", err)
	}
}

// record tells the trail what came of the rotation.
func (w reencrypting) record(ctx context.Context, as string) error {
	p := access.Principal{Kind: w.args.ByKind, ID: w.args.By, OrgID: w.args.Org}
	return w.authority.Done(ctx, p, access.VaultCMEK, access.Resource{
		OrgID: w.args.Org, VaultID: w.args.Vault, Type: "vault", ID: w.args.Vault, As: as,
		Details: map[string]string{"job_id": w.ID, "old_fingerprint": w.args.Old, "new_fingerprint": w.args.New},
	})
}
