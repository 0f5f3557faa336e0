package tracing

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// MaxRequestIDs is how many requests a joined call names at most.
const MaxRequestIDs = 16

// Origin is what of a caller's context goes on where its call is joined with those
// of others.
type Origin struct {
	requestID string // "": none; of a call that is joined itself, its IDs with commas
	span      Span
}

// OriginOf is the Origin of ctx.
func OriginOf(ctx context.Context) Origin { return Origin{RequestID(ctx), SpanOf(ctx)} }

// Joined returns ctx, which is of no request, for work that is done for all of from:
// it has their request IDs, the first MaxRequestIDs with commas, and a span under the
// first of theirs, linked to the others. Without any, no span.
func Joined(ctx context.Context, from []Origin, name string, attrs ...Attr) (context.Context, Span) {
	return joined(ctx, trace.SpanKindInternal, from, name, attrs)
}

// JoinedCall is Joined for a call of another process.
func JoinedCall(ctx context.Context, from []Origin, name string, attrs ...Attr) (context.Context, Span) {
	return joined(ctx, trace.SpanKindClient, from, name, attrs)
}

func joined(ctx context.Context, kind trace.SpanKind, from []Origin, name string, attrs []Attr) (context.Context, Span) {
	if ids := requestIDs(from); ids != "" {
		ctx = WithRequestID(ctx, ids)
	}
	var first trace.Span
	var links []trace.Link
	for _, o := range from {
		switch {
		case o.span.span == nil:
		case first == nil:
			first = o.span.span
		default:
			links = append(links, trace.Link{SpanContext: o.span.span.SpanContext()})
		}
	}
	if first == nil {
		return ctx, Span{}
	}
	ctx, s := tracerOf(first).Start(trace.ContextWithSpan(ctx, first), name, trace.WithSpanKind(kind), trace.WithLinks(links...), trace.WithAttributes(keyValues(attrs)...))
	return ctx, Span{s}
}

func requestIDs(from []Origin) string {
	if len(from) == 1 { // the usual one, which costs nothing
		return from[0].requestID
	}
	ids := make([]string, 0, MaxRequestIDs)
	for _, o := range from {
		if o.requestID != "" {
			ids = append(ids, strings.Split(o.requestID, ",")...)
		}
		if len(ids) >= MaxRequestIDs {
			ids = ids[:MaxRequestIDs]
			break
		}
	}
	return strings.Join(ids, ",")
}
