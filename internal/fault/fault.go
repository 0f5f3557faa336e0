// Package fault names every kind of failure once.
//
// A domain package returns a *fault.Error (or wraps one with %w); each edge,
// HTTP or command line, translates its Code once. The Message is written for
// the caller and is safe to send: it never holds a value, a key or a path of
// the server's disk. The cause is for the log alone and never crosses the wire.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Code is one kind of failure. It is an error itself, so that callers test
// with errors.Is(err, fault.NotFound).
type Code string

// The codes, each with the HTTP status that the server's edge gives it.
const (
	Invalid            Code = "invalid"             // 400: the request is wrong; the message says how to mend it
	Unauthenticated    Code = "unauthenticated"     // 401: no credential, or not a live one
	Forbidden          Code = "forbidden"           // 403: known caller, not allowed
	NotFound           Code = "not_found"           // 404: no such thing, or not the caller's to know
	Timeout            Code = "timeout"             // 408: the request took too long to arrive
	Conflict           Code = "conflict"            // 409: the state does not admit this now
	Gone               Code = "gone"                // 410: deleted, disabled, expired or read out
	PreconditionFailed Code = "precondition_failed" // 412: If-Match names a version that is no longer the newest
	TooLarge           Code = "too_large"           // 413: over a stated size limit
	Unopenable         Code = "does_not_open"       // 422: what the caller gave does not open under the key it names; one answer for every cause
	KeyReused          Code = "key_reused"          // 422: the idempotency key was used for another request
	TooMany            Code = "too_many"            // 429: too often, or too soon after failures; RetryAfter says when to come again
	Damaged            Code = "damaged"             // 500: what is stored does not open or does not parse
	Internal           Code = "internal"            // 500: our fault
	Unavailable        Code = "unavailable"         // 503: a part that we need is away; try again
)

// Error makes a Code usable as a target of errors.Is.
func (c Code) Error() string { return string(c) }

// Error is a failure with a code, a message safe for the caller, and a cause
// for the log.
type Error struct {
	Code    Code
	Type    string // problem type where a client tells cases apart by it ("cmek_key_mismatch"); empty otherwise
	Message string
	// RetryAfter is how long to wait before the same call may pass; 0: not known.
	RetryAfter time.Duration
	cause      error
}

// New returns an Error with a message that is safe to send.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap is New with a cause, which is logged and never sent.
func Wrap(code Code, cause error, format string, args ...any) *Error {
	e := New(code, format, args...)
	e.cause = cause
	return e
}

// WithType returns e with its problem type set.
func (e *Error) WithType(t string) *Error {
	c := *e
	c.Type = t
	return &c
}

// WithRetryAfter returns e with the time to wait set.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// Error returns the safe message only.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is e's Code.
func (e *Error) Is(target error) bool {
	c, ok := target.(Code)
	return ok && c == e.Code
}

// Of returns the first *Error in err's tree. An error that nobody named is
// Internal, with a message that tells nothing of it.
func Of(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return Wrap(Internal, err, "something went wrong on our side; the log has the request ID")
}
