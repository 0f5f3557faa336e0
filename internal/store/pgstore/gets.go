package pgstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
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

// get is one, or several of one caller's, until done is closed.
type get struct {
	keys []string
	done chan struct{}
	recs []store.Record // of keys; one without a revision is not there
	err  error          // errAlone: its caller reads by himself
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
	if a, ok := ctx.Value(aheadOf{s}).(*ahead); ok {
		if rec, err, found := a.get(ctx, key); found {
			return rec, err
		}
	}
	recs, err := s.getTogether(ctx, key)
	if err != nil {
		return store.Record{}, err
	}
	return there(recs[0])
}

// there is the answer of a Get.
func there(r store.Record) (store.Record, error) {
	if r.Revision == 0 {
		return store.Record{}, store.ErrNotFound
	}
	return r, nil
}

const reading = "reading a record"

// getTogether returns the records of keys; of one that is not there, one without a revision.
func (s *Store) getTogether(ctx context.Context, keys ...string) ([]store.Record, error) {
	g := &get{keys: keys, done: make(chan struct{})}
	if s.gets.add(g) {
		go s.getGroups()
	}
	select {
	case <-g.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: %w", reading, ctx.Err())
	}
	if g.err == errAlone {
		found, err := s.read(ctx, keys)
		g.recs, g.err = recordsOf(keys, found), err
	}
	return g.recs, g.err
}

// ahead is what [Store.Ahead] was told, until each key was asked for.
type ahead struct {
	s    *Store
	mu   sync.Mutex
	keys []string
	recs []store.Record // of keys; nil: nothing was read yet
}

// aheadOf is the key of a context under which the ahead of a Store is.
type aheadOf struct{ s *Store }

// Ahead is what [store.Ahead] does here.
func (s *Store) Ahead(ctx context.Context, keys ...string) context.Context {
	a, ok := ctx.Value(aheadOf{s}).(*ahead)
	if !ok || !a.join(keys) {
		a = &ahead{s: s}
		a.join(keys)
		ctx = context.WithValue(ctx, aheadOf{s}, a)
	}
	return ctx
}

// join has keys read with those of a, if these were not read yet, which it reports.
func (a *ahead) join(keys []string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.recs != nil {
		return false
	}
	for _, k := range keys {
		if !slices.Contains(a.keys, k) { // or a second Get would be answered as the first was
			a.keys = append(a.keys, k)
		}
	}
	return true
}

// get answers the first Get of each key. Where a record that was only read ahead may be
// what failed, nothing was found, for all keys.
func (a *ahead) get(ctx context.Context, key string) (rec store.Record, err error, found bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.Index(a.keys, key)
	if i < 0 {
		return rec, nil, false
	}
	if a.recs == nil {
		if a.recs, err = a.s.getTogether(ctx, a.keys...); err != nil {
			a.keys = nil
			return rec, err, ctx.Err() != nil || outOfReach(err)
		}
	}
	rec, err = there(a.recs[i])
	a.keys, a.recs = slices.Delete(a.keys, i, i+1), slices.Delete(a.recs, i, i+1)
	return rec, err, true
}

// add lets one wait. It reports whether a statement more may be under way, which the
// caller has begin with getGroups.
func (g *gets) add(one *get) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, one)
	begins := g.underWay < fewGets || g.underWay < maxGets && len(g.waiting) >= enough
	if begins {
		g.underWay++
	}
	return begins
}

// take returns what a statement reads; nil: it is none any more.
func (g *gets) take() []*get {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.waiting), together)
	if n == 0 || n < enough && g.underWay > fewGets {
		g.underWay--
		return nil
	}
	group := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	return group
}

// getGroups reads what waits, until nothing does.
func (s *Store) getGroups() {
	for {
		s.gets.settle()
		group := s.gets.take()
		if group == nil {
			return
		}
		s.getGroup(group)
	}
}

// settle lets others come: those who are about to, and those who were just answered.
func (g *gets) settle() {
	for before, now := -1, 0; before < now; before, now = now, g.gathered() {
		runtime.Gosched()
	}
}

func (g *gets) gathered() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}

// getGroup answers every Get of group. It belongs to no caller, so no caller's context
// ends it, but a call's own bounds and Close. What one Get failed by, a row that is damaged or
// that the database gives up, must not fail others: they read by themselves, unless the
// database is out of reach for all.
func (s *Store) getGroup(group []*get) {
	var keys []string
	for _, g := range group {
		keys = append(keys, g.keys...)
	}
	slices.Sort(keys) // calls of one caller read many of the same
	found, err := s.read(s.isOpen, slices.Compact(keys))
	if err != nil && len(group) > 1 && !outOfReach(err) {
		err = errAlone
	}
	given := make(map[string]bool, len(found))
	for _, g := range group {
		g.recs, g.err = recordsOf(g.keys, found), err
		for i, k := range g.keys {
			if given[k] {
				g.recs[i].Value = bytes.Clone(g.recs[i].Value)
			}
			given[k] = true
		}
	}
	for _, g := range group {
		close(g.done)
	}
	clear(group) // what waits next lies in the same array
}

// outOfReach reports whether err, of one statement, is what any would have failed by.
func outOfReach(err error) bool {
	f, ok := errors.AsType[*failure](err)
	return errors.Is(err, fault.Unavailable) && !(ok && f.one)
}

// recordsOf returns what was found of keys, in their order.
func recordsOf(keys []string, found map[string]store.Record) []store.Record {
	recs := make([]store.Record, len(keys))
	for i, k := range keys {
		recs[i] = found[k]
	}
	return recs
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
