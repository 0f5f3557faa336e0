package httpx

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/tracing"
)

// Call is one request as a handler sees it. It belongs to one goroutine.
type Call struct {
	Principal access.Principal // zero on a public row that is not Optional
	Addr      netip.Addr       // where the call came from; zero: a socket without an address

	mux       *Mux
	w         http.ResponseWriter
	r         *http.Request
	row       *Row            // nil until routed
	ctx       context.Context // the request's, or what the row's Ahead made of it; nil until routed
	names     []string
	values    [maxParams]string
	body      *bytes.Buffer // nil when the row takes no body or none came
	budget    *budget       // the caller's own, of which body took taken; nil: everybody's
	taken     int64
	room      *bytes.Buffer // nil until Room
	sent      []byte        // what Send sent
	unread    bool          // a body was announced and not read to its end
	plain     bool          // problems go out as application/json
	requestID [1]string     // an array, so that it can be a header's value as it is
	start     time.Time
	held      *Held // nil: answers go out
	success   int   // status of a success, once the handler has said it
	status    int   // as answered; 0 before
	cut       bool  // the answer has begun and must not look whole
	err       error // what was answered with a problem
	span      tracing.Span
	noted     []slog.Attr // for the log's line
}

// Param returns the decoded part of the path that the row's pattern names.
func (c *Call) Param(name string) string {
	for i, n := range c.names {
		if n == name {
			return c.values[i]
		}
	}
	panic("httpx: " + c.row.Pattern + " has no {" + name + "}")
}

// Query returns the query parameters; malformed ones are Invalid.
func (c *Call) Query() (url.Values, error) {
	if c.r.URL.RawQuery == "" {
		return nil, nil
	}
	q, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		return nil, fault.New(fault.Invalid, "the query of the URL is malformed; percent-encode its values")
	}
	return q, nil
}

// Header returns the request's header of that name, "" when absent.
func (c *Call) Header(name string) string { return c.r.Header.Get(name) }

// Guard returns the request's header of that name, "" when absent. Sent empty
// or more than once it is Invalid: a condition that cannot be read must not be
// taken for none.
func (c *Call) Guard(name string) (string, error) {
	values := c.r.Header.Values(name)
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1 || strings.TrimSpace(values[0]) == "":
		return "", fault.New(fault.Invalid, "send the header %s once and with a value, or not at all", name)
	}
	return values[0], nil
}

// Request is the request itself. Its body belongs to the pipeline: see Bytes.
func (c *Call) Request() *http.Request { return c.r }

// RequestID finds the call in the log.
func (c *Call) RequestID() string { return c.requestID[0] }

// Bearer returns the credential that the caller sent, "" when there is none.
func (c *Call) Bearer() string { return bearer(c.r) }

// Note adds attrs to the call's line in the log.
func (c *Call) Note(attrs ...slog.Attr) { c.noted = append(c.noted, attrs...) }

// Who is the row's.
func (c *Call) Who() Who { return c.row.Who }

// Route is the row's method and pattern.
func (c *Call) Route() string { return c.row.Method + " " + c.row.Pattern }

// SetHeader sets a header of the answer. name is in its canonical form.
func (c *Call) SetHeader(name, value string) { c.w.Header()[name] = []string{value} }

// Shared by all answers; never written to.
var (
	noStore     = []string{"no-store"}
	noSniff     = []string{"nosniff"}
	problemType = ContentType{"application/problem+json"}
)

// commonHeaders go out with every answer, problems included.
func (c *Call) commonHeaders() {
	h := c.w.Header()
	h["Cache-Control"] = noStore
	h["X-Content-Type-Options"] = noSniff
	h["X-Request-Id"] = c.requestID[:]
}

// bearerCaller makes the Caller of those who send a bearer credential.
func bearerCaller(authenticate Authenticator) func(*Call) (access.Principal, error) {
	return func(c *Call) (access.Principal, error) {
		if authenticate == nil {
			return access.Principal{}, fault.New(fault.Unauthenticated, "this server knows no callers")
		}
		bearer := bearer(c.r)
		if bearer == "" {
			return access.Principal{}, fault.New(fault.Unauthenticated, "send an API key: Authorization: Bearer 1ck_...")
		}
		p, err := authenticate(c.ctx, bearer)
		p.Addr, p.RequestID = c.Addr, c.requestID[0]
		return p, err
	}
}

// ownCaller is the principal of a credential that is for the row of c alone.
func (c *Call) ownCaller() (p access.Principal, ok bool) {
	if c.row.Own == nil {
		return p, false
	}
	p, ok = c.row.Own(c.Bearer())
	p.Addr, p.RequestID = c.Addr, c.requestID[0]
	return p, ok
}

// bearer returns the credential of r, "" when it has none.
func bearer(r *http.Request) string {
	auth := r.Header.Get("Authorization")
	if auth == "" {
		return r.Header.Get("X-Api-Key")
	}
	scheme, credential, _ := strings.Cut(auth, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(credential)
}

// named gives the errors of a context their meaning here: the client went
// away, or the row's time was up.
func (c *Call) named(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled) && c.r.Context().Err() != nil:
		return fault.Wrap(fault.Timeout, err, "the request was cancelled before it was done")
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		return fault.Wrap(fault.Unavailable, err, "this took longer than %v; look whether it took effect, then try again", c.row.timeout())
	}
	return err
}
