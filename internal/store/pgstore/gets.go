package pgstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// Gets that meet go together: one statement reads the keys of all, while the next ones
// gather. Nobody waits but for statements that are under way, and each Get is answered
// by one that began after it did, so what it sees is no older than alone. A call of the
// API reads some rows one after another; with many calls at once this saves most of
// their round trips, which cost more than the reading does.
const (
	fewGets  = 2   // statements under way at which a Get waits for another
	maxGets  = 8   // the same, once enough of them wait
	enough   = 32  // Gets
	together = 128 // Gets of a statement
)

// gets gathers Gets.
type gets struct {
	mu       sync.Mutex
	waiting  []*get
	underWay int
}

// get is one, until done is closed.
type get struct {
	key  string
	done chan struct{}
	rec  store.Record
	err  error // errAlone: its caller reads by himself
}

var errAlone = errors.New("the statement failed")

// Get is [store.Store].Get.
func (s *Store) Get(ctx context.Context, key string) (store.Record, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return store.Record{}, store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return store.Record{}, err
	}
	g := &get{key: key, done: make(chan struct{})}
	if group := s.gets.add(g); group != nil {
		go s.getGroups(group)
	}
	select {
	case <-g.done:
	case <-ctx.Done():
		return store.Record{}, fmt.Errorf("%s: %w", reading, ctx.Err())
	}
	if g.err == errAlone {
		found, err := s.read(ctx, []string{key})
		return pick(found, key, err)
	}
	return g.rec, g.err
}

const reading = "reading a record"

func (g *gets) add(one *get) (group []*get) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, one)
	return g.leave()
}

// next ends a statement and returns what the next one reads, if one may begin.
func (g *gets) next() []*get {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.underWay--
	return g.leave()
}

// leave returns what a statement reads that is under way now; nil: none may begin. The
// caller holds the lock.
func (g *gets) leave() []*get {
	n := min(len(g.waiting), together)
	if n == 0 || g.underWay >= fewGets && n < enough || g.underWay == maxGets {
		return nil
	}
	g.underWay++
	group := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	return group
}

// getGroups reads group and those that may leave when it was read.
func (s *Store) getGroups(group []*get) {
	for ; group != nil; group = s.gets.next() {
		s.getGroup(group)
	}
}

// getGroup answers every Get of group. It belongs to no caller, so it has the context
// of none; a call's own bounds end it. What one Get failed by, a damaged row, must not
// fail others: they read by themselves, unless the database is out of reach for all.
func (s *Store) getGroup(group []*get) {
	keys := make([]string, len(group))
	for i, g := range group {
		keys[i] = g.key
	}
	slices.Sort(keys) // calls of one caller read many of the same
	found, err := s.read(context.Background(), slices.Compact(keys))
	if err != nil && len(group) > 1 && !errors.Is(err, fault.Unavailable) {
		err = errAlone
	}
	given := make(map[string]bool, len(found))
	for _, g := range group {
		if g.rec, g.err = pick(found, g.key, err); given[g.key] {
			g.rec.Value = bytes.Clone(g.rec.Value)
		}
		given[g.key] = true
	}
	for _, g := range group {
		close(g.done)
	}
}

// pick is the answer of a Get.
func pick(found map[string]store.Record, key string, err error) (store.Record, error) {
	rec, ok := found[key]
	if err == nil && !ok {
		err = store.ErrNotFound
	}
	return rec, err
}

// read returns the records that there are under keys, at one moment; none with an error.
func (s *Store) read(ctx context.Context, keys []string) (found map[string]store.Record, err error) {
	err = s.call(ctx, reading, false, func(ctx context.Context, conn *pgconn.PgConn) error {
		recs, err := records(send(ctx, conn, &stGet, byteaArray(keys)))
		if err != nil {
			return err
		}
		found = make(map[string]store.Record, len(recs))
		for _, r := range recs {
			found[r.Key] = r
		}
		return nil
	})
	return found, err
}
