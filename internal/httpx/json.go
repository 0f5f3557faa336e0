package httpx

import (
	"bytes"
	"context"
	stdjson "encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyfold/keyfold/internal/fault"
)

// Body makes a handler that decodes the JSON body into an In, calls once, and
// answers status with what call returns. Members that In does not have are
// passed over; what the row's options and In's types do not admit is Invalid.
func Body[In, Out any](status int, call func(ctx context.Context, c *Call, in In) (Out, error)) Handler {
	return func(ctx context.Context, c *Call) error {
		var in In
		c.success = status
		if err := c.decode(&in); err != nil {
			return err
		}
		out, err := call(ctx, c, in)
		if err != nil {
			return err
		}
		return c.answer(status, out)
	}
}

// NoBody is Body for a call that takes none.
func NoBody[Out any](status int, call func(ctx context.Context, c *Call) (Out, error)) Handler {
	return func(ctx context.Context, c *Call) error {
		c.success = status
		out, err := call(ctx, c)
		if err != nil {
			return err
		}
		return c.answer(status, out)
	}
}

// Perhaps is Body for a call that may have nothing to answer: nil is 204.
func Perhaps[In, Out any](status int, call func(ctx context.Context, c *Call, in In) (*Out, error)) Handler {
	return func(ctx context.Context, c *Call) error {
		var in In
		if err := c.decode(&in); err != nil {
			return err
		}
		switch out, err := call(ctx, c, in); {
		case err != nil:
			return err
		case out == nil:
			return c.noContent()
		default:
			return c.answer(status, out)
		}
	}
}

// Empty makes a handler that takes no body and answers 204.
func Empty(call func(ctx context.Context, c *Call) error) Handler {
	return func(ctx context.Context, c *Call) error {
		c.success = http.StatusNoContent
		if err := call(ctx, c); err != nil {
			return err
		}
		return c.noContent()
	}
}

// Done is Body for a call that answers 204.
func Done[In any](call func(ctx context.Context, c *Call, in In) error) Handler {
	return func(ctx context.Context, c *Call) error {
		var in In
		c.success = http.StatusNoContent
		if err := c.decode(&in); err != nil {
			return err
		}
		if err := call(ctx, c, in); err != nil {
			return err
		}
		return c.noContent()
	}
}

func (c *Call) noContent() error {
	if c.held != nil {
		c.held.Status = http.StatusNoContent
		return nil
	}
	c.status = http.StatusNoContent
	c.w.WriteHeader(c.status)
	return nil
}

// freeForm lets a json.RawMessage hold what the strict rules refuse of the
// members around it: one name twice, and half of a surrogate pair in its
// escaped form, as a text that was cut in the middle of an emoji has it.
var freeForm = json.WithUnmarshalers(json.UnmarshalFromFunc(func(d *jsontext.Decoder, v *stdjson.RawMessage) error {
	err := json.UnmarshalDecode(d, (*jsontext.Value)(v), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if err == nil && !utf8.Valid(*v) {
		return errNotUTF8
	}
	return err
}))

var errNoObject = fault.New(fault.Invalid, "send a JSON object as the body")

var errNotUTF8 = errors.New("not UTF-8")

// decode reads the body into in, a pointer.
func (c *Call) decode(in any) error {
	if c.body == nil || c.body.Len() == 0 {
		if c.row.OptionalBody {
			return nil
		}
		return errNoObject
	}
	if c.row.Strict && bytes.Equal(bytes.TrimSpace(c.body.Bytes()), []byte("null")) {
		return errNoObject
	}
	if err := json.Unmarshal(c.body.Bytes(), in, c.row.jsonOptions()...); err != nil {
		return jsonFault(err)
	}
	return nil
}

// Shared by all calls; never written to.
var (
	plainOptions  []json.Options
	freeOptions   = []json.Options{freeForm}
	strictOptions = []json.Options{json.RejectUnknownMembers(true)}
)

func (row *Row) jsonOptions() []json.Options {
	switch {
	case row.FreeForm:
		return freeOptions
	case row.Strict:
		return strictOptions
	}
	return plainOptions
}

// jsonFault tells where a body is wrong, by member and offset, and never what
// it holds there.
func jsonFault(err error) error {
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		switch {
		case errors.Is(e.Err, io.ErrUnexpectedEOF):
			return fault.New(fault.Invalid, "the JSON of the body ends too early%s; send all of it", member(e.JSONPointer))
		case errors.Is(e.Err, jsontext.ErrDuplicateName):
			return fault.New(fault.Invalid, "the body names a member twice%s; name it once", member(e.JSONPointer))
		case e.Err != nil && e.Err.Error() == "exceeded max depth": // which package jsontext does not name
			return fault.New(fault.Invalid, "the JSON of the body is nested too deep%s; flatten it, or send it as a string", member(e.JSONPointer))
		}
		return fault.New(fault.Invalid, "the body is not valid JSON in UTF-8 at byte %d%s; mend it there", e.ByteOffset, member(e.JSONPointer))
	}
	if e, ok := errors.AsType[*json.SemanticError](err); ok {
		if errors.Is(e.Err, errNotUTF8) {
			return fault.New(fault.Invalid, "the body is not UTF-8%s; send it as UTF-8", member(e.JSONPointer))
		}
		if errors.Is(e.Err, json.ErrUnknownName) {
			return fault.New(fault.Invalid, "the body has a member that this call does not know%s; see the API's description of it", member(e.JSONPointer))
		}
		return fault.New(fault.Invalid, "the body has a value of the wrong kind at byte %d%s; see the API's description of it", e.ByteOffset, member(e.JSONPointer))
	}
	return fault.New(fault.Invalid, "the body is not the JSON that this call takes")
}

// member names the top-level member of p. A name that is not like one of ours may
// be data that slipped; it stays unsaid.
func member(p jsontext.Pointer) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(string(p), "/"), "/")
	if name == "" || len(name) > 32 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return ""
	}
	return ` (member "` + name + `")`
}

// answer sends out as JSON. A json.RawMessage goes out as it is.
func (c *Call) answer(status int, out any) error {
	if raw, ok := out.(stdjson.RawMessage); ok {
		c.Send(status, JSON, raw)
		return nil
	}
	b := getBuffer()
	defer putBuffer(b)
	if err := json.MarshalWrite(b, out); err != nil {
		return fault.Wrap(fault.Internal, err, "the answer could not be written as JSON; the log has the request ID")
	}
	c.Send(status, JSON, b.Bytes())
	return nil
}
