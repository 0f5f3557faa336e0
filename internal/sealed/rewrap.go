package sealed

import (
	"context"
	"errors"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// RewrapJob is the name of the kind that RewrapKind returns.
const RewrapJob = "server-rewrap"

// RewrapArgs are the arguments of a RewrapJob.
type RewrapArgs struct {
	Rotate bool `json:"rotate"` // make a new primary first
}

// Rewrapper is what a RewrapJob needs of the key process; see KMS.
type Rewrapper interface {
	Rewrap(context.Context, []kmsapi.RewrapItem) ([]kmsapi.RewrapResult, error)
	RotateKEK(context.Context, kmsapi.Rotate) (kmsapi.Rotated, error)
	ReleaseKEK(ctx context.Context, kekID string, below uint32) error
}

// RewrapKind is the job that brings the wrapped DEKs of all rows under the
// primary of the KEK and then releases the older versions. Its units are rows.
// Secrets are not touched. A row that does not open is left as it is and named,
// and the KEK is not released.
//
// # Why nothing under an older version is left, or appears
//
// The job first learns the primary p and commits it into the row
// layout.SealedKEK. Every commit of a row requires that row as it was read
// before the secret was sealed, and refuses an envelope under a version less
// than the row's (Put). So a secret that was sealed under an older row was
// committed before the row changed, or is refused and sealed again; what comes
// after is under p or later. Only then does the job pass over all rows in the
// order of their keys. When it is through without a failure, no row under a
// version less than p exists, nor can appear: only now the KEK is released
// below p. A copy of the store from before is not covered by this.
func (x *Box) RewrapKind(kms Rewrapper) job.Kind {
	return job.Kind{
		Name:  RewrapJob,
		Count: func(ctx context.Context, _ job.Job) (int, error) { return x.count(ctx) },
		Step: func(ctx context.Context, j job.Job) (job.Step, error) {
			w := rewrapping{Box: x, keks: kms}
			if err := j.Decode(&w.args, &w.at); err != nil {
				return job.Step{}, err
			}
			return w.step(ctx)
		},
	}
}

// rewrapping is a RewrapJob at work.
type rewrapping struct {
	*Box
	keks Rewrapper
	args RewrapArgs
	at   position
}

// position is the cursor of a RewrapJob, as JSON. Empty: at the start.
type position struct {
	Phase   phase  `json:"phase"`
	Version uint32 `json:"version"`         // of the KEK; see phase
	After   string `json:"after,omitzero"`  // key of the last row that is done
	Failed  bool   `json:"failed,omitzero"` // a row was
}

// phase is what comes next at a position.
type phase string

const (
	rotating  phase = "rotate"  // rotate the KEK, if Version is still its primary
	passing   phase = "pass"    // rewrap the rows after After under Version or later
	releasing phase = "release" // release the KEK below Version; this is the end
)

func (w rewrapping) step(ctx context.Context) (job.Step, error) {
	switch w.at.Phase {
	case releasing:
		return job.Step{Done: true}, w.keks.ReleaseKEK(ctx, KEK, w.at.Version)
	case passing:
		return w.pass(ctx)
	case rotating:
		r, err := w.keks.RotateKEK(ctx, kmsapi.Rotate{KEKID: KEK, IfVersion: w.at.Version})
		if err == nil && r.KEKVersion <= w.at.Version {
			err = errOldKEK
		}
		return w.enter(ctx, r.KEKVersion, err)
	}
	primary, err := w.primary(ctx)
	if errors.Is(err, fault.NotFound) {
		return w.without(ctx)
	}
	if err != nil || !w.args.Rotate {
		return w.enter(ctx, primary, err)
	}
	// The primary goes into the cursor before the rotation, so that a crash after
	// the rotation does not rotate again.
	return job.Step{}.At(position{Phase: rotating, Version: primary})
}

// primary asks the KMS for a seal of nothing, which tells the primary. Unlike
// CreateKEK it makes no KEK where the KMS has lost it.
func (w rewrapping) primary(ctx context.Context) (uint32, error) {
	res, err := w.kms.Seal(ctx, []kmsapi.SealItem{{KEKID: KEK, AAD: aead.AAD("keyfold/nothing/v1", KEK)}})
	if err == nil && len(res) != 1 {
		err = errAnswers
	}
	if err != nil {
		return 0, err
	}
	return res[0].Envelope.KEKVersion, res[0].Err
}

// without ends the job of a KMS that has no KEK yet, as long as nothing is
// sealed under it.
func (w rewrapping) without(ctx context.Context) (job.Step, error) {
	recs, err := w.store.Scan(ctx, store.Prefix(layout.AllSealed()), store.ScanOptions{Limit: 1})
	if err == nil && len(recs) > 0 {
		err = fault.New(fault.Damaged, "the KMS does not have the key over the server's own secrets; restore it from its newest backup")
	}
	return job.Step{Done: true}, store.Fault(err)
}

// leastKEK is the row layout.SealedKEK, as JSON: {"kek_version":2}.
type leastKEK struct {
	KEKVersion uint32 `json:"kek_version"`
}

// least returns the least version that a row may be written under, and the
// revision of its row: 0 and 0 when there is none.
func (x *Box) least(ctx context.Context) (uint32, store.Revision, error) {
	rec, err := x.store.Get(ctx, layout.SealedKEK())
	if errors.Is(err, store.ErrNotFound) {
		return 0, 0, nil
	} else if err != nil {
		return 0, 0, store.Fault(err)
	}
	var row leastKEK
	if err := json.Unmarshal(rec.Value, &row, json.RejectUnknownMembers(true)); err != nil {
		return 0, 0, fault.Wrap(fault.Damaged, err, "the row %s is damaged; restore the store from a backup", layout.SealedKEK())
	}
	return row.KEKVersion, rec.Revision, nil
}

// enter makes primary, unless it came with err, the least version that a row
// may be written under, and goes to the rows.
func (w rewrapping) enter(ctx context.Context, primary uint32, err error) (s job.Step, _ error) {
	if err != nil {
		return s, err
	}
	least, rev, err := w.least(ctx)
	if err != nil {
		return s, err
	}
	if least > primary {
		return s, fault.New(fault.Damaged, "the KMS has fewer versions of the server's KEK than secrets were sealed under; restore it from its newest backup")
	}
	if least < primary {
		row, err := json.Marshal(leastKEK{primary})
		if err != nil {
			return s, err
		}
		s.Batch.RequireRevision(layout.SealedKEK(), rev)
		s.Batch.Put(layout.SealedKEK(), row)
	}
	return s.At(position{Phase: passing, Version: primary})
}

// rewrapBatch and rewrapBytes bound the rows of one commit.
const (
	rewrapBatch = 100
	rewrapBytes = 8 << 20
)

// pass rewraps the next rows.
func (w rewrapping) pass(ctx context.Context) (job.Step, error) {
	all := store.Prefix(layout.AllSealed())
	if w.at.After != "" {
		all.Start = w.at.After + "\x00"
	}
	opt := store.ScanOptions{Limit: rewrapBatch, MaxBytes: rewrapBytes}
	recs, err := w.store.Scan(ctx, all, opt)
	if err != nil {
		return job.Step{}, store.Fault(err)
	}
	s, err := w.rewrap(ctx, recs)
	if err != nil {
		return job.Step{}, err
	}
	size := 0
	for _, rec := range recs {
		size += len(rec.Value)
		w.at.After = rec.Key
	}
	w.at.Failed = w.at.Failed || len(s.Failed) > 0
	if !opt.Full(len(recs), size) {
		w.at.Phase, w.at.After, s.Done = releasing, "", w.at.Failed
	}
	return s.At(w.at)
}

// rewrap returns the batch that brings recs under the primary, in one KMS call.
// Each row is written on the condition that it is as it was read.
func (w rewrapping) rewrap(ctx context.Context, recs []store.Record) (job.Step, error) {
	s := job.Step{Processed: len(recs)}
	var old []oldRow
	var items []kmsapi.RewrapItem
	for _, rec := range recs {
		kind, owner, id, ok := layout.ParseSealed(rec.Key)
		e, err := parse(rec.Value)
		switch {
		case !ok || err != nil:
			s.Failed = append(s.Failed, rowName(rec.Key))
		case e.KEKVersion < w.at.Version:
			old = append(old, oldRow{rec, e})
			items = append(items, kmsapi.RewrapItem{
				KEKID: e.KEKID, KEKVersion: e.KEKVersion, WrappedDEK: e.WrappedDEK, AAD: Name{kind, owner, id}.aad(),
			})
		}
	}
	if len(items) == 0 {
		return s, nil
	}
	res, err := w.keks.Rewrap(ctx, items)
	if err == nil && len(res) != len(items) {
		err = errAnswers
	}
	for i := 0; i < len(res) && err == nil; i++ {
		err = w.replace(&s, old[i], res[i])
	}
	return s, err
}

// oldRow is a row under an older version of the KEK.
type oldRow struct {
	store.Record
	envelope kmsapi.Envelope
}

// replace puts o with res into s, or names it as failed. Its error says nothing
// of the row.
func (w rewrapping) replace(s *job.Step, o oldRow, res kmsapi.RewrapResult) error {
	switch {
	case errors.Is(res.Err, fault.Unavailable), errors.Is(res.Err, fault.Timeout):
		return res.Err
	case res.Err != nil:
		s.Failed = append(s.Failed, rowName(o.Key))
		return nil
	case res.KEKID != KEK || len(res.WrappedDEK) != wrappedSize:
		return errAnswers
	case res.KEKVersion < w.at.Version:
		return errOldKEK
	}
	o.envelope.KEKVersion, o.envelope.WrappedDEK = res.KEKVersion, res.WrappedDEK
	s.Batch.RequireRevision(o.Key, o.Revision)
	return put(&s.Batch, o.Key, o.envelope)
}

// rowName is how a job names the row under key.
func rowName(key string) string {
	return "secret " + strings.TrimPrefix(key, layout.AllSealed()) + " of the server's"
}

// count counts the rows.
func (x *Box) count(ctx context.Context) (n int, err error) {
	for _, err := range store.All(ctx, x.store, store.Prefix(layout.AllSealed())) {
		if err != nil {
			return n, store.Fault(err)
		}
		n++
	}
	return n, nil
}
