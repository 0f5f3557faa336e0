package thread

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// The row "count" of a thread says how many messages there are up to one of them,
// so that whoever counts reads those after it alone:
//
//	{"to":"00000000000000001000-000000","n":12}
//
// A reader brings it forward, never nearer to now than countAge. So a post of now,
// and a delete of a message of now, need not know of it: they are stored long
// before the count comes to them. What changes messages older than youngAge reads
// the row and writes it in its own commit, be it only to say that it was there:
// a reader who is counting meanwhile finds another revision and starts again.
// Clocks of servers may differ, and a commit may take, countAge less youngAge.
const (
	countName = "count"
	youngAge  = 30 * time.Second
	countAge  = 60 * time.Second
	maxBehind = 1000   // messages that every reader counts anew
	countStep = 10_000 // messages after which it is written
)

type count struct {
	To string `json:"to"` // ID of a message, which need not be there any more; "": before all
	N  int    `json:"n"`  // messages with IDs up to it
}

// Count returns how many messages a thread has, without the deleted ones. It
// reads the messages that came since the last count; the first count of a thread
// reads all of them. Errors: Unauthenticated, NotFound, Forbidden, Unavailable,
// Damaged.
func (s *Service) Count(ctx context.Context, p access.Principal, threadID string) (int, error) {
	m, err := s.gate(ctx, p, access.MessageRead, threadID)
	if err != nil {
		return 0, err
	}
	return s.total(ctx, m)
}

// total is Count for whoever may.
func (s *Service) total(ctx context.Context, m meta) (int, error) {
	c, rev, err := s.readCount(ctx, m.ID)
	if err == nil && rev == 0 {
		c, rev, err = s.beginCount(ctx, m)
	}
	if err != nil {
		return 0, err
	}
	return s.countOn(ctx, m, c, rev)
}

// beginCount makes the row of a thread with more messages than are counted anew.
// What is counted after that is guarded by it.
func (s *Service) beginCount(ctx context.Context, m meta) (count, store.Revision, error) {
	opt := store.ScanOptions{Limit: maxBehind + 1, MaxBytes: maxPageBytes}
	recs, err := s.store.Scan(ctx, store.Prefix(layout.Messages(m.ID)), opt)
	if err != nil || !opt.Full(len(recs), sizeOf(recs)) {
		return count{}, 0, store.Fault(err)
	}
	if _, err := s.writeCount(ctx, m, count{}, 0); err != nil && !errors.Is(err, store.ErrConflict) {
		return count{}, 0, store.Fault(err)
	}
	return s.readCount(ctx, m.ID)
}

// countOn counts what is after c, which was at rev, and writes how far it has come.
func (s *Service) countOn(ctx context.Context, m meta, c count, rev store.Revision) (int, error) {
	rng, old := store.Prefix(layout.Messages(m.ID)), layout.MessageID(max(0, s.now().Add(-countAge).UnixNano()), 0)
	if c.To != "" {
		rng.Start += after(c.To)
	}
	next, n := c, c.N
	write := func() (err error) {
		if rev, err = s.writeCount(ctx, m, next, rev); errors.Is(err, store.ErrConflict) {
			return nil // rev is 0: another has changed it, and this reader writes no more
		}
		c = next
		return err
	}
	for rec, err := range store.All(ctx, s.store, rng) {
		if err != nil {
			return 0, store.Fault(err)
		}
		n++
		if id := idOf(rec); id < old {
			next = count{id, n}
		}
		if rev != 0 && next.N-c.N == countStep {
			if err := write(); err != nil {
				return 0, store.Fault(err)
			}
		}
	}
	if rev != 0 && next.N-c.N > maxBehind {
		return n, store.Fault(write())
	}
	return n, nil
}

// writeCount puts c in the place of the row that was at rev, and returns its
// revision; with an error that is 0.
func (s *Service) writeCount(ctx context.Context, m meta, c count, rev store.Revision) (store.Revision, error) {
	var b store.Batch
	b.RequireRevision(layout.ThreadMeta(m.ID), m.rev) // no row is left of a thread that is purged
	if err := c.put(&b, m.ID, rev); err != nil {
		return 0, err
	}
	return s.store.Commit(ctx, &b)
}

// readCount reads the row; revision 0: there is none.
func (s *Service) readCount(ctx context.Context, threadID string) (c count, rev store.Revision, err error) {
	rec, err := s.store.Get(ctx, layout.ThreadRow(threadID, countName))
	if errors.Is(err, store.ErrNotFound) {
		return count{}, 0, nil
	} else if err != nil {
		return count{}, 0, store.Fault(err)
	}
	if err := json.Unmarshal(rec.Value, &c); err != nil {
		return count{}, 0, fault.New(fault.Damaged, "the count of messages of thread %s is damaged; restore the store from a backup", threadID)
	}
	return c, rec.Revision, nil
}

// put adds c to b, on the condition that the row is at rev.
func (c count) put(b *store.Batch, threadID string, rev store.Revision) error {
	value, err := json.Marshal(c)
	if err != nil {
		return fault.New(fault.Internal, "the count of messages does not encode")
	}
	b.RequireRevision(layout.ThreadRow(threadID, countName), rev)
	b.Put(layout.ThreadRow(threadID, countName), value)
	return nil
}

// recount adds to b, which is committed at once, what it changes of the count: so
// much for each message of ids, 1 for one that comes and -1 for one that goes.
func (s *Service) recount(ctx context.Context, b *store.Batch, threadID string, change int, ids ...string) error {
	if !slices.ContainsFunc(ids, s.mayBeCounted) {
		return nil
	}
	c, rev, err := s.readCount(ctx, threadID)
	if err != nil {
		return err
	}
	if rev == 0 {
		b.RequireAbsent(layout.ThreadRow(threadID, countName))
		return nil
	}
	for _, id := range ids {
		if id <= c.To {
			c.N += change
		}
	}
	return c.put(b, threadID, rev)
}

// mayBeCounted reports whether a message is so old that the count may have come to it.
func (s *Service) mayBeCounted(messageID string) bool {
	ts, _, _ := parseMessageID(messageID)
	return ts < s.now().Add(-youngAge).UnixNano()
}
