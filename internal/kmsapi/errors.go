package kmsapi

import (
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/fault"
)

// codes are the words that a KMS may answer with.
var codes = []fault.Code{
	fault.Invalid, fault.Unauthenticated, fault.Forbidden, fault.NotFound, fault.Timeout, fault.Conflict, fault.Gone,
	fault.PreconditionFailed, fault.TooLarge, fault.TooMany, fault.Unopenable, fault.Damaged, fault.Internal, fault.Unavailable,
}

// known returns e, as Internal when its code is none of ours.
func known(e *fault.Error) *fault.Error {
	if !slices.Contains(codes, e.Code) {
		e.Code = fault.Internal
	}
	return e
}

// wireError is a failed call in both forms, and a failed item in JSON.
type wireError struct {
	Error string     `json:"error"`
	Code  fault.Code `json:"code"`
	Type  string     `json:"type,omitzero"`
}

func toWire(err error) wireError {
	f := fault.Of(err)
	return wireError{Error: f.Message, Code: f.Code, Type: f.Type}
}

// AppendError appends the body of a failed call, which is JSON in both forms.
func AppendError(dst []byte, err error) []byte {
	b, err := json.Marshal(toWire(err))
	if err != nil { // a message that is not UTF-8
		b = []byte(`{"error":"the call failed; the log of the KMS says why","code":"internal"}`)
	}
	return append(dst, b...)
}

// ParseError reads the body of a failed call. A body that has not that shape is
// fault.Internal.
func ParseError(body []byte) *fault.Error {
	var w wireError
	if err := json.Unmarshal(body, &w); err != nil || w.Code == "" {
		return fault.New(fault.Internal, "the KMS failed and did not say why; see its log")
	}
	return known(&fault.Error{Code: w.Code, Type: w.Type, Message: w.Error})
}
