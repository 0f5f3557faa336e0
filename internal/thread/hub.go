package thread

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/keyfold/keyfold/internal/layout"
)

// hub knows which threads are followed on this server, and what changed in them
// lately. A change becomes known to it when a commit of this server succeeded, or,
// if another server made it, by the poll of the store. Who follows is never waited
// for: it takes the changes from the log at its own pace.
type hub struct {
	mu    sync.Mutex       // guards all, and all feeds
	feeds map[string]*feed // by thread; those that somebody follows
	stop  context.CancelFunc
}

// feed is what changed lately in one thread.
type feed struct {
	followers int
	log       []change            // in the order in which they became known
	gone      int                 // changes that were before log[0]
	known     map[string]struct{} // IDs of all that a poll can find
	polled    bool                // known holds what was there when it began
	since     string              // ID: what was found from before it is forgotten, and no news
	tail      tail                // of a shared store, before the last poll: all up to it was found, and the log had it
	news      chan struct{}       // closed by the next change; nil: nobody waits
}

// maxLog is how many changes a log holds. Who is further behind reads the store.
const maxLog = 1 << 14

// join adds a follower of a thread. poll runs until the last one of all has left.
func (h *hub) join(threadID string, poll func(context.Context)) *feed {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.feeds) == 0 {
		var ctx context.Context
		ctx, h.stop = context.WithCancel(context.Background())
		h.feeds = map[string]*feed{}
		go poll(ctx)
	}
	f := h.feeds[threadID]
	if f == nil {
		f = new(feed)
		h.feeds[threadID] = f
	}
	f.followers++
	return f
}

func (h *hub) leave(threadID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.feeds[threadID]
	if f.followers--; f.followers > 0 {
		return
	}
	if delete(h.feeds, threadID); len(h.feeds) == 0 {
		h.stop()
	}
}

func (h *hub) tell(threadID string, c change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.feeds[threadID]; f != nil && (f.tail.rev == 0 || c.ID > layout.MessageID(f.tail.ts, maxSeq)) { // else it was found
		f.add(c)
	}
}

// found takes what a poll read: all changes from an ID on, up to t at least. What was there before
// the first one is not news. Of two polls that meet the later one may be the first to
// tell; what it made the feed forget does not come again with the other.
func (h *hub) found(threadID, from string, changes []change, t tail) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.feeds[threadID]
	if f == nil {
		return
	}
	for _, c := range changes {
		switch {
		case c.ID < f.since:
		case f.polled:
			f.add(c)
		default:
			f.know(c.ID)
		}
	}
	f.polled, f.since = true, max(f.since, from)
	if t.ts >= f.tail.ts {
		f.tail = t
	}
	f.forget(f.since)
}

// tail returns the tail up to which all changes of a thread were found; not ok: none was.
func (h *hub) tail(threadID string) (t tail, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.feeds[threadID]
	if f == nil || !f.polled {
		return tail{}, false
	}
	return f.tail, true
}

// threads are those that are followed.
func (h *hub) threads() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]string, 0, len(h.feeds))
	for id := range h.feeds {
		out = append(out, id)
	}
	return out
}

// know remembers an ID and reports whether it is a new one.
func (f *feed) know(id string) bool {
	if _, known := f.known[id]; known {
		return false
	}
	if f.known == nil {
		f.known = map[string]struct{}{}
	}
	f.known[id] = struct{}{}
	return true
}

func (f *feed) add(c change) {
	if !f.know(c.ID) {
		return
	}
	if len(f.log) == maxLog {
		f.log = f.log[1:]
		f.gone++
	}
	f.log = append(f.log, c)
	if f.news != nil {
		close(f.news)
		f.news = nil
	}
}

// forget drops what is older than from.
func (f *feed) forget(from string) {
	for id := range f.known {
		if id < from {
			delete(f.known, id)
		}
	}
	old := slices.IndexFunc(f.log, func(c change) bool { return c.ID >= from })
	if old < 0 {
		old = len(f.log)
	}
	if old > 0 {
		f.gone, f.log = f.gone+old, slices.Clone(f.log[old:])
	}
}

// end is the place after the last change. What the log has up to t is before it.
func (h *hub) end(f *feed) (place int, t tail) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return f.gone + len(f.log), f.tail
}

// after returns at most limit changes from a place on, and with fewer the tail as end does;
// ok is false when some of them are forgotten.
func (h *hub) after(f *feed, place, limit int) (changes []change, t tail, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if place < f.gone {
		return nil, tail{}, false
	}
	rest := f.log[place-f.gone:]
	return slices.Clone(rest[:min(limit, len(rest))]), f.tail, true
}

// news is closed once there is a change at place or after it.
func (h *hub) news(f *feed, place int) <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if place < f.gone+len(f.log) {
		return now
	}
	if f.news == nil {
		f.news = make(chan struct{})
	}
	return f.news
}

// now is closed.
var now = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// pollEvery is how long a change that another server made may stay unknown here, beside
// the time that a poll takes.
const pollEvery = 500 * time.Millisecond

// pollTogether is how many threads a poll looks into at a time.
const pollTogether = 8

// poll looks, until ctx ends, into every thread that is followed here.
func (s *Service) poll(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.discoverAll(ctx, s.hub.threads())
	}
}

func (s *Service) discoverAll(ctx context.Context, threadIDs []string) {
	next := make(chan string)
	var looking sync.WaitGroup
	for range min(pollTogether, len(threadIDs)) {
		looking.Go(func() {
			for id := range next {
				_ = s.discover(ctx, id) // in vain: again at the next tick, and who follows meets the store's error itself
			}
		})
	}
	for _, id := range threadIDs {
		next <- id
	}
	close(next)
	looking.Wait()
}
