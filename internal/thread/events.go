package thread

import (
	"context"
	"errors"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// Event is a change of a thread, for one who follows it.
type Event struct {
	ID   string // a change's; Follow goes on after it
	Kind string // created, edited, deleted, purged, reactions or thread
	Data []byte // an api.MessageEvent as JSON
}

// Following follows one thread. It belongs to one goroutine.
//
// It takes changes from the log of its feed, each once. Changes from before it
// joined, and those that the log has forgotten since, it reads from the store,
// from floor on: where both meet, sent says which went out already.
type Following struct {
	s        *Service
	threadID string
	feed     *feed
	place    int                 // in the log: what is before it was taken, or the store is read for it
	floor    int64               // no change that the log got from place on, or is still to get, is of a time before it
	from     string              // the store is read from this ID on; "": it is read
	sent     map[string]struct{} // IDs that may come once more
	swept    int                 // how many sent held when it was last swept
	pending  []change            // taken, and not yet sent
}

// Bounds of what Next returns at once. The second, in bytes, is passed by one
// message at most.
const (
	maxEvents     = 64
	maxEventBytes = 1 << 20
)

// Follow begins to follow a thread for p: from now on, or, where after is not
// empty, with all changes after it, an Event's or Position's ID. Some of those that
// came up to lookBack before it come again. Close must be called. Errors:
// Unauthenticated, NotFound, Forbidden, Invalid, Gone (after is older than changes
// are kept, or ahead of the clock).
func (s *Service) Follow(ctx context.Context, p access.Principal, threadID, after string) (*Following, error) {
	m, err := s.gate(ctx, p, access.MessageRead, threadID)
	if err != nil {
		return nil, err
	}
	f := &Following{s: s, threadID: m.ID}
	now := s.now().UnixNano()
	if after != "" {
		if f.from, err = s.resumes(ctx, m.ID, after, now); err != nil {
			return nil, err
		}
	}
	f.feed = s.hub.join(m.ID, s.poll)
	if err := s.discover(ctx, m.ID); err != nil {
		f.Close()
		return nil, err
	}
	f.skip(now)
	return f, nil
}

// skip goes to the end of the log, at a time of now or later.
func (f *Following) skip(now int64) {
	var t tail
	f.place, t = f.s.hub.end(f.feed)
	f.floor = f.s.floor(now, t)
}

// floor is the time from which all changes are that come into a log that is polled up
// to t, at a time of now or later. Of a shared store that is exact: they come in the order of
// their times, however late.
func (s *Service) floor(now int64, t tail) int64 {
	switch {
	case !s.shared:
		return now - int64(lookBack)
	case t.rev == 0:
		return 0
	}
	return t.ts + 1
}

// resumes is where the store is read from when somebody goes on after an ID. An ID that is
// far ahead of the last time that was given out is of a time before the clock was put
// back, and what has happened since is not behind it.
func (s *Service) resumes(ctx context.Context, threadID, after string, now int64) (from string, err error) {
	last := s.last.Load()
	if s.shared { // another's may be ahead
		t, err := s.readTail(ctx, threadID)
		if err != nil {
			return "", err
		}
		last = max(last, t.ts)
	}
	ts, _, ok := parseMessageID(after)
	switch {
	case !ok:
		return "", fault.New(fault.Invalid, "Last-Event-ID, or after, must be the id of an event of this thread; leave it out to begin with what comes next")
	case ts > max(now, last+1)+int64(lookBack): // a Position may be so far after the tail
		return "", fault.New(fault.Gone, "this id is ahead of the server's clock; list the messages, then follow the thread without Last-Event-ID and without after")
	case ts < now-int64(changesKept):
		return "", fault.New(fault.Gone, "events are kept for 24 hours, and this one is older; list the messages, then follow the thread without Last-Event-ID and without after")
	}
	return before(ts), nil
}

// Close ends it.
func (f *Following) Close() { f.s.hub.leave(f.threadID) }

// Position is an ID after which Follow goes on with what Next has not returned,
// unless it is Behind. It is that of a time, and no event's: of the last change or, where
// that is long ago, of half the time for which changes are kept, so that it is good for the
// other half. A commit that takes longer than that may be missed.
func (f *Following) Position() string {
	return changeAt(max(f.floor+int64(lookBack), f.s.now().UnixNano()-int64(changesKept/2)))
}

// Behind reports whether Next has more to return, of what is known already.
func (f *Following) Behind() bool { return f.from != "" || len(f.pending) > 0 }

// News is closed when Next has something to return.
func (f *Following) News() <-chan struct{} {
	if f.Behind() {
		return now
	}
	return f.s.hub.news(f.feed, f.place)
}

// Next returns what has changed since the last call, perhaps nothing, with the
// messages as they are now. It waits for nothing. Whether p may read is asked
// first, each time. Errors: Unauthenticated, NotFound, Forbidden, Unavailable,
// Damaged; the Following is of no use then.
func (f *Following) Next(ctx context.Context, p access.Principal) ([]Event, error) {
	m, err := f.s.gate(ctx, p, access.MessageRead, f.threadID)
	if err != nil {
		return nil, err
	}
	if len(f.pending) == 0 {
		if f.pending, err = f.take(ctx); err != nil {
			return nil, err
		}
	}
	events, err := f.s.events(ctx, p, m, f.pending)
	f.pending = f.pending[len(events):]
	return events, err
}

// take returns the next changes that were not sent.
func (f *Following) take(ctx context.Context) ([]change, error) {
	now := f.s.now().UnixNano()
	if f.from == "" {
		if changes, t, ok := f.s.hub.after(f.feed, f.place, maxEvents); ok {
			if f.place += len(changes); len(changes) < maxEvents {
				f.floor = f.s.floor(now, t)
			}
			return f.fresh(changes), nil
		}
		f.from = changeAt(f.floor)
	}
	if f.from <= changeAt(f.floor) { // the log holds nothing from before it: what it holds now will be found
		f.skip(now)
	}
	changes, err := f.s.changes(ctx, f.threadID, f.from, maxEvents)
	if err != nil {
		return nil, err
	}
	if f.from = ""; len(changes) == maxEvents {
		f.from = changes[len(changes)-1].ID + "\x00"
	}
	return f.fresh(changes), nil
}

// fresh returns those of changes that were not sent, as sent from now on.
func (f *Following) fresh(changes []change) []change {
	recent := changeAt(f.floor) // the log can hold no older ones from place on
	out := changes[:0]
	for _, c := range changes {
		if _, was := f.sent[c.ID]; was {
			continue
		}
		if c.ID >= recent {
			if f.sent == nil {
				f.sent = map[string]struct{}{}
			}
			f.sent[c.ID] = struct{}{}
		}
		out = append(out, c)
	}
	if len(f.sent) > 2*f.swept+maxEvents {
		f.sweep(recent)
	}
	return out
}

// sweep drops from sent what cannot come again.
func (f *Following) sweep(recent string) {
	if f.from != "" {
		recent = min(recent, f.from)
	}
	for id := range f.sent {
		if id < recent {
			delete(f.sent, id)
		}
	}
	f.swept = len(f.sent)
}

// changes reads the changes of a thread from an ID on, at most limit.
func (s *Service) changes(ctx context.Context, threadID, from string, limit int) ([]change, error) {
	recs, err := s.store.Scan(ctx, changesFrom(threadID, from), store.ScanOptions{Limit: limit})
	if err != nil {
		return nil, store.Fault(err)
	}
	return parseChanges(threadID, recs)
}

// discover has the hub know all changes of a thread that other servers made. Of a
// shared store it reads the thread's tail first: while that is as it was, nothing has
// changed, and else all that did is after it, however long its commit took.
func (s *Service) discover(ctx context.Context, threadID string) (err error) {
	from := before(s.now().UnixNano())
	var t tail
	if s.shared {
		if t, err = s.readTail(ctx, threadID); err != nil {
			return err
		}
		was, ok := s.hub.tail(threadID)
		if !ok {
			was = t // the first look: all up to t is there, and the rest will come after it
		}
		from = min(from, changeAt(s.floor(0, was)))
		if ok && was.rev == t.rev {
			s.hub.found(threadID, from, nil, t)
			return nil
		}
	}
	var all []change
	for next := from; ; {
		changes, err := s.changes(ctx, threadID, next, store.MaxScan)
		if err != nil {
			return err
		}
		if all = append(all, changes...); len(changes) < store.MaxScan {
			break
		}
		next = changes[len(changes)-1].ID + "\x00"
	}
	s.hub.found(threadID, from, all, t)
	return nil
}

// events tells of changes, of as many as maxEventBytes admits, with what is there
// of their messages, which is opened in one call.
func (s *Service) events(ctx context.Context, p access.Principal, m meta, changes []change) ([]Event, error) {
	now := messagesNow{of: map[string]messageNow{}}
	n := 0
	for ; n < len(changes) && now.size < maxEventBytes; n++ {
		if err := now.read(ctx, s.store, m.ID, changes[n].Message); err != nil {
			return nil, err
		}
	}
	opened, err := s.decrypt(ctx, p, m, now.recs)
	if err != nil {
		return nil, err
	}
	out := make([]Event, n)
	for i, c := range changes[:n] {
		out[i] = Event{c.ID, string(c.Kind), now.of[c.Message].encode(m.ID, c.Message, opened)}
	}
	return out, nil
}

// messagesNow are the rows of messages as they are now.
type messagesNow struct {
	of   map[string]messageNow // by the message's ID
	recs []store.Record
	size int // of their values, in bytes
}

// messageNow says where in recs a message and its reactions are, from 1; 0: nowhere.
type messageNow struct{ text, reactions int }

// read reads the message, or what a deletion left of it, and its reactions.
func (n *messagesNow) read(ctx context.Context, rows store.Store, threadID, messageID string) error {
	if _, was := n.of[messageID]; was || messageID == "" {
		return nil
	}
	var at messageNow
	var err error
	for _, name := range []rowName{newestRow(messageID), deletedRow(messageID)} {
		if at.text, err = n.get(ctx, rows, name.key(threadID)); at.text != 0 || err != nil {
			break
		}
	}
	if err == nil {
		at.reactions, err = n.get(ctx, rows, reactionsRow(messageID).key(threadID))
	}
	n.of[messageID] = at
	return err
}

func (n *messagesNow) get(ctx context.Context, rows store.Store, key string) (int, error) {
	rec, err := rows.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	} else if err != nil {
		return 0, store.Fault(err)
	}
	n.recs, n.size = append(n.recs, rec), n.size+len(rec.Value)
	return len(n.recs), nil
}

// encode is the api.MessageEvent of a message, with its bytes as they were opened.
func (n messageNow) encode(threadID, messageID string, opened [][]byte) []byte {
	out := append([]byte(`{"thread":"`), threadID...)
	if messageID != "" {
		out = append(append(out, `","message_id":"`...), messageID...)
	}
	out = append(out, '"')
	if n.text != 0 {
		text := opened[n.text-1]
		if n.reactions != 0 {
			text = withReactions(text, opened[n.reactions-1])
		}
		out = append(append(out, `,"message":`...), text...)
	}
	return append(out, '}')
}
