package thread

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// ThreadQuery selects a page of the caller's threads: the newest, or those around
// a place. At most one of Before, After and Anchor may be set: the ID of a thread
// that the caller may read, or could until it was deleted.
type ThreadQuery struct {
	Limit     int    // 1 to MaxPage; 0: MaxPage
	Before    string // the Limit threads next newer than this one
	After     string // the Limit threads next older than this one
	Anchor    string // this thread and those next to it: Limit/2 older ones, and newer ones up to Limit in all
	ByUpdated bool   // newest is what was updated last, not what was made last
}

// ThreadPage is a page of the caller's threads.
type ThreadPage struct {
	Threads   []api.Thread // newest first
	HasBefore bool         // there are newer ones
	HasAfter  bool         // there are older ones
	Total     int          // of all the caller's threads
}

// PageThreads returns p's own threads and those that he has a part in. It goes
// through all of p's index, which it counts, and reads the records of the threads
// of the page; with ByUpdated, and where a user and an end user may have one ID,
// those of all p's threads. A thread that is updated while somebody walks through
// pages by update may be met twice or not at all.
//
// Errors: Unauthenticated, Invalid; of the thread that q names, NotFound (also: it
// was purged) and Forbidden.
func (s *Service) PageThreads(ctx context.Context, p access.Principal, q ThreadQuery) (ThreadPage, error) {
	if err := s.authority.Check(ctx, p, access.ThreadRead, access.Resource{OrgID: p.OrgID, OwnerID: p.ID, Type: "thread"}); err != nil {
		return ThreadPage{}, err
	}
	w, err := s.window(ctx, p, q)
	if err != nil {
		return ThreadPage{}, err
	}
	if q.ByUpdated || isThreadID(p.ID) { // the form of the ID of each user and agent
		w.read = s.find
	}
	for {
		found := w
		if err := s.survey(ctx, p, &found); err != nil {
			return ThreadPage{}, err
		}
		page, whole, err := s.readWindow(ctx, p, found)
		if whole || err != nil {
			return page, err
		}
		w.read = s.find // one was deleted since it was found; now each is read when it is
	}
}

// window is the part of a list of threads around a place, newer threads before it
// and older ones after it.
type window struct {
	at           spot
	newer, older side
	self         *spot // the thread at the place; nil: there is none
	anchored     bool  // self is of the page
	byUpdated    bool
	total        int

	// read reads the record of each thread that is found; nil: those of the page are
	// read at the end.
	read func(ctx context.Context, p access.Principal, q ListQuery, threadID string) (api.Thread, bool, error)
}

// spot is where a thread stands in a list: the newer, the greater.
type spot struct {
	ts     int64
	id     string
	thread *api.Thread // nil: not read
}

func (a spot) compare(b spot) int {
	return cmp.Or(cmp.Compare(a.ts, b.ts), strings.Compare(a.id, b.id))
}

// window checks q and finds the place that it names.
func (s *Service) window(ctx context.Context, p access.Principal, q ThreadQuery) (window, error) {
	limit, err := pageSize(q.Limit)
	if err != nil {
		return window{}, err
	}
	named := q.Before + q.After + q.Anchor
	w := window{at: spot{ts: math.MaxInt64}, byUpdated: q.ByUpdated}
	w.newer.limit, w.older.limit = 0, limit
	switch {
	case named == "":
		return w, nil
	case cmp.Or(q.Before, q.After, q.Anchor) != named:
		return window{}, fault.New(fault.Invalid, "send one of before, after and anchor, not more")
	case !isThreadID(named):
		return window{}, fault.New(fault.Invalid, "before, after and anchor are each the key of a thread")
	case q.Before != "":
		w.newer.limit, w.older.limit = limit, 0
	case q.Anchor != "":
		w.newer.limit, w.older.limit, w.anchored = (limit-1)/2, limit/2, true
	}
	w.at, err = s.spotOf(ctx, p, named, q.ByUpdated)
	return w, err
}

