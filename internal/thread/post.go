package thread

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
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
// TS is the message's time, 1 or more; when it is 0 the server's clock gives
// one that is greater than all it gave before. Messages of one time are told
// apart, and ordered, by their seq, in the order in which they were stored.
//
// Of two posts at once the one with the greater time may be stored first.
//
// Errors: Unauthenticated, NotFound, Forbidden, Invalid, TooLarge, Conflict
// (the time is full, or the DEK worn out), Damaged (the thread has lost its
// key), Unavailable (of the KMS: nothing was stored). After another error of
// the store's it is not known whether the message was stored.
func (s *Service) Post(ctx context.Context, p access.Principal, threadID string, req api.PostMessage) (json.RawMessage, error) {
	var wire json.RawMessage
	again := false
	err := store.Retry(ctx, func() (err error) {
		wire, err = s.tryPost(ctx, p, threadID, req, again)
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
func (s *Service) tryPost(ctx context.Context, p access.Principal, threadID string, req api.PostMessage, again bool) (json.RawMessage, error) {
	m, err := s.gate(ctx, p, access.MessageAppend, threadID)
	if err != nil {
		return nil, err
	}
	if err := s.check(ctx, m.ID, &req); err != nil {
		return nil, err
	}
	ts, seq, err := s.place(ctx, m.ID, req.TS, again)
	if err != nil {
		return nil, err
	}
	id := layout.MessageID(ts, seq)
	wire, err := encodeMessage(api.Message{ID: id, Thread: m.ID, Author: p.ID, Role: req.Role, TS: ts, Body: req.Body, ReplyTo: req.ReplyTo})
	if err != nil {
		return nil, err
	}
	if err := s.put(ctx, m, id, "", wire); err != nil {
		return nil, err
	}
	return wire, nil // stored
}

// check tests req and fills in its defaults.
func (s *Service) check(ctx context.Context, threadID string, req *api.PostMessage) error {
	if err := checkBody(req.Body); err != nil {
		return err
	}
	if req.Role == "" {
		req.Role = "user"
	}
	if !isText(req.Role, MaxRole) {
		return fault.New(fault.Invalid, "role must be at most %d characters of UTF-8, without control characters", MaxRole)
	}
	if req.TS < 0 {
		return fault.New(fault.Invalid, "ts must be nanoseconds since 1970, 1 or more; leave it out for now")
	}
	if req.ReplyTo == "" {
		return nil
	}
	if err := checkMessageID("reply_to", req.ReplyTo); err != nil {
		return err
	}
	_, err := s.store.Get(ctx, layout.Message(threadID, req.ReplyTo))
	if errors.Is(err, store.ErrNotFound) {
		return fault.New(fault.Invalid, "reply_to names no message of this thread; post that message first")
	}
	return store.Fault(err)
}

// checkBody tests that body is a JSON value other than null, in UTF-8. It lets
// pass what a JSON text may hold and a strict reader refuses: names that come
// twice and lone surrogates in escaped form.
func checkBody(body []byte) error {
	if len(body) > MaxBody {
		return fault.New(fault.TooLarge, "body is over the limit of %d bytes; send it in parts", MaxBody)
	}
	null := bytes.Equal(bytes.Trim(body, " \t\r\n"), []byte("null"))
	loose := []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}
	if depth(body) > MaxDepth {
		return fault.New(fault.Invalid, "body is nested deeper than %d levels; flatten it, or send it as a string", MaxDepth)
	}
	if null || !utf8.Valid(body) || !jsontext.Value(body).IsValid(loose...) {
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
// 0; once that was taken, the place after the last message of that time is next.
func (s *Service) place(ctx context.Context, threadID string, ts int64, again bool) (int64, int, error) {
	if ts == 0 {
		return s.tick(), 0, nil
	}
	if !again {
		return ts, 0, nil
	}
	first, last := layout.Message(threadID, layout.MessageID(ts, 0)), layout.Message(threadID, layout.MessageID(ts, maxSeq))
	recs, err := s.store.Scan(ctx, store.Range{Start: first, End: last + "\x00"}, store.ScanOptions{Limit: 1, Reverse: true})
	if err != nil || len(recs) == 0 {
		return ts, 0, store.Fault(err)
	}
	if recs[0].Key == last {
		return 0, 0, fault.New(fault.Conflict, "there are %d messages of time %d in this thread already; send another ts", maxSeq+1, ts)
	}
	_, seq, ok := parseMessageID(recs[0].Key[len(layout.Messages(threadID)):])
	if !ok {
		return 0, 0, fault.New(fault.Damaged, "a message of this thread has a damaged ID; restore the store from a backup")
	}
	return ts, seq + 1, nil
}

// encodeMessage is m as JSON, with the body's bytes as they are.
func encodeMessage(m api.Message) ([]byte, error) {
	out := make([]byte, 0, len(m.Body)+len(m.Thread)+len(m.Author)+len(m.Role)+192)
	out = append(out, `{"id":"`...)
	out = append(out, m.ID...)
	out = append(out, `","thread":"`...)
	out = append(out, m.Thread...)
	out = append(out, `","author":`...)
	out, err1 := jsontext.AppendQuote(out, m.Author)
	out = append(out, `,"role":`...)
	out, err2 := jsontext.AppendQuote(out, m.Role)
	out = append(out, `,"ts":`...)
	out = strconv.AppendInt(out, m.TS, 10)
	out = append(out, `,"body":`...)
	out = append(out, m.Body...)
	if m.ReplyTo != "" {
		out = append(out, `,"reply_to":"`...)
		out = append(out, m.ReplyTo...)
		out = append(out, '"')
	}
	if errors.Join(err1, err2) != nil {
		return nil, fault.New(fault.Internal, "the message does not encode: author or role is not UTF-8")
	}
	return append(out, '}'), nil
}
