package thread

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Post appends a message of p's and returns the api.Message as JSON.
//
// Body is any JSON value but null, in UTF-8, at most MaxBody bytes and MaxDepth
// levels; its bytes are kept as they are. Role is at most MaxRole characters, "user" when
// absent. ReplyTo is the ID of a message of this thread that is there already.
// TS is the message's time, 1 or more and at most a day ahead of the server's clock; when it is 0 the server's clock gives
// one that is greater than all it gave before. Messages of one time are told
// apart, and ordered, by their seq, in the order in which they were stored.
//
// Of two posts at once the one with the greater time may be stored first, unless the
// store is shared: then who has read up to a message finds all that are stored later,
// by whichever server, after it, but for those whose TS their author chose.
//
// Errors: Unauthenticated, NotFound, Forbidden, Invalid, TooLarge, Conflict
// (the time is full, or the DEK worn out), Damaged (the thread has lost its
// key), Unavailable (of the KMS: nothing was stored). After another error of
// the store's it is not known whether the message was stored.
func (s *Service) Post(ctx context.Context, p access.Principal, threadID string, req api.PostMessage) (json.RawMessage, error) {
	return s.PostWith(ctx, p, threadID, req, PostOptions{})
}

// PostOptions are what a caller may say beside a message or an edit.
type PostOptions struct {
	// IdempotencyKey names the request, by 1 to 255 printable ASCII characters:
	// for a day the same key of the same principal in the thread answers what the
	// first request made. "": every request makes a message, or a version.
	IdempotencyKey string
	// Again is called when the answer is that of an earlier request; nil: nothing.
	Again func()

	taken   func() error // asked when the place of a time was taken and another is chosen; nil: the message gets that
	version int          // that an edit makes; 0: the next one, whichever that is
}

func (o PostOptions) again() {
	if o.Again != nil {
		o.Again()
	}
}

// PostWith is Post with options. Errors: those of Post; Conflict also when the
// idempotency key was used for another message, or the message is gone since.
func (s *Service) PostWith(ctx context.Context, p access.Principal, threadID string, req api.PostMessage, o PostOptions) (json.RawMessage, error) {
	var wire json.RawMessage
	again := false
	err := store.Retry(ctx, func() (err error) {
		wire, err = s.tryPost(ctx, p, threadID, req, o, again)
		again = true
		return err
	})
	if err != nil {
		return nil, store.Fault(err)
	}
	return wire, nil
}

// tryPost reads, decides and commits once. again says that an earlier try met
// a change of the thread or another message of the same ID.
func (s *Service) tryPost(ctx context.Context, p access.Principal, threadID string, req api.PostMessage, o PostOptions, again bool) (json.RawMessage, error) {
	m, err := s.gate(ctx, p, access.MessageAppend, threadID)
	if err != nil {
		return nil, err
	}
	if err := s.check(&req); err != nil {
		return nil, err
	}
	if err := m.checkBlob(req.Body); err != nil {
		return nil, err
	}
	sent, wire, err := s.once(ctx, p, m, req, o.IdempotencyKey)
	if wire != nil && err == nil {
		o.again()
	}
	if wire != nil || err != nil {
		return wire, err
	}
	if err := s.checkReply(ctx, m.ID, req.ReplyTo); err != nil {
		return nil, err
	}
	ts, seq, err := s.place(ctx, m.ID, req.TS, again)
	if err != nil {
		return nil, err
	}
	if again && o.taken != nil { // after the place, which is taken again by what it does not see
		if err := o.taken(); err != nil {
			return nil, err
		}
	}
	a := &appending{m: m, sent: sent, own: req.TS != 0, msg: api.Message{
		Thread: m.ID, Author: p.ID, EndUser: p.Kind == access.EndUser, Role: req.Role, Body: req.Body, ReplyTo: req.ReplyTo,
	}}
	if err := a.at(ts, seq); err != nil {
		return nil, err
	}
	if err := s.put(ctx, a); err != nil {
		return nil, s.orChanged(ctx, m, err)
	}
	return a.wire, nil // stored
}

