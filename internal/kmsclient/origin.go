package kmsclient

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/tracing"
)

// began begins a batch of n items for the callers of from: ctx names them from here
// on. The caller ends it with its outcome.
func (c *Client) began(ctx context.Context, path string, n int, from []tracing.Origin) (of context.Context, end func(error)) {
	method, start := strings.TrimPrefix(path, "/"), time.Now()
	ctx, span := tracing.JoinedCall(ctx, from, "kms batch", tracing.Method(method), tracing.Items(n), tracing.Callers(len(from)))
	return ctx, func(err error) {
		span.End(err)
		if c.observe != nil {
			c.observe(Batch{method, n, len(from), time.Since(start), err})
		}
	}
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
