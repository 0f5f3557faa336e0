package thread

import (
	"context"
	"errors"
	"time"

	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// sweepAge is the age at which rows of changes and of requests with an idempotency
// key are swept: changesKept, and what the clocks of servers may differ.
const sweepAge = changesKept + time.Minute

// sweep takes the pass over all threads a batch on.
func (w *purger) sweep(ctx context.Context) error {
	for !w.full() {
		id, rec, err := w.threadAfter(ctx, w.at.After)
		if err != nil {
			return err
		}
		if id == "" {
			w.enter(choosing)
			return nil
		}
		w.looked++
		if done, err := w.sweepThread(ctx, id, rec); err != nil || !done {
			return store.Fault(err)
		}
		w.at.After, w.at.Row = id, ""
	}
	return nil
}

// sweepThread sweeps a thread, whose record rec is. One that is marked it purges to
// the end, one that was deleted it sees to be in the index.
func (w *purger) sweepThread(ctx context.Context, id string, rec store.Record) (done bool, err error) {
	m, err := parseMeta(id, rec)
	if err != nil { // or it is gone, and the rows that are left are nobody's
		w.failed = append(w.failed, "thread "+id)
		return true, nil
	}
	if m.Purge != nil {
		return w.remove(ctx, m)
	}
	if m.Deleted {
		if err := w.index(ctx, m); err != nil {
			return false, err
		}
	}
	old := w.Now - int64(sweepAge)
	done, err = w.sweepRows(ctx, m.ID, "change:", "change:"+changeAt(old), func(store.Record) bool { return true })
	if err != nil || !done {
		return false, err
	}
	return w.sweepRows(ctx, m.ID, "sent:", "sent;", func(rec store.Record) bool {
		at, _, err := parseSent(rec.Value)
		return err != nil || at < old
	})
}

// index enters a thread that was deleted in the index of what was.
func (w *purger) index(ctx context.Context, m meta) error {
	key := layout.Gone(m.Org, m.DeletedTS, m.ID, "")
	_, err := w.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		w.batch.RequireRevision(layout.ThreadMeta(m.ID), m.rev)
		w.batch.Put(key, nil)
		return nil
	}
	return err
}

// sweepRows removes the rows of a thread with names from one to before another that
// are old, until the batch is full; then it is not done.
func (w *purger) sweepRows(ctx context.Context, threadID, from, to string, old func(store.Record) bool) (done bool, err error) {
	rng := store.Range{Start: layout.ThreadRow(threadID, max(from, string(w.at.Row+"\x00"))), End: layout.ThreadRow(threadID, to)}
	if rng.Start >= rng.End {
		return true, nil
	}
	opt := store.ScanOptions{Limit: purgeRows}
	recs, err := w.store.Scan(ctx, rng, opt)
	if err != nil {
		return false, err
	}
	w.looked += len(recs)
	for _, rec := range recs {
		if w.at.Row = rowOf(threadID, rec.Key); old(rec) {
			w.batch.RequireRevision(rec.Key, rec.Revision)
			w.batch.Delete(rec.Key)
		}
	}
	return !opt.Full(len(recs), 0), nil
}