// maxAhead is how far ahead of the server's clock a message's time may be: others
// sort before it until then, and no count comes to it.
const maxAhead = 24 * time.Hour

// check tests req, but for what it replies to, and fills in its defaults.
func (s *Service) check(req *api.PostMessage) error {
	if err := checkBody(req.Body); err != nil {
		return err
	}
	if req.Role == "" {
		req.Role = "user"
	}
	if req.TS < 0 {
		return fault.New(fault.Invalid, "ts must be nanoseconds since 1970, 1 or more; leave it out for now")
	}
	if req.TS > s.now().Add(maxAhead).UnixNano() {
		return fault.New(fault.Invalid, "ts is more than 24 hours ahead of the server's clock; it is nanoseconds since 1970; leave it out for now")
	}
	return checkRole(req.Role)
}

func checkRole(role string) error {
	if !isText(role, MaxRole) {
		return fault.New(fault.Invalid, "role must be at most %d characters of UTF-8, without control characters", MaxRole)
	}
	return nil
}

// checkReply tests that there is a message to reply to; "": none is named.
func (s *Service) checkReply(ctx context.Context, threadID, replyTo string) error {
	if replyTo == "" {
		return nil
	}
	if err := checkMessageID("reply_to", replyTo); err != nil {
		return err
	}
	_, err := s.store.Get(ctx, layout.Message(threadID, replyTo))
	if errors.Is(err, store.ErrNotFound) {
		return fault.New(fault.Invalid, "reply_to names no message of this thread; post that message first")
	}
	return store.Fault(err)
}

// checkBody tests that body is a JSON value other than null, in UTF-8, loosely.
func checkBody(body []byte) error {
	if len(body) > MaxBody {
		return fault.New(fault.TooLarge, "body is over the limit of %d bytes; send it in parts", MaxBody)
	}
	null := bytes.Equal(bytes.Trim(body, " \t\r\n"), []byte("null"))
	if depth(body) > MaxDepth {
		return fault.New(fault.Invalid, "body is nested deeper than %d levels; flatten it, or send it as a string", MaxDepth)
	}
	if null || !utf8.Valid(body) || !jsontext.Value(body).IsValid(loose) {
		return fault.New(fault.Invalid, "body is required: any JSON value but null, in UTF-8")
	}
	return nil
}

// depth is how deep the arrays and objects of a JSON text go.
func depth(text []byte) (deepest int) {
	now, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			now++
			deepest = max(deepest, now)
		case c == ']' || c == '}':
			now--
		}
	}
	return deepest
}

// place gives a message its time and seq. A time of the caller's begins at seq
// 0; once that was taken, the place after the last message of that time, deleted
// ones included, is next.
func (s *Service) place(ctx context.Context, threadID string, ts int64, again bool) (int64, int, error) {
	if ts == 0 {
		return s.tick(), 0, nil
	}
	if !again {
		return ts, 0, nil
	}
	seq, err := s.afterLast(ctx, threadID, "msg:", ts)
	if err != nil {
		return 0, 0, err
	}
	_, err = s.store.Get(ctx, deletedRow(layout.MessageID(ts, seq)).key(threadID))
	if err == nil {
		seq, err = s.afterLast(ctx, threadID, "del:", ts)
	}
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return 0, 0, store.Fault(err)
	case seq > maxSeq:
		return 0, 0, fault.New(fault.Conflict, "there are %d messages of time %d in this thread already; send another ts", maxSeq+1, ts)
	}
	return ts, seq, nil
}

// afterLast is the seq after the last row of a kind of messages of one time.
func (s *Service) afterLast(ctx context.Context, threadID, kind string, ts int64) (int, error) {
	sp := span{from: layout.MessageID(ts, 0), to: after(layout.MessageID(ts, maxSeq)), back: true, limit: 1}
	recs, err := s.rows(ctx, threadID, kind, &sp)
	if err != nil || len(recs) == 0 {
		return 0, err
	}
	_, seq, ok := parseMessageID(idOf(recs[0]))
	if !ok {
		return 0, fault.New(fault.Damaged, "a message of this thread has a damaged ID; restore the store from a backup")
	}
	return seq + 1, nil
}
