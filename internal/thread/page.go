package thread

import (
	"cmp"
	"context"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// Page is a page of a thread's messages.
type Page struct {
	Messages  [][]byte // the JSON of api.Message, oldest first
	HasBefore bool     // there are older ones
	HasAfter  bool     // there are newer ones; of the newest page always false
}

// Page is ListMessages with what lies around the page: up to two scans more, of
// one message each, and with IncludeDeleted up to four. Errors: those of ListMessages.
func (s *Service) Page(ctx context.Context, p access.Principal, threadID string, q MessageQuery) (Page, error) {
	m, err := s.gate(ctx, p, access.MessageRead, threadID)
	if err != nil {
		return Page{}, err
	}
	done, err := s.reading.begin(ctx)
	if err != nil {
		return Page{}, err
	}
	defer done()
	found, err := s.messages(ctx, p, m, q)
	if err != nil {
		return Page{}, err
	}
	out := Page{Messages: found.texts}
	if out.HasBefore, err = s.any(ctx, m.ID, q.IncludeDeleted, span{to: found.from, back: true}); err != nil {
		return Page{}, err
	}
	if q.place() != "" {
		out.HasAfter, err = s.any(ctx, m.ID, q.IncludeDeleted, span{from: found.to})
	}
	return out, err
}

// found are messages: all those that are between two places.
type found struct {
	texts    [][]byte
	from, to string // from <= ID < to
}

// messages reads and opens the messages that q names, again while they change under it.
func (s *Service) messages(ctx context.Context, p access.Principal, m meta, q MessageQuery) (out found, err error) {
	spans, err := q.spans()
	if err != nil {
		return found{}, err
	}
	err = store.Retry(ctx, func() (err error) {
		out, err = s.between(ctx, p, m, q, spans)
		return err
	})
	return out, store.Fault(err)
}

func (s *Service) between(ctx context.Context, p access.Principal, m meta, q MessageQuery, spans []span) (found, error) {
	var recs []store.Record
	for _, sp := range spans {
		some, err := s.scan(ctx, m.ID, q.IncludeDeleted, sp)
		if err != nil {
			return found{}, err
		}
		recs = append(recs, some...)
	}
	opened, err := s.decrypt(ctx, p, m, recs)
	if err != nil {
		return found{}, err
	}
	out := found{joined(recs, opened), q.place(), q.place()}
	if len(recs) > 0 {
		out.from, out.to = idOf(recs[0]), after(idOf(recs[len(recs)-1]))
	}
	return out, nil
}

// place is where an empty page lies: before this ID. "": at the end.
func (q MessageQuery) place() string {
	if q.After != "" {
		return after(q.After)
	}
	return cmp.Or(q.Before, q.Anchor)
}

// after is the place after a message.
func after(id string) string { return id + "\x00" }

// spans checks q and turns it into what to scan, in order.
func (q MessageQuery) spans() ([]span, error) {
	limit, err := pageSize(q.Limit)
	if err != nil {
		return nil, err
	}
	set := 0
	for name, id := range map[string]string{"before": q.Before, "after": q.After, "anchor": q.Anchor} {
		if id == "" {
			continue
		}
		set++
		if err := checkMessageID(name, id); err != nil {
			return nil, err
		}
	}
	switch {
	case set > 1:
		return nil, fault.New(fault.Invalid, "send one of before, after and anchor, not more")
	case q.Anchor != "":
		return []span{
			{to: q.Anchor, back: true, limit: limit, bytes: maxPageBytes / 2},
			{from: q.Anchor, limit: limit, bytes: maxPageBytes / 2, anchor: q.Anchor},
		}, nil
	case q.After != "":
		return []span{{from: after(q.After), limit: limit, bytes: maxPageBytes}}, nil
	}
	return []span{{to: q.Before, back: true, limit: limit, bytes: maxPageBytes}}, nil
}
