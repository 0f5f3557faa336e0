package generationc

import (
	stdjson "encoding/json"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
)

// The words of generation C. Times are nanoseconds since 1970.

// keyOf is the answer to every write.
type keyOf struct {
	Key string `json:"key"`
}

// titled is the body of what makes or renames a thread.
type titled struct {
	Title *string `json:"title"`
}

// posted is the body of what makes or edits a message. The body of a message is
// any JSON value but null.
type posted struct {
	Body stdjson.RawMessage `json:"body"`
}

// oneThread is the answer to who reads a thread.
type oneThread struct {
	Thread threadText `json:"thread"`
}

type threadText struct {
	Key       string `json:"key"`
	Title     string `json:"title"`
	Author    string `json:"author"`
	CreatedTS int64  `json:"created_ts"`
	UpdatedTS int64  `json:"updated_ts"`
	Deleted   bool   `json:"deleted,omitzero"`
}

func threadOf(t api.Thread) threadText {
	return threadText{Key: t.ID, Title: t.Title, Author: t.Author, CreatedTS: t.CreatedTS, UpdatedTS: t.UpdatedTS, Deleted: t.Deleted}
}

// threadList is a page of threads, newest first.
type threadList struct {
	Threads    []threadText `json:"threads"`
	Pagination pagination   `json:"pagination"`
}

// pagination says where a page is in its list, in the order of the page.
type pagination struct {
	BeforeAnchor string `json:"before_anchor"` // first key of the page, "" of an empty one
	AfterAnchor  string `json:"after_anchor"`  // last key of the page
	HasBefore    bool   `json:"has_before"`    // there are others before the first
	HasAfter     bool   `json:"has_after"`     // and after the last
	Count        int    `json:"count"`         // of the page
	Total        int    `json:"total"`         // of the list
}

// stored is what is read of an api.Message.
type stored struct {
	ID        string             `json:"id"`
	Thread    string             `json:"thread"`
	Author    string             `json:"author"`
	TS        int64              `json:"ts"`
	UpdatedTS int64              `json:"updated_ts"`
	Deleted   bool               `json:"deleted"`
	Body      stdjson.RawMessage `json:"body"`
}

// loose lets pass what a body may hold: names that come twice, and half of a
// surrogate pair in its escaped form.
var loose = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// read reads the api.Message of text, the body to the byte.
func read(text []byte) (m stored, err error) {
	if err = json.Unmarshal(text, &m, loose); err != nil {
		err = fault.Wrap(fault.Internal, err, "the message cannot be told in generation C")
	}
	return m, err
}

// appendMessage appends m as generation C has it:
//
//	{"key":"...","thread":"...","author":"...","created_ts":1,"updated_ts":2,"body":...,"deleted":true}
func appendMessage(out []byte, m stored) []byte {
	if m.UpdatedTS == 0 { // of a message that was never edited
		m.UpdatedTS = m.TS
	}
	out = appendText(append(out, `{"key":`...), m.ID)
	out = appendText(append(out, `,"thread":`...), m.Thread)
	out = appendText(append(out, `,"author":`...), m.Author)
	out = strconv.AppendInt(append(out, `,"created_ts":`...), m.TS, 10)
	out = strconv.AppendInt(append(out, `,"updated_ts":`...), m.UpdatedTS, 10)
	if len(m.Body) > 0 {
		out = append(append(out, `,"body":`...), m.Body...)
	}
	if m.Deleted {
		out = append(out, `,"deleted":true`...)
	}
	return append(out, '}')
}

// appendText appends s, which came out of JSON, as a JSON string.
func appendText(out []byte, s string) []byte {
	out, _ = jsontext.AppendQuote(out, s)
	return out
}
