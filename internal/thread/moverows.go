package thread

import (
	"context"

	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Bounds of one batch. It ends after the row with which it has so many bytes.
const (
	moveBatch = 500
	moveBytes = 8 << 20
)

// rowsAfter returns the encrypted rows of a thread after one, of messages up to
// last, in the order of their names: at most limit, and some bytes. end: these are
// all.
func (s *Service) rowsAfter(ctx context.Context, threadID string, after rowName, last string, limit int) (recs []store.Record, end bool, err error) {
	size := 0
	for _, kind := range rowKinds {
		rng := store.Range{
			Start: max(layout.ThreadRow(threadID, kind), after.key(threadID)+"\x00"),
			End:   store.Prefix(layout.ThreadRow(threadID, kind+last)).End,
		}
		if rng.Start >= rng.End {
			continue
		}
		opt := store.ScanOptions{Limit: limit - len(recs), MaxBytes: moveBytes - size}
		more, err := s.store.Scan(ctx, rng, opt)
		if err != nil {
			return nil, false, err
		}
		recs = append(recs, more...)
		n := 0
		for _, rec := range more {
			n += len(rec.Value)
		}
		if opt.Full(len(more), n) {
			return recs, false, nil
		}
		size += n
	}
	return recs, true, nil
}

// countRows counts the encrypted rows of a thread.
func (s *Service) countRows(ctx context.Context, threadID string) (n int, err error) {
	last, err := s.lastMessage(ctx, threadID)
	if err != nil || last == "" {
		return 0, store.Fault(err)
	}
	after := rowName("")
	for end := false; !end; {
		var recs []store.Record
		if recs, end, err = s.rowsAfter(ctx, threadID, after, last, store.MaxScan); err != nil {
			return n, store.Fault(err)
		}
		if n += len(recs); len(recs) > 0 {
			after = rowOf(threadID, recs[len(recs)-1].Key)
		}
	}
	return n, nil
}

// page re-encrypts the next rows of m, and ends with the last of them.
func (w mover) page(ctx context.Context, m meta) (s job.Step, out outcome, err error) {
	if w.at.Last == "" {
		if w.at.Last, err = w.lastMessage(ctx, m.ID); err != nil {
			return s, 0, err
		}
	}
	recs, end, err := w.rowsAfter(ctx, m.ID, w.at.After, w.at.Last, w.batch)
	if err == nil {
		err = w.move(ctx, &s, m, recs)
	}
	if err != nil {
		return s, 0, err
	}
	s.Processed = len(recs)
	w.at.Rows, w.at.Left = len(recs), w.at.Left+len(s.Failed)
	if len(recs) > 0 {
		w.at.After = rowOf(m.ID, recs[len(recs)-1].Key)
	}
	switch {
	case !end:
		s.Ahead = true
		fallthrough
	case w.at.Left > 0:
		s.Batch.RequireRevision(layout.ThreadMeta(m.ID), m.rev)
		if w.at.After > m.Moving.cursor {
			s.Batch.Put(layout.ThreadRow(m.ID, cursorName), []byte(w.at.After))
		}
		if end {
			out = stuck
		}
		return s, out, nil
	}
	w.at.Shred = m.deks()[1:]
	m.Moving, m.Owed = nil, nil
	s.Batch.Delete(layout.ThreadRow(m.ID, cursorName))
	return s, arrived, m.put(&s.Batch)
}

// move adds to s those of recs that are under the old DEK as they are under the
// new one, each on the condition that it is as it was read, and names those that
// open under neither.
func (w mover) move(ctx context.Context, s *job.Step, m meta, recs []store.Record) error {
	texts := make([][]byte, len(recs))
	old, failed, err := w.openMoving(ctx, m, recs, texts)
	if err != nil {
		return err
	}
	for _, f := range failed {
		s.Failed = append(s.Failed, "row "+string(rowOf(m.ID, recs[f.at].Key)))
	}
	if len(old) == 0 {
		return nil
	}
	rows := make([]openRow, len(old))
	for i, at := range old {
		rows[i] = openRow{rowOf(m.ID, recs[at].Key), texts[at]}
	}
	stored, err := w.encrypt(ctx, m, rows...)
	if err != nil {
		return err
	}
	for i, at := range old {
		s.Batch.RequireRevision(recs[at].Key, recs[at].Revision)
		s.Batch.Put(recs[at].Key, stored[i])
	}
	return nil
}

// openMoving opens recs into texts, without break-glass, and returns which were
// under the old DEK and which open under neither.
func (w mover) openMoving(ctx context.Context, m meta, recs []store.Record, texts [][]byte) (old []int, failed []unopened, err error) {
	left := make([]unopened, len(recs))
	for i := range recs {
		left[i].at = i
	}
	for _, dek := range []func(meta, rowName) kmsMeta{meta.under, meta.other} {
		q := w.question(ctx, m, recs, texts)
		asked := make([]bool, len(recs)) // under the old DEK
		for _, l := range left {
			k := dek(m, rowOf(m.ID, recs[l.at].Key))
			asked[l.at] = k.KeyID == m.Moving.Old.KeyID
			q.ask(l.at, k)
		}
		var res []kmsapi.DecryptResult
		if err = q.err; err == nil && len(q.items) > 0 {
			res, err = w.kms.Decrypt(ctx, q.items)
		}
		if failed, err = q.take(res, err); err != nil {
			return nil, nil, err
		}
		for _, f := range failed {
			asked[f.at] = false
			if unanswered(f.err) {
				return nil, nil, kmsFault(f.err, 1, 1)
			}
		}
		for at, is := range asked {
			if is {
				old = append(old, at)
			}
		}
		if left = failed; len(left) == 0 {
			break
		}
	}
	return old, failed, nil
}

// take takes the KMS's answer to all of q and returns the rows that do not open.
func (q *question) take(res []kmsapi.DecryptResult, err error) (failed []unopened, _ error) {
	if err := kmsFault(err, len(res), len(q.items)); err != nil {
		return nil, err
	}
	failed = q.failed
	for j, r := range res {
		if r.Err != nil {
			failed = append(failed, unopened{q.at[j], r.Err})
			continue
		}
		q.out[q.at[j]] = r.Plaintext
	}
	return failed, nil
}
