package httpx

import (
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
)

// errMethod is the one fault of this edge that has no code: 405.
var errMethod = fault.New("method_not_allowed", "this path has other methods; see the Allow header")

// statuses is the translation of every fault.
var statuses = map[fault.Code]int{
	fault.Invalid:            http.StatusBadRequest,
	fault.Unauthenticated:    http.StatusUnauthorized,
	fault.Forbidden:          http.StatusForbidden,
	fault.NotFound:           http.StatusNotFound,
	errMethod.Code:           http.StatusMethodNotAllowed,
	fault.Timeout:            http.StatusRequestTimeout,
	fault.Conflict:           http.StatusConflict,
	fault.Gone:               http.StatusGone,
	fault.PreconditionFailed: http.StatusPreconditionFailed,
	fault.TooLarge:           http.StatusRequestEntityTooLarge,
	fault.Unopenable:         http.StatusUnprocessableEntity,
	fault.Damaged:            http.StatusInternalServerError,
	fault.Internal:           http.StatusInternalServerError,
	fault.Unavailable:        http.StatusServiceUnavailable,
}

// problem describes f as a body.
func problem(f *fault.Error, requestID string) api.Problem {
	status, ok := statuses[f.Code]
	if !ok {
		status = http.StatusInternalServerError
	}
	p := api.Problem{Type: f.Type, Title: http.StatusText(status), Status: status, Detail: f.Message, RequestID: requestID}
	if p.Type == "" {
		p.Type = "about:blank"
	}
	if p.Detail == "" {
		p.Detail = p.Title
	}
	p.Error = p.Detail
	return p
}

// fail answers err as a problem, unless an answer is already on its way.
func (c *Call) fail(err error) {
	c.err = err
	if c.status != 0 {
		return
	}
	p := problem(fault.Of(err), c.requestID[0])
	switch p.Status {
	case http.StatusUnauthorized:
		c.SetHeader("Www-Authenticate", "Bearer")
	case http.StatusServiceUnavailable:
		c.SetHeader("Retry-After", "1")
	}
	if c.mux.problem != nil {
		c.Send(p.Status, JSON, c.mux.problem(nil, c.err))
		return
	}
	body, err := json.Marshal(p)
	if err != nil { // a message that is not UTF-8
		body = []byte(`{"type":"about:blank","title":"error","status":` + strconv.Itoa(p.Status) + `,"detail":"error","error":"error"}`)
	}
	c.Send(p.Status, problemType, body)
}
