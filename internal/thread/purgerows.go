package thread

import (
	"context"
	"errors"
	"strings"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// age purges the old messages of a thread, deleted ones too, if its record is such
// that it concerns the caller.
func (w *purger) age(ctx context.Context, threadID string, concerns func(meta) bool) (done bool, err error) {
	until := layout.MessageID(expiry(w.policy.MessageDays, w.Now), 0)
	for _, kind := range []string{"del:", "msg:"} {
		rng := store.Range{Start: layout.ThreadRow(threadID, kind), End: layout.ThreadRow(threadID, kind+until)}
		if w.at.Row != "" {
			rng.Start = max(rng.Start, w.at.Row.key(threadID)+"\x00")
		}
		if rng.Start >= rng.End {
			continue
		}
		opt := store.ScanOptions{Limit: purgeRows, MaxBytes: purgeBytes}
		recs, err := w.store.Scan(ctx, rng, opt)
		if err != nil {
			return false, err
		}
		if len(recs) == 0 {
			continue
		}
		w.looked += len(recs)
		m, err := w.record(ctx, threadID)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return true, nil
		case err != nil:
			return false, err
		case m.Org != w.at.Org || !concerns(m):
			return true, nil
		case m.Hold != nil:
			w.held(m)
			return true, nil
		}
		if done, err := w.purgeMessages(ctx, m, recs); err != nil || !done || opt.Full(len(recs), sizeOf(recs)) {
			return false, err
		}
	}
	return true, nil
}

// purgeMessages purges messages of m, whose newest versions recs are, until the batch
// is full; then it is not done.
func (w *purger) purgeMessages(ctx context.Context, m meta, recs []store.Record) (done bool, err error) {
	var b store.Batch
	b.RequireRevision(layout.ThreadMeta(m.ID), m.rev)
	var live []string
	n, row := 0, w.at.Row
	for done = true; done && n < len(recs); n++ {
		if done, err = w.purgeMessage(ctx, &b, m, recs[n]); err != nil {
			return false, err
		}
		if !done {
			break
		}
		row = rowOf(m.ID, recs[n].Key)
		if strings.HasPrefix(string(row), "msg:") {
			live = append(live, row.message())
		}
		done = len(w.batch.Writes)+len(b.Writes) < purgeRows
	}
	if err := w.recount(ctx, &b, m.ID, -1, live...); err != nil {
		return false, err
	}
	if len(live) > 0 && !m.Deleted {
		if err := w.notePurged(ctx, &b, m.ID, live[len(live)-1]); err != nil {
			return false, err
		}
	}
	w.add(b)
	w.inClear = w.inClear || m.mayBePlain()
	w.at.Row, w.at.Messages = row, w.at.Messages+n
	return done, nil
}

// notePurged is note, after the tail as it is: a job does not hear what became of its
// commit. Who follows hears of it from the poll.
func (w *purger) notePurged(ctx context.Context, b *store.Batch, threadID, last string) (err error) {
	var t tail
	if w.shared {
		if t, err = w.readTail(ctx, threadID); err != nil {
			return err
		}
	}
	w.note(b, &t, threadID, changePurged, last)
	w.putTail(b, threadID, t)
	return nil
}

func (w *purger) add(b store.Batch) {
	w.batch.Writes = append(w.batch.Writes, b.Writes...)
	w.batch.Preconditions = append(w.batch.Preconditions, b.Preconditions...)
}

// purgeMessage adds to b that a message goes, whose newest version is rec. When it
// has too many versions for that, the oldest ones go, and it is not done.
func (w *purger) purgeMessage(ctx context.Context, b *store.Batch, m meta, rec store.Record) (done bool, err error) {
	b.RequireRevision(rec.Key, rec.Revision)
	if !w.dry {
		id := rowOf(m.ID, rec.Key).message()
		opt := store.ScanOptions{Limit: purgeRows, MaxBytes: purgeBytes}
		past, err := w.store.Scan(ctx, store.Prefix(layout.ThreadRow(m.ID, "past:"+id+":")), opt)
		if err != nil {
			return false, err
		}
		for _, rec := range past {
			b.Delete(rec.Key)
		}
		if opt.Full(len(past), sizeOf(past)) {
			return false, nil
		}
		b.Delete(reactionsRow(id).key(m.ID))
	}
	b.Delete(rec.Key)
	return true, nil
}

// clear looks at what was deleted.
func (w *purger) clear(ctx context.Context) error {
	rng := store.Prefix(layout.GoneOf(w.at.Org))
	if w.policy.MessageDays == 0 { // what was deleted later is no matter
		rng.End = layout.Gone(w.at.Org, expiry(w.policy.DeletedDays, w.Now), "", "")
	}
	return w.entries(ctx, rng, telling, func(key string) (bool, error) {
		deleted, threadID, messageID, ok := layout.ParseGone(w.at.Org, key)
		old := expired(deleted, w.policy.DeletedDays, w.Now)
		switch {
		case !ok:
			return false, fault.New(fault.Damaged, "the index entry %s is damaged", key)
		case messageID != "":
			return w.clearMessage(ctx, key, threadID, messageID, old)
		case old:
			return w.clearThread(ctx, key, threadID)
		}
		return w.age(ctx, threadID, meta.isDeleted)
	})
}

func (m meta) isDeleted() bool { return m.Deleted }

// due reports whether m was deleted long enough ago, by its record.
func (w *purger) due(m meta) bool {
	return m.Org == w.at.Org && m.Deleted && expired(m.DeletedTS, w.policy.DeletedDays, w.Now)
}

// clearThread purges a thread that was deleted long enough ago, by its entry.
func (w *purger) clearThread(ctx context.Context, key, threadID string) (done bool, err error) {
	rec, err := w.store.Get(ctx, layout.ThreadMeta(threadID))
	if errors.Is(err, store.ErrNotFound) {
		w.batch.Delete(key)
		return true, nil
	} else if err != nil {
		return false, err
	}
	m, err := parseMeta(threadID, rec)
	switch {
	case err != nil:
		return false, err
	case !w.due(m):
		return true, nil
	case m.Hold != nil:
		w.held(m)
		return true, nil
	case m.Purge != nil:
		return w.remove(ctx, m)
	}
	return w.mark(m)
}

// clearMessage purges a deleted message, if it was deleted long enough ago. One that
// is old itself is age's, and goes before this or in the next run.
func (w *purger) clearMessage(ctx context.Context, key, threadID, messageID string, old bool) (done bool, err error) {
	ts, _, _ := parseMessageID(messageID)
	aged := expired(ts, w.policy.MessageDays, w.Now)
	if !old && !aged {
		return true, nil
	}
	rec, err := w.store.Get(ctx, deletedRow(messageID).key(threadID))
	if errors.Is(err, store.ErrNotFound) { // it was purged
		w.batch.Delete(key)
		return true, nil
	} else if err != nil {
		return false, err
	}
	m, err := w.record(ctx, threadID)
	switch {
	case errors.Is(err, store.ErrNotFound): // it goes with its thread
		w.batch.Delete(key)
		return true, nil
	case err != nil:
		return false, err
	case m.Org != w.at.Org:
		return true, nil
	case m.Hold != nil:
		w.held(m)
		return true, nil
	case w.due(m): // so does this
		w.batch.RequireRevision(layout.ThreadMeta(m.ID), m.rev)
		w.batch.Delete(key)
		return true, nil
	case aged:
		return true, nil
	}
	before := w.at.Messages
	if _, err = w.purgeMessages(ctx, m, []store.Record{rec}); err != nil || w.at.Messages == before {
		return false, err
	}
	w.batch.Delete(key)
	return true, nil
}
