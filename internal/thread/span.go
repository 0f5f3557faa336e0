package thread

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// span is what to read of the messages between two places.
type span struct {
	from, to string // from <= ID < to; "": no bound
	back     bool   // the last ones of it
	limit    int    // at most so many; 0: all
	anchor   string // this one does not count
	bytes    int    // it ends with the messages, and the reactions to them, that make so many; 0: no bound
}

// scan reads the rows of messages in sp, oldest first, each with the row of the
// reactions to it behind it, if there is one. All are in between that were there.
//
// Messages that are there are read before deleted ones, and these before
// reactions: what is deleted meanwhile is met once or twice, never missed.
func (s *Service) scan(ctx context.Context, threadID string, deleted bool, sp span) ([]store.Record, error) {
	recs, err := s.rows(ctx, threadID, "msg:", &sp)
	if err == nil && deleted {
		var gone []store.Record
		gone, err = s.rows(ctx, threadID, "del:", &sp)
		recs = merge(sp.within(recs), gone)
	}
	recs = sp.trim(recs)
	if err != nil || len(recs) == 0 {
		return nil, err
	}
	sp.from, sp.to, sp.limit = idOf(recs[0]), after(idOf(recs[len(recs)-1])), 0
	reacted, err := s.rows(ctx, threadID, "react:", &sp)
	return merge(sp.within(recs), reacted), err
}

// any reports whether there is a message in sp.
func (s *Service) any(ctx context.Context, threadID string, deleted bool, sp span) (bool, error) {
	sp.limit = 1
	recs, err := s.rows(ctx, threadID, "msg:", &sp)
	if err == nil && len(recs) == 0 && deleted {
		recs, err = s.rows(ctx, threadID, "del:", &sp)
	}
	return len(recs) > 0, err
}

// rows reads the rows of one kind in sp, oldest first. When it ends early, sp
// ends there from now on.
func (s *Service) rows(ctx context.Context, threadID, kind string, sp *span) ([]store.Record, error) {
	rng := store.Prefix(layout.ThreadRow(threadID, kind))
	rng.Start += sp.from
	if sp.to != "" {
		rng.End = layout.ThreadRow(threadID, kind) + sp.to
	}
	opt := store.ScanOptions{Limit: sp.limit, MaxBytes: sp.bytes, Reverse: sp.back}
	if sp.anchor != "" && sp.limit > 0 {
		opt.Limit++
	}
	recs, err := s.store.Scan(ctx, rng, opt)
	if err != nil {
		return nil, store.Fault(err)
	}
	if sp.back {
		slices.Reverse(recs)
	}
	if opt.Full(len(recs), sizeOf(recs)) {
		sp.end(recs)
	}
	return recs, nil
}

// end makes sp end with the last of recs that it has come to.
func (sp *span) end(recs []store.Record) {
	if sp.back {
		sp.from = idOf(recs[0])
	} else {
		sp.to = after(idOf(recs[len(recs)-1]))
	}
}

// within returns those of recs that are in sp.
func (sp span) within(recs []store.Record) []store.Record {
	return slices.DeleteFunc(recs, func(r store.Record) bool { return idOf(r) < sp.from || sp.to != "" && idOf(r) >= sp.to })
}

// trim takes off recs what is over the bounds of sp.
func (sp span) trim(recs []store.Record) []store.Record {
	opt := store.ScanOptions{Limit: sp.limit, MaxBytes: sp.bytes}
	if len(recs) > 0 && idOf(recs[0]) == sp.anchor {
		opt.Limit++
	}
	n, size := 0, 0
	for ; n < len(recs) && !opt.Full(n, size); n++ {
		size += len(recs[n].Value)
		if sp.back {
			size += len(recs[len(recs)-1-n].Value) - len(recs[n].Value)
		}
	}
	if sp.back {
		return recs[len(recs)-n:]
	}
	return recs[:n]
}

// merge orders rows by their messages: of each one row, which is the deleted one
// if there is, and behind it that of the reactions to it.
func merge(recs, more []store.Record) []store.Record {
	if len(more) == 0 {
		return recs
	}
	recs = append(recs, more...)
	slices.SortFunc(recs, func(a, b store.Record) int {
		return cmp.Or(strings.Compare(idOf(a), idOf(b)), strings.Compare(a.Key, b.Key))
	})
	out := recs[:0]
	for _, r := range recs {
		same := len(out) > 0 && idOf(out[len(out)-1]) == idOf(r)
		if same == isReactions(r) {
			out = append(out, r)
		}
	}
	return out
}

// joined are the texts of messages with the reactions to them, of rows as scan
// returns them, opened.
func joined(recs []store.Record, opened [][]byte) [][]byte {
	out := make([][]byte, 0, len(opened))
	for i, text := range opened {
		if isReactions(recs[i]) {
			out[len(out)-1] = withReactions(out[len(out)-1], text)
		} else {
			out = append(out, text)
		}
	}
	return out
}

const idLength = 20 + 1 + 6

// idOf is the ID of the message that a row is of, which its key ends with.
func idOf(r store.Record) string { return r.Key[len(r.Key)-idLength:] }

func isReactions(r store.Record) bool {
	return strings.HasSuffix(r.Key[:len(r.Key)-idLength], ":react:")
}

func sizeOf(recs []store.Record) (n int) {
	for _, r := range recs {
		n += len(r.Value)
	}
	return n
}
