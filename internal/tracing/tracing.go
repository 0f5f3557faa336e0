// Package tracing is OpenTelemetry as Keyfold uses it: spans of requests, calls of
// the store, calls of the key process and batches of jobs, across both processes.
//
// Off is the default, and costs a look into the context for each span: only the
// edges (a request, a batch of a job) have a Tracer and begin a trace; whoever is
// inside begins a span of the one that its context holds, or none. A nil *Tracer
// and the zero Span do nothing.
//
// What a span holds is a closed list: see allowed. A name is a constant or a
// route's pattern, an error its fault code. Nothing of a request's path, headers,
// bodies or callers but its request ID is in it, and the exporter drops what is
// not on the list, whoever put it there.
//
// Nothing is kept: a crash loses the spans of the last seconds.
package tracing

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/keyfold/keyfold/internal/fault"
)

// scope names whose spans these are.
const scope = "github.com/keyfold/keyfold"

// allowed are the attributes that leave the process. Their values are constants
// of the program, numbers, patterns of routes, fault codes, and request IDs, which
// are of a safe form (see httpx) and for finding things by.
var allowed = map[attribute.Key]bool{
	"http.request.method": true, "http.route": true, "http.response.status_code": true,
	"error.type": true, "db.operation.name": true, "rpc.method": true,
	"keyfold.request_id": true, "keyfold.items": true, "keyfold.callers": true, "keyfold.job.kind": true,
}

// Attr is one thing that a span says. There are no others than these functions make.
type Attr struct{ kv attribute.KeyValue }

// Operation is what is asked of the store: "get".
func Operation(name string) Attr { return Attr{attribute.String("db.operation.name", name)} }

// Method is what is asked of the key process: "encrypt".
func Method(name string) Attr { return Attr{attribute.String("rpc.method", name)} }

// Items is of how many things a call or a batch is.
func Items(n int) Attr { return Attr{attribute.Int("keyfold.items", n)} }

// Callers is whose calls a batch joins, as a number.
func Callers(n int) Attr { return Attr{attribute.Int("keyfold.callers", n)} }

// JobKind is the kind of a job: "kek.rotate".
func JobKind(name string) Attr { return Attr{attribute.String("keyfold.job.kind", name)} }

func keyValues(attrs []Attr) []attribute.KeyValue {
	out := make([]attribute.KeyValue, len(attrs))
	for i, a := range attrs {
		out[i] = a.kv
	}
	return out
}

// Tracer begins traces. nil: none are made.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	joins    bool // begins no trace for a request, but goes on with its caller's
}

func newTracer(p *sdk.TracerProvider) *Tracer { return &Tracer{provider: p, tracer: p.Tracer(scope)} }

// Joining is t for a process whose requests are parts of others': one that comes
// without a trace has none.
func (t *Tracer) Joining() *Tracer {
	if t == nil {
		return nil
	}
	joining := *t
	joining.joins = true
	return &joining
}

// Close sends the spans that are left, until ctx ends.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// Span is a span that has begun. The zero Span is none.
type Span struct{ span trace.Span }

// StartRequest begins the span of a request, under the caller's that the header
// traceparent names.
func (t *Tracer) StartRequest(r *http.Request, requestID string) (context.Context, Span) {
	if t == nil {
		return r.Context(), Span{}
	}
	ctx := r.Context()
	caller := trace.SpanContextFromContext(w3c.Extract(ctx, propagation.HeaderCarrier(r.Header)))
	switch {
	case caller.IsValid(): // its tracestate is text of a stranger, and goes nowhere
		ctx = trace.ContextWithRemoteSpanContext(ctx, caller.WithTraceState(trace.TraceState{}))
	case t.joins:
		return ctx, Span{}
	}
	ctx, s := t.tracer.Start(ctx, "request", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("keyfold.request_id", requestID)))
	return ctx, Span{s}
}

// EndRequest ends the span of a request: method and route are the row's, "" for none.
func (s Span) EndRequest(method, route string, status int, err error) {
	if s.span == nil {
		return
	}
	if route == "" {
		method, route = "none", "none"
	}
	s.span.SetName(method + " " + route)
	s.span.SetAttributes(attribute.String("http.request.method", method), attribute.String("http.route", route), attribute.Int("http.response.status_code", status))
	if status < http.StatusInternalServerError { // what a client does wrong is no failure of ours
		if err != nil {
			s.span.SetAttributes(code(err))
		}
		err = nil
	}
	s.End(err)
}

// Start begins a trace of its own, for what no request asked for.
func (t *Tracer) Start(ctx context.Context, name string, attrs ...Attr) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	ctx, s := t.tracer.Start(ctx, name, trace.WithNewRoot(), trace.WithAttributes(keyValues(attrs)...))
	return ctx, Span{s}
}

// Start begins a span under the one of ctx, which may be of another goroutine;
// without one, or when that one is not recorded, nothing.
func Start(ctx context.Context, name string, attrs ...Attr) (context.Context, Span) {
	return within(ctx, trace.SpanKindInternal, name, attrs)
}

// Call is Start for a call of another process.
func Call(ctx context.Context, name string, attrs ...Attr) (context.Context, Span) {
	return within(ctx, trace.SpanKindClient, name, attrs)
}

func within(ctx context.Context, kind trace.SpanKind, name string, attrs []Attr) (context.Context, Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, Span{}
	}
	ctx, s := tracerOf(parent).Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(keyValues(attrs)...))
	return ctx, Span{s}
}

func tracerOf(s trace.Span) trace.Tracer { return s.TracerProvider().Tracer(scope) }

// SpanOf is the span of ctx, if it is recorded.
func SpanOf(ctx context.Context) Span {
	if s := trace.SpanFromContext(ctx); s.IsRecording() {
		return Span{s}
	}
	return Span{}
}

// End ends s, with the code of err and nothing else of it.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.span.SetStatus(codes.Error, "")
		s.span.SetAttributes(code(err))
	}
	s.span.End()
}

func code(err error) attribute.KeyValue {
	return attribute.String("error.type", string(fault.Of(err).Code))
}

// w3c is the form of a span's name on the wire: https://www.w3.org/TR/trace-context/.
var w3c = propagation.TraceContext{}

// Inject puts the span of ctx into the header of a request to another process.
func Inject(ctx context.Context, h http.Header) { w3c.Inject(ctx, propagation.HeaderCarrier(h)) }
