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
// name of the last row that is. Empty: none is.
const cursorName = "cursor"

// moving says that the rows of a thread are brought from one DEK under another, or
// under the first one that it has. meta.KMS is the new one meanwhile.
//
// A row is under the new DEK when it is of a message after Last, or when its name
// is not after the cursor, and under the old one otherwise. So whoever has read
// meta and cursor knows from a row's key which DEK opens it. A writer of a row that
// is to be under the old DEK requires the cursor as he read it (meta.require), so
// that no such row appears behind the cursor. Everybody requires meta.
//
// Two things can be met otherwise, and only while it lasts: a row that moved after
// meta was read; and a row of a message after Last that was written, under the old
// DEK, between the reading of Last and the commit of moving. The job looks for the
// latter first, and says so in Settled.
type moving struct {
	Old     kmsMeta        `json:"old"`              // zero: the rows were not encrypted
	Last    string         `json:"last"`             // ID of the newest message when it began; "": there was none
	Settled bool           `json:"settled,omitzero"` // all rows of messages after Last are under the new DEK
	Job     string         `json:"job"`
	cursor  rowName        // as it was read with meta
	rev     store.Revision // of the cursor's row
}

// plain reports whether there is no DEK.
func (k kmsMeta) plain() bool { return k.KeyID == "" }

// old reports whether a row has to be under the old DEK.
func (m meta) old(n rowName) bool {
	return m.Moving != nil && n.message() <= m.Moving.Last && n > m.Moving.cursor
}

// under returns the DEK that a row has to be under.
func (m meta) under(n rowName) kmsMeta {
	if m.old(n) {
		return m.Moving.Old
	}
	return m.KMS
}

// other returns the DEK that a row may be under otherwise, while it moves.
func (m meta) other(n rowName) kmsMeta {
	if m.old(n) {
		return m.KMS
	}
	return m.Moving.Old
}

var errEncrypting = fault.New(fault.Unavailable, "the thread is being encrypted and has not come to this message; try again in a moment")

// readCursor fills in how far m is re-encrypted.
func (s *Service) readCursor(ctx context.Context, m *meta) error {
	if m.Moving == nil {
		return nil
	}
	rec, err := s.store.Get(ctx, layout.ThreadRow(m.ID, cursorName))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	m.Moving.cursor, m.Moving.rev = rowName(rec.Value), rec.Revision
	return nil
}

// reopen opens what did not open under the DEK that it had to be under: while a
// thread is re-encrypted, under the other. failed is not empty.
func (s *Service) reopen(ctx context.Context, p access.Principal, m meta, q question, failed []unopened) error {
	// The thread as it is now: perhaps it has begun to move, or has arrived.
	now, err := s.load(ctx, m.ID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return access.NotThere
	case err != nil:
		return store.Fault(err)
	case m.Moving == nil && now.rev == m.rev:
		return openFault(failed[0].err, rowOf(m.ID, q.recs[failed[0].at].Key).message())
	}
	again := question{m: now, recs: q.recs, out: q.out}
	for _, f := range failed {
		n := rowOf(m.ID, q.recs[f.at].Key)
		if err := again.ask(f.at, otherOf(m, now, n)); err != nil {
			return err
		}
	}
	left, err := s.answer(ctx, p, &again)
	if err == nil && len(left) > 0 {
		err = openFault(left[0].err, rowOf(m.ID, q.recs[left[0].at].Key).message())
	}
	return err
}

// otherOf is the DEK that a row may be under that did not open under the one that
// m said, when the thread is now as it is.
func otherOf(m, now meta, n rowName) kmsMeta {
	tried := m.under(n)
	if k := now.under(n); k.KeyID != tried.KeyID {
		return k
	}
	if now.Moving != nil {
		return now.other(n)
	}
	return tried
}
