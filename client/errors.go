package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/keyfold/keyfold/api"
)

// Error is an answer of the server that is not a success. Use errors.As, or
// the helpers below.
type Error struct {
	Status     int           // HTTP status
	Type       string        // problem type: "about:blank" or one of api's
	Detail     string        // what went wrong and what to do, as the server says it
	RequestID  string        // finds the request in the server's log
	RetryAfter time.Duration // how long the server asks to wait; 0 when it does not say
}

// Error tells the detail, the status and the request ID.
func (e *Error) Error() string {
	s := fmt.Sprintf("%s (HTTP %d", e.Detail, e.Status)
	if e.RequestID != "" {
		s += ", request " + e.RequestID
	}
	return s + ")"
}

// IsNotFound reports that there is no such thing, or that the caller may not know of it.
func IsNotFound(err error) bool { return statusOf(err) == http.StatusNotFound }

// IsGone reports a secret that was deleted, disabled, has expired or was read as often as it may be.
func IsGone(err error) bool { return statusOf(err) == http.StatusGone }

// IsUnauthenticated reports a missing or dead API key.
func IsUnauthenticated(err error) bool { return statusOf(err) == http.StatusUnauthorized }

// IsForbidden reports a caller that is known and may not do this.
func IsForbidden(err error) bool { return statusOf(err) == http.StatusForbidden }

// IsConflict reports a state that does not admit the call, and a failed PutOptions.IfMatch.
func IsConflict(err error) bool {
	s := statusOf(err)
	return s == http.StatusConflict || s == http.StatusPreconditionFailed
}

// IsUnavailable reports a server that cannot answer now.
func IsUnavailable(err error) bool { return statusOf(err) == http.StatusServiceUnavailable }

func statusOf(err error) int {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status
	}
	return 0
}

func hasType(err error, problemType string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Type == problemType
}

// maxDetail bounds what of an error body is kept, in bytes.
const maxDetail = 2000

// problem makes an Error of an answer. A body that is no problem, from a proxy
// perhaps, is not quoted: only its status is told.
func problem(r *response) *Error {
	e := &Error{Status: r.status, RequestID: printable(r.header.Get(api.HeaderRequestID)), RetryAfter: retryAfter(r.header)}
	var p api.Problem
	if json.Unmarshal(r.body, &p) == nil {
		e.Type, e.Detail = p.Type, printable(p.Detail)
		if e.RequestID == "" {
			e.RequestID = printable(p.RequestID)
		}
	}
	if e.Detail == "" {
		e.Detail = "the server answered " + strings.ToLower(http.StatusText(r.status)) + " and said no more"
	}
	return e
}

// printable cuts s to a sensible length and drops what could steer a terminal.
func printable(s string) string {
	if len(s) > maxDetail {
		s = s[:maxDetail]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// retryAfter reads Retry-After in whole seconds; dates are not understood.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 || n > 24*3600 {
		return 0
	}
	return time.Duration(n) * time.Second
}
