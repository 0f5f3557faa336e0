package httpx

import (
	"net/http"
	"strconv"
	"time"

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
	fault.KeyReused:          http.StatusUnprocessableEntity,
	fault.TooMany:            http.StatusTooManyRequests,
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
	switch p.Type {
	case "":
		p.Type = "about:blank"
	case api.ProblemResourceLimitExceeded:
		p.Title = "Resource Limit Exceeded"
	}
	if p.Detail == "" {
		p.Detail = p.Title
	}
	p.Error = p.Detail
	return p
}

// problemPolicy is for a browser that shows a problem as if it were a page: nothing
// in it runs or is loaded, and no frame shows it.
var problemPolicy = []string{"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"}

// fail answers err as a problem, unless an answer is already on its way.
func (c *Call) fail(err error) {
	c.err, c.held = err, nil
	if c.status != 0 {
		return
	}
	c.w.Header()["Content-Security-Policy"] = problemPolicy
	f := fault.Of(err)
	p := problem(f, c.requestID[0])
	if f.Type != "" && c.row != nil && c.row.ErrorIsType {
		p.Error = f.Type
	}
	switch {
	case p.Status == http.StatusUnauthorized:
		c.SetHeader("Www-Authenticate", "Bearer")
	case f.RetryAfter > 0 || p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests:
		c.SetHeader("Retry-After", strconv.FormatInt(wholeSeconds(f.RetryAfter), 10))
	}
	if c.mux.problem != nil {
		c.Send(p.Status, JSON, c.mux.problem(nil, c.err))
		return
	}
	body, err := json.Marshal(p)
	if err != nil { // a message that is not UTF-8
		body = []byte(`{"type":"about:blank","title":"error","status":` + strconv.Itoa(p.Status) + `,"detail":"error","error":"error"}`)
	}
	contentType := problemType
	if c.plain {
		contentType = JSON
	}
	c.Send(p.Status, contentType, body)
}

// wholeSeconds rounds d up, to 1 at least: who comes back then is not early.
func wholeSeconds(d time.Duration) int64 {
	return max(1, int64((d+time.Second-1)/time.Second))
}