// spotOf is where a thread stands or, deleted, would, for whoever may read it.
func (s *Service) spotOf(ctx context.Context, p access.Principal, threadID string, byUpdated bool) (spot, error) {
	m, err := s.record(ctx, threadID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return spot{}, store.Fault(err)
	}
	err = s.authority.Check(ctx, p, access.ThreadRead, m.resource(p, threadID))
	switch {
	case err == nil && m.ID == "" || m.Deleted && errors.Is(err, fault.Forbidden):
		return spot{}, access.NotThere
	case byUpdated:
		return spot{ts: m.UpdatedTS, id: m.ID}, err
	}
	return spot{ts: m.CreatedTS, id: m.ID}, err
}

// survey goes through p's index and finds what is in w.
func (s *Service) survey(ctx context.Context, p access.Principal, w *window) error {
	rng := store.Prefix(layout.OrgThreads(p.OrgID, p.ID))
	for rec, err := range store.All(ctx, s.store, rng) {
		if err != nil {
			return store.Fault(err)
		}
		pos := rec.Key[len(rng.Start):]
		id, ok := parsePosition(pos)
		if !ok {
			return errIndex
		}
		found := spot{id: id}
		if found.ts, err = strconv.ParseInt(pos[:20], 10, 64); err != nil {
			return errIndex
		}
		if w.read != nil {
			t, ok, err := w.read(ctx, p, ListQuery{}, id)
			if err != nil {
				return err
			}
			if !ok { // deleted since, or another's of the same ID
				continue
			}
			if found.thread = &t; w.byUpdated {
				found.ts = t.UpdatedTS
			}
		}
		w.add(found)
	}
	return nil
}

func (w *window) add(found spot) {
	w.total++
	switch c := found.compare(w.at); {
	case c > 0:
		w.newer.add(found, 1)
	case c < 0:
		w.older.add(found, -1)
	default:
		w.self = &found
	}
}

// readWindow makes the page of what was found. whole is false when a thread of it is
// gone by now.
func (s *Service) readWindow(ctx context.Context, p access.Principal, w window) (page ThreadPage, whole bool, err error) {
	newer, moreNewer := w.newer.cut(1)
	older, moreOlder := w.older.cut(-1)
	slices.Reverse(newer)
	page = ThreadPage{Threads: []api.Thread{}, HasBefore: moreNewer, HasAfter: moreOlder, Total: w.total}
	switch {
	case w.self == nil:
	case w.anchored:
		newer = append(newer, *w.self)
	case w.newer.limit > 0:
		page.HasAfter = true
	default:
		page.HasBefore = true
	}
	for _, found := range append(newer, older...) {
		if found.thread == nil {
			t, ok, err := s.find(ctx, p, ListQuery{}, found.id)
			if err != nil || !ok {
				return ThreadPage{}, false, err
			}
			found.thread = &t
		}
		page.Threads = append(page.Threads, *found.thread)
	}
	return page, true, nil
}

// side keeps the threads on one side of a place that are next to it: up to limit,
// and one more to know that there is one.
type side struct {
	limit int
	found []spot
}

// add keeps found, for now; up is 1 on the side of the newer ones, else -1.
func (s *side) add(found spot, up int) {
	s.found = append(s.found, found)
	if len(s.found) > 2*(s.limit+1) {
		s.sort(up)
		s.found = s.found[:s.limit+1]
	}
}

// cut returns the next ones, nearest first, and whether there are more.
func (s *side) cut(up int) (next []spot, more bool) {
	s.sort(up)
	n := min(s.limit, len(s.found))
	return s.found[:n:n], n < len(s.found)
}

func (s *side) sort(up int) {
	slices.SortFunc(s.found, func(a, b spot) int { return up * a.compare(b) })
}

var errIndex = fault.New(fault.Damaged, "the list of your threads is damaged; restore the store from a backup")
