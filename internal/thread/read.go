package thread

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// MessageQuery selects a page of a thread's messages: the newest, or those
// around a place. At most one of Before, After and Anchor may be set: the ID of
// a message, which need not be there.
type MessageQuery struct {
	Limit  int    // 1 to MaxPage; 0: MaxPage
	Before string // the newest Limit messages older than it
	After  string // the oldest Limit messages newer than it
	Anchor string // the message of this ID, and up to Limit on each side of it

	IncludeDeleted bool // as they are now: without body, with deleted
}

// maxPageBytes is the size, in bytes, at which a page ends before its limit:
// pages of large messages must not fill the server's memory.
const maxPageBytes = 16 << 20

// ListMessages returns the newest messages, or those that q names, oldest
// first: the api.Messages as JSON. It costs one scan of the page and one call
// of the KMS, however many messages the thread has. A page of large messages
// may hold fewer than the limit; only an empty page is the end. A row that does
// not open fails the whole page. Errors: Unauthenticated, NotFound, Forbidden, Invalid,
// Unavailable, Damaged.
func (s *Service) ListMessages(ctx context.Context, p access.Principal, threadID string, q MessageQuery) (json.RawMessage, error) {
	m, err := s.gate(ctx, p, access.MessageRead, threadID)
	if err != nil {
		return nil, err
	}
	rng, opt, err := q.window(m.ID)
	if err != nil {
		return nil, err
	}
	recs, err := s.store.Scan(ctx, rng, opt)
	if err != nil {
		return nil, store.Fault(err)
	}
	if opt.Reverse {
		slices.Reverse(recs)
	}
	opened, err := s.decrypt(ctx, p, m, recs)
	if err != nil {
		return nil, err
	}
	return encodeMessages(m.ID, opened), nil
}

// window checks q and turns it into what to scan.
func (q MessageQuery) window(threadID string) (store.Range, store.ScanOptions, error) {
	rng := store.Prefix(layout.Messages(threadID))
	limit, err := pageSize(q.Limit)
	opt := store.ScanOptions{Limit: limit, MaxBytes: maxPageBytes, Reverse: q.After == ""}
	switch {
	case err != nil:
	case q.Before != "" && q.After != "":
		err = fault.New(fault.Invalid, "send before or after, not both")
	case q.Before != "":
		err = checkMessageID("before", q.Before)
		rng.End = layout.Message(threadID, q.Before)
	case q.After != "":
		err = checkMessageID("after", q.After)
		rng.Start = layout.Message(threadID, q.After) + "\x00"
	}
	return rng, opt, err
}

// GetMessage returns one message: the api.Message as JSON. Errors:
// Unauthenticated, NotFound (the thread or the message), Forbidden,
// Unavailable, Damaged.
func (s *Service) GetMessage(ctx context.Context, p access.Principal, threadID, messageID string) (json.RawMessage, error) {
	m, err := s.gate(ctx, p, access.MessageRead, threadID)
	if err != nil {
		return nil, err
	}
	if _, _, ok := parseMessageID(messageID); !ok {
		return nil, errNoMessage
	}
	rec, err := s.store.Get(ctx, layout.Message(m.ID, messageID))
	if errors.Is(err, store.ErrNotFound) {
		return nil, errNoMessage
	} else if err != nil {
		return nil, store.Fault(err)
	}
	opened, err := s.decrypt(ctx, p, m, []store.Record{rec})
	if err != nil {
		return nil, err
	}
	return opened[0], nil
}

// encodeMessages is the page as JSON, each message as it was opened.
func encodeMessages(threadID string, opened [][]byte) []byte {
	n := len(threadID) + 64
	for _, text := range opened {
		n += len(text) + 1
	}
	out := make([]byte, 0, n)
	out = append(out, `{"thread":"`...)
	out = append(out, threadID...)
	out = append(out, `","messages":[`...)
	for i, text := range opened {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, text...)
	}
	return append(out, "]}"...)
}
