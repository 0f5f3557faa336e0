package tracing

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// RequestIDKey is under what a context holds the ID of the request that it serves.
type RequestIDKey struct{}

// WithRequestID returns ctx with the ID of the request that it serves.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, RequestIDKey{}, id)
}

// RequestID is the ID of the request that ctx serves, "" for none.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(RequestIDKey{}).(string)
	return id
}

// Logger is log, whose lines have the request ID and the trace ID of their context
// where it has them and the line does not name them itself.
func Logger(log *slog.Logger) *slog.Logger { return slog.New(handler{log.Handler()}) }

type handler struct{ slog.Handler }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	id := RequestID(ctx)
	if id != "" && !names(r, "request_id") {
		r.AddAttrs(slog.String("request_id", id))
	}
	if s := trace.SpanContextFromContext(ctx); s.IsValid() {
		r.AddAttrs(slog.String("trace_id", s.TraceID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func names(r slog.Record, key string) (found bool) {
	r.Attrs(func(a slog.Attr) bool { found = a.Key == key; return !found })
	return found
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs)}
}
func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }
