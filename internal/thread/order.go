package thread

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Where several servers share a store, the row "tail" of a thread holds the time of
// its last change, 20 digits of nanoseconds since 1970. Each commit that changes
// something for those who follow the thread requires the row as it was when its times
// were chosen, later than the one there, and puts the last of them. So the IDs of
// changes, and of messages that got their time here, come in the order of the commits,
// whatever the servers' clocks say and however long a commit took: who has read up to
// an ID finds all that is stored from then on after it. Messages whose time their
// author chose are where he put them.
//
// One process alone gives its times in order without the row.
const tailName = "tail"

// tail is the row as it was read or written last; rev 0: there is none yet.
type tail struct {
	ts  int64
	rev store.Revision
}

// tails remembers what this process wrote last, so that a thread that it alone writes
// to costs no read. One that is not true any more costs a conflict.
type tails struct {
	mu sync.Mutex
	of map[string]tail // by thread; at most maxTails
}

const maxTails = 10_000

func (t *tails) get(threadID string) (tail, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	found, ok := t.of[threadID]
	return found, ok
}

func (t *tails) keep(threadID string, last tail) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil || len(t.of) >= maxTails {
		t.of = map[string]tail{}
	}
	t.of[threadID] = last
}

func (t *tails) forget(threadID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.of, threadID)
}

// tail returns the tail of a thread, as it is remembered or else read.
func (s *Service) tail(ctx context.Context, threadID string) (tail, error) {
	if !s.shared {
		return tail{}, nil
	}
	if t, ok := s.tails.get(threadID); ok {
		return t, nil
	}
	return s.readTail(ctx, threadID)
}

// readTail reads the row.
func (s *Service) readTail(ctx context.Context, threadID string) (tail, error) {
	rec, err := s.store.Get(ctx, layout.ThreadRow(threadID, tailName))
	if errors.Is(err, store.ErrNotFound) {
		return tail{}, nil
	} else if err != nil {
		return tail{}, store.Fault(err)
	}
	ts, err := strconv.ParseInt(string(rec.Value), 10, 64)
	if err != nil || ts < 1 {
		return tail{}, fault.New(fault.Damaged, "the tail of thread %s is damaged; restore the store from a backup", threadID)
	}
	return tail{ts, rec.Revision}, nil
}

// putTail adds t to b, whose changes are of times up to t.ts, on the condition that the
// row is as it was read. Without a shared store it does nothing.
func (s *Service) putTail(b *store.Batch, threadID string, t tail) {
	if !s.shared {
		return
	}
	key := layout.ThreadRow(threadID, tailName)
	b.RequireRevision(key, t.rev)
	b.Put(key, []byte(layout.MessageID(t.ts, 0)[:20]))
}

// committed remembers t after a commit of what putTail added, which returned rev and err.
func (s *Service) committed(threadID string, t tail, rev store.Revision, err error) {
	switch {
	case !s.shared:
	case err != nil:
		s.tails.forget(threadID)
	default:
		s.tails.keep(threadID, tail{t.ts, rev})
	}
}
