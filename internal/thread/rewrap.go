package thread

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
const RewrapJob = "thread-rewrap"

// RewrapArgs are the arguments of a RewrapJob.
type RewrapArgs struct {
	Rotate bool `json:"rotate"` // make a new primary first
}

// RewrapKind is the job that brings the key facts of threads, deleted ones
// too, under the primary of the threads' KEK. The DEKs that are used lie in the
// KMS, which rewraps each when it is asked for its facts; messages are not read.
// Its units are threads. One whose DEK the KMS does not have is left as it is
// and named.
//
// # Why no facts under an older version are left, or appear
//
// The job first learns the primary p and commits it into the row
// layout.ThreadKEK. Every commit of a new thread requires that row as it was
// read before, and refuses a DEK under a version less than the row's
// (Service.Create). So a thread that was made under an older row was committed
// before the row changed, or is refused and gets another DEK; what comes after
// is under p or later. So it is with the fresh DEK of a thread that is re-encrypted
// (Service.begun), which keeps the facts of the old one as they are, both of which
// are rewrapped. Only then does the job pass over all threads in the order of their
// keys, and nothing but a rewrap changes the facts of a DEK that is there.
func (s *Service) RewrapKind() job.Kind {
	return job.Kind{
		Name:  RewrapJob,
		Count: func(ctx context.Context, _ job.Job) (int, error) { return s.count(ctx) },
		Step: func(ctx context.Context, j job.Job) (job.Step, error) {
			w := rewrapping{Service: s}
			if err := j.Decode(&w.args, &w.at); err != nil {
				return job.Step{}, err
			}
			return w.step(ctx)
		},
	}
}

// rewrapping is a RewrapJob at work.
type rewrapping struct {
	*Service
	args RewrapArgs
	at   position
}

// position is the cursor of a RewrapJob, as JSON. Empty: at the start.
type position struct {
	Phase   phase  `json:"phase"`
	Version uint32 `json:"version"`        // of the KEK; see phase
	After   string `json:"after,omitzero"` // ID of the last thread that is done
}

// phase is what comes next at a position.
type phase string

const (
	rotating phase = "rotate" // rotate the KEK, if Version is still its primary
	passing  phase = "pass"   // rewrap the threads after After under Version or later
)

func (w rewrapping) step(ctx context.Context) (job.Step, error) {
	switch w.at.Phase {
	case passing:
		return w.pass(ctx)
	case rotating:
		r, err := w.kms.RotateKEK(ctx, kmsapi.Rotate{KEKID: kmsapi.ThreadsKEK, IfVersion: w.at.Version})
		if err == nil && r.KEKVersion <= w.at.Version {
			err = errOldKEK
		}
		return w.enter(ctx, r.KEKVersion, err)
	}
	primary, err := w.primary(ctx)
	if err != nil || !w.args.Rotate {
		return w.enter(ctx, primary, err)
	}
	// The primary goes into the cursor before the rotation, so that a crash after
	// the rotation does not rotate again.
	return job.Step{}.At(position{Phase: rotating, Version: primary})
}

// primary returns the primary of the threads' KEK, which the KMS always has.
func (w rewrapping) primary(ctx context.Context) (uint32, error) {
	infos, err := w.kms.CreateKEK(ctx, []string{kmsapi.ThreadsKEK})
	if err := kmsFault(err, len(infos), 1); err != nil {
		return 0, err
	}
	return infos[0].Version, nil
}

// leastKEK is the row layout.ThreadKEK, as JSON: {"kek_version":2}.
type leastKEK struct {
	KEKVersion uint32 `json:"kek_version"`
}

// leastKEK returns the least version that a new thread's DEK may be under, and
// the revision of its row: 0 and 0 when there is none.
func (s *Service) leastKEK(ctx context.Context) (uint32, store.Revision, error) {
	rec, err := s.store.Get(ctx, layout.ThreadKEK())
	if errors.Is(err, store.ErrNotFound) {
		return 0, 0, nil
	} else if err != nil {
		return 0, 0, err
	}
	var row leastKEK
	if err := json.Unmarshal(rec.Value, &row, json.RejectUnknownMembers(true)); err != nil {
		return 0, 0, fault.Wrap(fault.Damaged, err, "the row %s is damaged; restore the store from a backup", layout.ThreadKEK())
	}
	return row.KEKVersion, rec.Revision, nil
}

// enter makes primary, unless it came with err, the least version that new
// threads may use, and goes to the threads.
func (w rewrapping) enter(ctx context.Context, primary uint32, err error) (s job.Step, _ error) {
	if err != nil {
		return s, err
	}
	least, rev, err := w.leastKEK(ctx)
	if err != nil {
		return s, store.Fault(err)
	}
	if least > primary {
		return s, fault.New(fault.Damaged, "the KMS has fewer versions of the threads' KEK than threads were made under; restore it from its newest backup")
	}
	if least < primary {
		row, err := json.Marshal(leastKEK{primary})
		if err != nil {
			return s, err
		}
		s.Batch.RequireRevision(layout.ThreadKEK(), rev)
		s.Batch.Put(layout.ThreadKEK(), row)
	}
	return s.At(position{Phase: passing, Version: primary})
}

