package kmsclient

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/tracing"
)

// origin is what of a caller's context goes on to the KMS with its call.
type origin struct {
	requestID string // "": none
	span      tracing.Span
}

func originOf(ctx context.Context) origin {
	return origin{tracing.RequestID(ctx), tracing.SpanOf(ctx)}
}

// began begins a batch of n items for the callers of origins: ctx names them from
// here on. The caller ends it with its outcome.
func (c *Client) began(ctx context.Context, path string, n int, origins []origin) (of context.Context, end func(error)) {
	method, start := strings.TrimPrefix(path, "/"), time.Now()
	if ids := requestIDs(origins); ids != "" {
		ctx = tracing.WithRequestID(ctx, ids)
	}
	spans := make([]tracing.Span, len(origins))
	for i, o := range origins {
		spans[i] = o.span
	}
	ctx, span := tracing.Batch(ctx, spans, "kms batch", tracing.Method(method), tracing.Items(n), tracing.Callers(len(origins)))
	return ctx, func(err error) {
		span.End(err)
		if c.observe != nil {
			c.observe(Batch{method, n, len(origins), time.Since(start), err})
		}
	}
}

// requestIDs are the IDs of the requests that a batch is for, the first ones, with
// commas.
func requestIDs(origins []origin) string {
	ids := make([]string, 0, kmsapi.MaxRequestIDs)
	for _, o := range origins {
		if o.requestID != "" && len(ids) < cap(ids) {
			ids = append(ids, o.requestID)
		}
	}
	return strings.Join(ids, ",")
}

// putOrigin names the request that a call is for, or the requests of a batch, and
// the span.
func putOrigin(ctx context.Context, h http.Header) {
	if ids := tracing.RequestID(ctx); ids != "" {
		first, _, more := strings.Cut(ids, ",")
		h["X-Request-Id"] = []string{first}
		if more {
			h[kmsapi.HeaderRequestIDs] = []string{ids}
		}
	}
	tracing.Inject(ctx, h)
}
