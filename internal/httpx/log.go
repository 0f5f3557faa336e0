package httpx

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
)

// IsRequestID reports whether id can be the ID of a request: it is 1 to 64 letters,
// digits, '.', '_' or '-'.
func IsRequestID(id string) bool {
	return id != "" && len(id) <= 64 && strings.IndexFunc(id, isNotIDChar) < 0
}

// requestID is the client's X-Request-Id when it can be one, and a fresh one
// otherwise. It finds a log line, and guards nothing.
func requestID(r *http.Request) string {
	id := r.Header.Get(api.HeaderRequestID)
	if IsRequestID(id) {
		return id
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], rand.Uint64())
	binary.BigEndian.PutUint64(b[8:], rand.Uint64())
	return hex.EncodeToString(b[:])
}

func isNotIDChar(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
}

// logCall tells the observer and writes the one line of c: error for our own failures, debug for all else.
func (m *Mux) logCall(c *Call) {
	if m.observe != nil {
		m.observe(c.row, c.status, time.Since(c.start))
	}
	if m.tracer != nil {
		c.endSpan()
	}
	ctx, level := c.r.Context(), slog.LevelDebug
	if c.status >= http.StatusInternalServerError || errors.Is(c.err, fault.Internal) { // a panic may come after the answer
		level = slog.LevelError
	}
	if !m.log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs,
		slog.String("request_id", c.requestID[0]),
		slog.Int("status", c.status),
		slog.Duration("duration", time.Since(c.start)))
	if c.row != nil { // the method and path of no row are the client's own text
		attrs = append(attrs, slog.String("method", c.row.Method), slog.String("route", c.row.Pattern))
	}
	if c.Principal.ID != "" {
		attrs = append(attrs, slog.String("principal", c.Principal.Ref()))
	}
	attrs = append(attrs, c.noted...)
	if c.err != nil {
		attrs = append(attrs, failure(c.err, level == slog.LevelError)...)
	}
	m.log.LogAttrs(ctx, level, "request", attrs...)
}

// endSpan ends the span of c, under the name of its row.
func (c *Call) endSpan() {
	method, route := "", ""
	if c.row != nil {
		method, route = c.row.Method, c.row.Pattern
	}
	c.span.EndRequest(method, route, c.status, c.err)
}

// failure describes err: the message that went out and, of our own failures,
// the cause that did not.
func failure(err error, ours bool) []slog.Attr {
	f := fault.Of(err)
	attrs := []slog.Attr{slog.String("error", f.Message)}
	if cause := errors.Unwrap(f); ours && cause != nil {
		attrs = append(attrs, slog.String("cause", cause.Error()))
	}
	return attrs
}

// panicked makes a fault of a recovered panic. Its cause has the kind of panic
// and the functions that led to it, but neither the panic's value nor the
// arguments: either may hold a secret.
func panicked(v any) error {
	what := fmt.Sprintf("%T", v)
	if e, ok := v.(runtime.Error); ok {
		what = e.Error()
	}
	return fault.Wrap(fault.Internal, errors.New("panic: "+what+stack()), "something went wrong on our side; the log has the request ID")
}

// stack lists the callers of the panic, " < function:line" each.
func stack() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs)])
	var b strings.Builder
	for {
		f, more := frames.Next()
		fmt.Fprintf(&b, " < %s:%d", f.Function, f.Line)
		if !more {
			return b.String()
		}
	}
}
