package thread

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

// The text of a message is its JSON as it is encrypted and as the API answers it.
// Its members come in this order, without spaces between them, and the body is
// as it was sent, spaces included:
//
//	{"id":"...","thread":"...","author":"...","end_user":true,"role":"...","ts":1,
//	 "body":...,"reply_to":"...","version":2,"updated_ts":3,"deleted":true,"reactions":{"who":"what"}}
//
// Absent are: end_user unless an access.EndUser wrote it, body and reply_to when
// there is none, version and updated_ts of version 1. What was deleted has no
// body, and the reactions that it had; those to another message lie in a row of
// their own.

// encodeMessage is the text of m.
func encodeMessage(m api.Message) ([]byte, error) {
	head, err1 := appendHead(make([]byte, 0, len(m.Body)+len(m.Thread)+len(m.Author)+len(m.Role)+256), m)
	text, err2 := appendTail(append(head, m.Body...), m)
	if errors.Join(err1, err2) != nil {
		return nil, fault.New(fault.Internal, "the message does not encode: author or role is not UTF-8")
	}
	return text, nil
}

// appendHead appends what is before the body.
func appendHead(out []byte, m api.Message) ([]byte, error) {
	out = append(out, `{"id":"`...)
	out = append(out, m.ID...)
	out = append(out, `","thread":"`...)
	out = append(out, m.Thread...)
	out = append(out, `","author":`...)
	out, err1 := jsontext.AppendQuote(out, m.Author)
	if m.EndUser {
		out = append(out, `,"end_user":true`...)
	}
	out = append(out, `,"role":`...)
	out, err2 := jsontext.AppendQuote(out, m.Role)
	out = append(out, `,"ts":`...)
	out = strconv.AppendInt(out, m.TS, 10)
	if !m.Deleted {
		out = append(out, `,"body":`...)
	}
	return out, errors.Join(err1, err2)
}

// appendTail appends what is after the body.
func appendTail(out []byte, m api.Message) ([]byte, error) {
	if m.ReplyTo != "" {
		out = append(out, `,"reply_to":"`...)
		out = append(out, m.ReplyTo...)
		out = append(out, '"')
	}
	if m.Version > 1 {
		out = append(out, `,"version":`...)
		out = strconv.AppendInt(out, int64(m.Version), 10)
		out = append(out, `,"updated_ts":`...)
		out = strconv.AppendInt(out, m.UpdatedTS, 10)
	}
	if m.Deleted {
		out = append(out, `,"deleted":true`...)
	}
	if len(m.Reactions) > 0 {
		quoted, err := json.Marshal(m.Reactions, json.Deterministic(true))
		if err != nil {
			return nil, err
		}
		out = append(out, `,"reactions":`...)
		out = append(out, quoted...)
	}
	return append(out, '}'), nil
}

// loose lets pass what a JSON text may hold and a strict reader refuses: names
// that come twice and lone surrogates in escaped form.
var loose = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// parseMessage reads what encodeMessage wrote, the body to the byte. Version is
// at least 1.
func parseMessage(text []byte) (api.Message, error) {
	var m api.Message
	err := json.Unmarshal(text, &m, loose)
	head, err1 := appendHead(nil, m)
	tail, err2 := appendTail(nil, m)
	rest, starts := bytes.CutPrefix(text, head)
	body, ends := bytes.CutSuffix(rest, tail)
	if errors.Join(err, err1, err2) != nil || !starts || !ends || m.Deleted == (len(body) > 0) {
		return api.Message{}, fault.New(fault.Damaged, "a message of this thread is no text of a message; restore it from a backup")
	}
	m.Body, m.Version = body, max(m.Version, 1)
	if m.Deleted {
		m.Body = nil
	}
	return m, nil
}

// owns reports whether the thread is p's.
func (m meta) owns(p access.Principal) bool {
	return p.ID == m.Author && m.EndUser == (p.Kind == access.EndUser)
}

// wrote reports whether p wrote a message of m. Messages of before threads were
// shared do not say of which kind their author is: he is the thread's.
func (m meta) wrote(p access.Principal, msg api.Message) bool {
	endUser := msg.EndUser || m.EndUser && msg.Author == m.Author
	return p.ID == msg.Author && endUser == (p.Kind == access.EndUser)
}