// Bounds of one batch, in threads.
const (
	rewrapBatch = 100  // rewrapped
	rewrapLook  = 1000 // looked at
)

// pass rewraps the next threads.
func (w rewrapping) pass(ctx context.Context) (job.Step, error) {
	var s job.Step
	var old []meta
	for ; s.Processed < rewrapLook && len(old) < rewrapBatch; s.Processed++ {
		id, rec, err := w.threadAfter(ctx, w.at.After)
		if err != nil {
			return s, err
		}
		if s.Done = id == ""; s.Done {
			break
		}
		w.at.After = id
		m, err := parseMeta(id, rec)
		switch {
		case err == nil && m.Purge != nil: // it has no DEK any more, or soon
		case err != nil || m.KMS.plain() && !m.Plain:
			s.Failed = append(s.Failed, "thread "+id)
		case len(m.deksUnder(w.at.Version)) > 0:
			old = append(old, m)
		}
	}
	if err := w.rewrap(ctx, &s, old); err != nil {
		return s, err
	}
	return s.At(w.at)
}

// threadAfter returns the first thread after the thread after that has any row,
// with its record, which is empty when it is gone; "" when there is none. Messages
// are not read.
func (s *Service) threadAfter(ctx context.Context, after string) (id string, rec store.Record, err error) {
	all := store.Prefix(layout.Threads())
	if after != "" {
		all.Start = store.Prefix(layout.Threads() + after + ":").End
	}
	recs, err := s.store.Scan(ctx, all, store.ScanOptions{Limit: 1})
	if err != nil || len(recs) == 0 {
		return "", store.Record{}, store.Fault(err)
	}
	id, _, _ = strings.Cut(strings.TrimPrefix(recs[0].Key, layout.Threads()), ":")
	if rec = recs[0]; rec.Key != layout.ThreadMeta(id) {
		if rec, err = s.store.Get(ctx, layout.ThreadMeta(id)); errors.Is(err, store.ErrNotFound) {
			return id, store.Record{}, nil
		}
	}
	return id, rec, store.Fault(err)
}

// count counts the threads.
func (s *Service) count(ctx context.Context) (n int, err error) {
	for id := ""; ; n++ {
		if id, _, err = s.threadAfter(ctx, id); err != nil || id == "" {
			return n, err
		}
	}
}

// deksUnder returns the DEKs of a thread, two while it is re-encrypted, that are
// under an older version of the KEK.
func (m *meta) deksUnder(version uint32) (deks []*kmsMeta) {
	all := []*kmsMeta{&m.KMS}
	if m.Moving != nil {
		all = append(all, &m.Moving.Old)
	}
	for _, d := range all {
		if !d.plain() && d.KEKVersion < version {
			deks = append(deks, d)
		}
	}
	return deks
}

// rewrap adds to s the new facts of old, in one KMS call. Each record is
// written on the condition that it is as it was read.
func (w rewrapping) rewrap(ctx context.Context, s *job.Step, old []meta) error {
	if len(old) == 0 {
		return nil
	}
	var items []kmsapi.RewrapItem
	for i := range old {
		for _, d := range old[i].deksUnder(w.at.Version) {
			items = append(items, kmsapi.RewrapItem{KeyID: d.KeyID})
		}
	}
	res, err := w.kms.Rewrap(ctx, items)
	if err := kmsFault(err, len(res), len(items)); err != nil {
		return err
	}
	for i := range old {
		m := &old[i]
		deks := m.deksUnder(w.at.Version)
		err := w.take(deks, res[:len(deks)])
		res = res[len(deks):]
		switch {
		case errors.Is(err, errNotRewrapped):
			s.Failed = append(s.Failed, "thread "+m.ID)
			m.require(&s.Batch) // or that DEK was destroyed since, as it should be
			continue
		case err == nil:
			err = m.put(&s.Batch)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var errNotRewrapped = errors.New("the KMS does not rewrap it")

// take puts the KMS's answers into deks. errNotRewrapped: it never will give one.
func (w rewrapping) take(deks []*kmsMeta, res []kmsapi.RewrapResult) error {
	for i, r := range res {
		switch {
		case errors.Is(r.Err, fault.Unavailable), errors.Is(r.Err, fault.Timeout):
			return kmsFault(r.Err, 1, 1)
		case r.Err != nil:
			return errNotRewrapped
		case r.KEKVersion < w.at.Version || r.KEKID == "" || len(r.WrappedDEK) != aead.KeySize+aead.Overhead:
			return errOldKEK
		}
		deks[i].KEKID, deks[i].KEKVersion, deks[i].WrappedDEK = r.KEKID, r.KEKVersion, r.WrappedDEK
	}
	return nil
}
