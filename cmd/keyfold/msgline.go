package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyfold/keyfold/api"
)

// A message file is JSON Lines in UTF-8: one object per line,
//
//	{"body": any JSON value but null, "role": "user", "ts": 1790000000000000000, "reply_to": "ID", "id": "ID"}
//
// body is needed, the rest is not. ts is nanoseconds since 1970. id is what
// other lines call this message in reply_to; the server gives it a new one.
// "thread" and "author", which an export may carry, are ignored; any other
// member is an error. Blank lines are skipped.
//
// A plain file is text in UTF-8: each line, without its line break, is the body
// of one message, blank lines included.

// maxLine bounds a line, in bytes: a body of 4 MiB and room for the rest.
const maxLine = 5 << 20

// msgLine is one line of a message file.
type msgLine struct {
	no  int // of the line, from 1
	seq int // of the message, from 0
	id  string
	api.PostMessage
}

// msgObject is a line as it is written.
type msgObject struct {
	ID      string          `json:"id,omitempty"`
	Thread  string          `json:"thread,omitempty"`
	Author  string          `json:"author,omitempty"`
	Role    string          `json:"role,omitempty"`
	TS      int64           `json:"ts,omitempty"`
	ReplyTo string          `json:"reply_to,omitempty"`
	Body    json.RawMessage `json:"body"`
}

// readLines calls use for each message of r, in order, until it returns an
// error. Errors name the line and quote nothing of it.
func readLines(r io.Reader, plain bool, use func(msgLine) error) error {
	br := bufio.NewReaderSize(r, 64<<10)
	seq := 0
	for no := 1; ; no++ {
		raw, err := readLine(br)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", no, err)
		}
		if !plain && len(bytes.TrimSpace(raw)) == 0 {
			continue
		}
		line, err := parseLine(raw, plain)
		if err != nil {
			return fmt.Errorf("line %d: %w", no, err)
		}
		line.no, line.seq = no, seq
		seq++
		if err := use(line); err != nil {
			return err
		}
	}
}

// readLine returns the next line without its LF. The last line may lack one.
func readLine(br *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := br.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return nil, fmt.Errorf("it is over %d bytes", maxLine)
		case err == nil:
			return line[:len(line)-1], nil
		case err == io.EOF && len(line) > 0:
			return line, nil
		case err != bufio.ErrBufferFull:
			return nil, err
		}
	}
}

func parseLine(raw []byte, plain bool) (msgLine, error) {
	if !utf8.Valid(raw) {
		return msgLine{}, errors.New("it is not UTF-8")
	}
	if plain {
		body, err := textBody(raw)
		return msgLine{PostMessage: api.PostMessage{Body: body}}, err
	}
	// A body may hold what a strict reader refuses and the server keeps.
	loose := jsonv2.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	var o msgObject
	if err := jsonv2.Unmarshal(raw, &o, loose, jsonv2.RejectUnknownMembers(true)); err != nil {
		return msgLine{}, errors.New(`want {"body": ...} with role, ts, reply_to and id at most; --plain takes lines of text`)
	}
	switch {
	case len(o.Body) == 0 || string(o.Body) == "null":
		return msgLine{}, errors.New("body is missing or null")
	case o.TS < 0:
		return msgLine{}, errors.New("ts must be nanoseconds since 1970, 1 or more")
	}
	return msgLine{id: o.ID, PostMessage: api.PostMessage{Body: o.Body, Role: o.Role, TS: o.TS, ReplyTo: o.ReplyTo}}, nil
}

// textBody is text as a JSON string.
func textBody(text []byte) (json.RawMessage, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("the text is not UTF-8")
	}
	return compactJSON(string(text))
}

// compactJSON is v on one line, with <, > and & as they are.
func compactJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}
