package thread

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// mark decides that m is purged. Once the batch is committed, nothing undoes that.
func (w *purger) mark(m meta) (done bool, err error) {
	w.at.Threads++
	if w.dry {
		return true, nil
	}
	m.Purge = &purging{Since: w.tick(), DEKs: m.deks(), Clear: m.mayBePlain()}
	m.KMS, m.Moving, m.Owed = kmsMeta{}, nil, nil
	return false, m.put(&w.batch)
}

// deks are the key IDs of all DEKs that m has in the KMS: first the one that it is
// written under, then those that rows of it may be under, or were.
func (m meta) deks() []string {
	ids := []string{m.KMS.KeyID}
	if m.Moving != nil {
		ids = append(ids, m.Moving.Old.KeyID)
	}
	ids = append(ids, m.Owed...)
	return slices.DeleteFunc(ids, func(id string) bool { return id == "" })
}

// remove takes m, which is marked, out of the store: its DEKs first, then some rows,
// with the last ones the record.
func (w *purger) remove(ctx context.Context, m meta) (done bool, err error) {
	if w.dry {
		return true, nil
	}
	if err := w.shred(ctx, m); errors.Is(err, fault.Forbidden) { // until its operator allows it: that holds up no other thread
		w.failed = append(w.failed, "thread "+m.ID+", whose DEK the KMS does not let this server destroy: "+giveShred)
		return true, nil
	} else if err != nil {
		return false, err
	}
	rng := store.Prefix(layout.ThreadRow(m.ID, ""))
	if w.at.Row != "" {
		rng.Start = w.at.Row.key(m.ID) + "\x00" // not again over what was just removed
	}
	opt := store.ScanOptions{Limit: purgeRows, MaxBytes: purgeBytes}
	recs, err := w.store.Scan(ctx, rng, opt)
	if err != nil {
		return false, err
	}
	w.batch.RequireRevision(layout.ThreadMeta(m.ID), m.rev)
	w.inClear = w.inClear || m.Purge.Clear
	for _, rec := range recs {
		if w.at.Row = rowOf(m.ID, rec.Key); rec.Key != layout.ThreadMeta(m.ID) {
			w.batch.Delete(rec.Key)
		}
	}
	if opt.Full(len(recs), sizeOf(recs)) {
		return false, nil
	}
	w.batch.Delete(layout.ThreadMeta(m.ID))
	w.batch.Delete(layout.Gone(m.Org, m.DeletedTS, m.ID, ""))
	return true, nil
}

// shred has the KMS destroy the DEKs of m. One that it does not have it destroyed
// before.
func (w *purger) shred(ctx context.Context, m meta) error {
	deks := strings.Join(m.Purge.DEKs, " ")
	if deks == w.at.Shred {
		return nil
	}
	for _, id := range m.Purge.DEKs {
		if err := w.kms.ShredDEK(ctx, id); err != nil && !errors.Is(err, fault.NotFound) {
			return fault.Wrap(fault.Unavailable, err, "the KMS has not destroyed the DEK of a thread that is purged; no row of it was removed, and the KMS is asked again")
		}
	}
	w.at.Shred = deks
	return nil
}
