package thread

import (
	"context"
	"errors"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// cursorName is the name of the row that says how far a thread is re-encrypted: the
// name of the last row that is. Absent: nobody knows of any.
const cursorName = "cursor"

// moving says that the rows of a thread are brought from one DEK under another, or
// under the first one that it has. meta.KMS is the new one meanwhile, and the one
// that everything is written under; see MoveKind.
//
// Which DEK a row lies under, its key does not say: it is the old one until the job
// comes by or somebody writes the row. Last and cursor are a reader's guess, which
// is right for all rows but those written since the beginning that the job has not
// come to. He asks for the other DEK when the first does not open the row.
type moving struct {
	Old    kmsMeta `json:"old"`          // zero: the rows were not encrypted
	Last   string  `json:"last"`         // ID of the newest message when it began; "": there was none
	Job    string  `json:"job,omitzero"` // that does it; "": none has taken it up yet
	cursor rowName // as it was read after meta, or later
}

// plain reports whether there is no DEK.
func (k kmsMeta) plain() bool { return k.KeyID == "" }

// under returns the DEK that a row is under, as far as can be told.
func (m meta) under(n rowName) kmsMeta {
	if m.Moving != nil && n.message() <= m.Moving.Last && n > m.Moving.cursor {
		return m.Moving.Old
	}
	return m.KMS
}

// other returns the DEK of a moving thread that a row is under otherwise.
func (m meta) other(n rowName) kmsMeta {
	if m.under(n).KeyID == m.KMS.KeyID {
		return m.Moving.Old
	}
	return m.KMS
}

// readCursor fills in how far m is re-encrypted.
func (s *Service) readCursor(ctx context.Context, m *meta) error {
	if m.Moving == nil {
		return nil
	}
	rec, err := s.store.Get(ctx, layout.ThreadRow(m.ID, cursorName))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	m.Moving.cursor = rowName(rec.Value)
	return nil
}

// beginMoving begins to bring m's rows under a fresh DEK, the thread's first where
// it is not encrypted, and returns m as it is then: under that DEK it can be
// written at once. The rest is MoveJob's to do. m does not move yet.
// store.ErrConflict: m has changed since it was read, or the KEK was rotated;
// nothing was begun.
func (s *Service) beginMoving(ctx context.Context, m meta) (meta, error) {
	var b store.Batch
	m, err := s.begun(ctx, &b, m)
	if err == nil {
		err = m.put(&b)
	}
	if err != nil {
		return m, err
	}
	m.rev, err = s.store.Commit(ctx, &b)
	return m, err
}

// begun returns m as it is once it moves. It adds to b, in which m is to be put,
// what that relies on.
func (s *Service) begun(ctx context.Context, b *store.Batch, m meta) (meta, error) {
	if m.KMS.plain() && !m.Plain {
		return m, errNoKey
	}
	last, err := s.lastMessage(ctx, m.ID)
	if err != nil {
		return m, err
	}
	dek, err := s.freshDEK(ctx, b, m.ID)
	if err != nil {
		return m, err
	}
	m.Moving = &moving{Old: m.KMS, Last: last}
	m.KMS, m.Plain = dek, false
	return m, nil
}

// lastMessage returns the greatest ID of a message that an encrypted row of the thread
// is of; "" when there is no such row.
func (s *Service) lastMessage(ctx context.Context, threadID string) (id string, err error) {
	for _, kind := range rowKinds {
		recs, err := s.store.Scan(ctx, store.Prefix(layout.ThreadRow(threadID, kind)), store.ScanOptions{Limit: 1, Reverse: true})
		if err != nil {
			return "", err
		}
		if len(recs) > 0 {
			id = max(id, rowOf(threadID, recs[0].Key).message())
		}
	}
	return id, nil
}

// errChanging answers a reader whose rows were changed under him again and again, and
// one whose row is gone. It is a store.ErrConflict: who reads again may fare better.
var errChanging = fault.Wrap(fault.Unavailable, store.ErrConflict, "the thread is changing faster than it can be read; try again in a moment")

// maxReopen is how often a reader looks anew at rows that did not open.
const maxReopen = 5

// reopen opens what did not open under the DEK that it had to be under, as the
// thread and the row are now: either may have changed since it was read, and the
// DEK that the row was under then may be no more. What opens under neither DEK is
// damaged if neither has changed since they were asked for. failed is not empty.
func (s *Service) reopen(ctx context.Context, p access.Principal, m meta, q question, failed []unopened) error {
	recs := append([]store.Record(nil), q.recs...)
	tried := m.Moving == nil // all DEKs that m has
	for range maxReopen {
		now, err := s.load(ctx, m.ID)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return access.NotThere
		case err != nil:
			return store.Fault(err)
		}
		changed, gone, err := s.reread(ctx, recs, failed)
		switch {
		case err != nil:
			return store.Fault(err)
		case !tried || changed || now.rev != m.rev:
		case gone:
			return errChanging
		default:
			return openFault(failed[0].err, rowOf(m.ID, recs[failed[0].at].Key).message())
		}
		if failed, err = s.openEither(ctx, p, now, s.question(ctx, now, recs, q.out), failed); err != nil || len(failed) == 0 {
			return err
		}
		m, tried = now, true
	}
	return errChanging
}

// reread puts the rows that did not open into recs as they are now, and reports
// whether one has changed and whether one is gone, which stays in recs as it was.
func (s *Service) reread(ctx context.Context, recs []store.Record, failed []unopened) (changed, gone bool, err error) {
	for _, f := range failed {
		rec, err := s.store.Get(ctx, recs[f.at].Key)
		if errors.Is(err, store.ErrNotFound) {
			gone = true
			continue
		} else if err != nil {
			return false, false, err
		}
		changed = changed || rec.Revision != recs[f.at].Revision
		recs[f.at] = rec
	}
	return changed, gone, nil
}

// openEither opens those of q that failed under the DEK that they are under as far
// as can be told, and the rest under the other.
func (s *Service) openEither(ctx context.Context, p access.Principal, m meta, q question, failed []unopened) ([]unopened, error) {
	for _, dek := range []func(meta, rowName) kmsMeta{meta.under, meta.other} {
		again := s.question(ctx, m, q.recs, q.out)
		for _, f := range failed {
			again.ask(f.at, dek(m, rowOf(m.ID, q.recs[f.at].Key)))
		}
		var err error
		if failed, err = s.answer(ctx, p, &again); err != nil || len(failed) == 0 || m.Moving == nil {
			return failed, err
		}
	}
	return failed, nil
}

// retryKEK is store.Retry of what makes a DEK, which ends with errOldKEK when the
// KMS keeps making them under an older version of the KEK.
func retryKEK(ctx context.Context, try func() error) error {
	lags := 0
	return store.Retry(ctx, func() error {
		err := try()
		if errors.Is(err, errLag) {
			if lags++; lags == maxLags {
				return errOldKEK
			}
		}
		return err
	})
}

// orChanged is err, of a write to m, or store.ErrConflict if it may be only that the
// thread was re-encrypted since m was read, and the DEK of then is no more.
func (s *Service) orChanged(ctx context.Context, m meta, err error) error {
	if !errors.Is(err, fault.Damaged) {
		return err
	}
	if now, failed := s.record(ctx, m.ID); failed == nil && now.KMS.KeyID != m.KMS.KeyID {
		return store.ErrConflict
	}
	return err
}
