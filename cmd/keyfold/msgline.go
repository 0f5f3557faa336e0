package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode"
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
// member, or one that comes twice, is an error. reply_to is the id of an earlier
// line, or the ID of a message that the thread has. Blank lines are skipped.
//
// A plain file is text in UTF-8: each line, without its line break, is the body
// of one message, blank lines included.

// maxLine bounds a line, in bytes: a body of 4 MiB and room for the rest.
const maxLine = 5 << 20

// The server's limits.
const (
	maxRole = 64      // characters of a role
	maxBody = 4 << 20 // bytes of a body, without the spaces between its parts
)

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
		if len(body) > maxBody {
			err = errLongBody
		}
		return msgLine{PostMessage: api.PostMessage{Body: body}}, err
	}
	var o msgObject
	if err := jsonv2.Unmarshal(raw, &o, loose, jsonv2.RejectUnknownMembers(true)); err != nil {
		return msgLine{}, errors.New(`want {"body": ...} with role, ts, reply_to and id at most; --plain takes lines of text`)
	}
	switch {
	case len(o.Body) == 0 || string(o.Body) == "null":
		return msgLine{}, errors.New("body is missing or null")
	case namesTwice(raw):
		return msgLine{}, errors.New("it has a member twice")
	case isLong(o.Body):
		return msgLine{}, errLongBody
	case !isRole(o.Role):
		return msgLine{}, fmt.Errorf("role must be at most %d characters, without control characters", maxRole)
	case o.TS < 0:
		return msgLine{}, errors.New("ts must be nanoseconds since 1970, 1 or more")
	}
	return msgLine{id: o.ID, PostMessage: api.PostMessage{Body: o.Body, Role: o.Role, TS: o.TS, ReplyTo: o.ReplyTo}}, nil
}

// loose lets a body hold what a strict reader refuses and the server keeps.
var loose = jsonv2.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// namesTwice reports whether a JSON object has two members of one name. What
// its members hold is not looked into.
func namesTwice(object []byte) bool {
	dec := jsontext.NewDecoder(bytes.NewReader(object), loose)
	_, err := dec.ReadToken()
	for seen := map[string]bool{}; err == nil && dec.PeekKind() == '"'; err = dec.SkipValue() {
		name, _ := dec.ReadToken()
		if seen[name.String()] {
			return true
		}
		seen[name.String()] = true
	}
	return false
}

var errLongBody = fmt.Errorf("body is over %d bytes", maxBody)

// isLong reports whether body is over maxBody as it is sent.
func isLong(body json.RawMessage) bool {
	if len(body) <= maxBody {
		return false
	}
	compact, err := compactJSON(body)
	return err != nil || len(compact) > maxBody
}

// isRole reports whether the server takes role.
func isRole(role string) bool {
	return utf8.ValidString(role) && utf8.RuneCountInString(role) <= maxRole && !strings.ContainsFunc(role, unicode.IsControl)
}

var messageID = regexp.MustCompile(`^[0-9]{20}-[0-9]{6}$`)

// isMessageID reports whether id has the form of a message's ID: its time, 1
// or more, and its number.
func isMessageID(id string) bool {
	if !messageID.MatchString(id) {
		return false
	}
	ts, err := strconv.ParseInt(id[:20], 10, 64)
	return err == nil && ts > 0
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
