package kmsapi

import (
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyfold/keyfold/internal/fault"
)

// ParseRequestJSON reads a request in JSON: one object (single), or an array of
// them. Its bytes are copies. It fails with fault.Invalid, or with
// fault.TooLarge for more than MaxBatch items. A member that it does not know
// fails the request: a misspelt "aad" must not be passed over.
func (c Call[In, Out]) ParseRequestJSON(body []byte) (items []In, single bool, err error) {
	if single = bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")); single {
		items = make([]In, 1)
		err = json.Unmarshal(body, &items[0], json.RejectUnknownMembers(true)) // whose decoders are pooled
	} else {
		items, err = parseArray[In](body)
	}
	if err != nil {
		return nil, false, jsonFault(err)
	}
	for i := range items {
		if name := c.in.missing(&items[i]); name != "" {
			return nil, false, fault.New(fault.Invalid, "item %d has no %s; send it", i, name)
		}
	}
	return items, single, nil
}

// parseArray reads an array one element at a time: a count is refused before
// there is room for it.
func parseArray[T any](body []byte) ([]T, error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(body), json.RejectUnknownMembers(true))
	switch first, err := d.ReadToken(); {
	case err != nil:
		return nil, err
	case first.Kind() != '[':
		return nil, fault.New(fault.Invalid, "send a JSON object, or an array of them")
	}
	xs := []T{}
	for d.PeekKind() != ']' {
		if len(xs) == MaxBatch {
			return nil, tooMany()
		}
		var x T
		if err := json.UnmarshalDecode(d, &x); err != nil {
			return nil, err
		}
		xs = append(xs, x)
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	return xs, atEnd(d)
}

var errTrailing = errors.New("something follows the JSON value")

func atEnd(d *jsontext.Decoder) error {
	switch _, err := d.ReadToken(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return errTrailing
}

// missing returns the name of a member that x must have and has not.
func (m message[T]) missing(x *T) string {
	for i := range m {
		p := m[i].at(x)
		if b, ok := p.(*[]byte); m[i].must && isZero(p) && !(ok && *b != nil) { // bytes may be empty, but not left out
			return m[i].name
		}
	}
	return ""
}

// jsonFault tells where a body is wrong, and never what it holds there.
func jsonFault(err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fault.New(fault.Invalid, "the JSON of the body ends too early; send all of it")
	}
	if errors.Is(err, errTrailing) {
		return fault.New(fault.Invalid, "something follows the JSON of the body; send one value")
	}
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		if errors.Is(e.Err, json.ErrUnknownName) {
			return fault.New(fault.Invalid, "the body has a member that this call does not know, at byte %d; PROTOCOL.md lists them", e.ByteOffset)
		}
		return fault.New(fault.Invalid, "the body has a value of the wrong kind at byte %d; binary is standard base64, numbers are numbers", e.ByteOffset)
	}
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		if errors.Is(e.Err, jsontext.ErrDuplicateName) {
			return fault.New(fault.Invalid, "the body names a member twice, at byte %d; name it once", e.ByteOffset)
		}
		return fault.New(fault.Invalid, "the body is not valid JSON in UTF-8 at byte %d; mend it there", e.ByteOffset)
	}
	return fault.New(fault.Invalid, "the body is not the JSON that this call takes; see PROTOCOL.md")
}

// failedItem is a failed result in an array.
type failedItem struct {
	Index     int `json:"index"`
	wireError `json:",embed"`
}

// AppendAnswerJSON appends results as JSON: single as one object, otherwise an
// array in which a failed item is {"index", "error", "code", "type"}. A single
// result that failed is not for it: the call then fails, with AppendError.
func (c Call[In, Out]) AppendAnswerJSON(dst []byte, results []Out, single bool) ([]byte, error) {
	buf := bytes.NewBuffer(dst)
	if single {
		if err := json.MarshalWrite(buf, &results[0]); err != nil {
			return dst, err
		}
		return buf.Bytes(), nil
	}
	e := jsontext.NewEncoder(buf)
	if err := e.WriteToken(jsontext.BeginArray); err != nil {
		return dst, err
	}
	for i := range results {
		var err error
		if failed := c.out.err(&results[i]); failed != nil {
			err = json.MarshalEncode(e, failedItem{i, toWire(failed)})
		} else {
			err = json.MarshalEncode(e, &results[i])
		}
		if err != nil {
			return dst, err
		}
	}
	if err := e.WriteToken(jsontext.EndArray); err != nil {
		return dst, err
	}
	return buf.Bytes(), nil
}
