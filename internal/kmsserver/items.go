package kmsserver

import (
	"context"
	"errors"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/tracing"
)

var protobuf = httpx.ContentType{kmsapi.ContentType}

// perItem is more than an answer has for an item beyond what its request had:
// names, numbers, a tag, an error.
const perItem = 512

// item makes the row of an item call, in JSON and as protobuf. wipe wipes
// results that are secret.
func item[In, Out any](s *Server, call kmsapi.Call[In, Out], do func(context.Context, []In) ([]Out, error), wipe func([]Out)) httpx.Row {
	handler := func(ctx context.Context, c *httpx.Call) error { return answerItems(ctx, c, s, call, do, wipe) }
	return httpx.Row{Method: http.MethodPost, Pattern: call.Path, MaxBody: kmsapi.MaxBody, Timeout: time.Minute, Who: crypto, Handler: handler}
}

// answerItems answers one item call.
func answerItems[In, Out any](ctx context.Context, c *httpx.Call, s *Server, call kmsapi.Call[In, Out], do func(context.Context, []In) ([]Out, error), wipe func([]Out)) error {
	req, err := parse(c, call)
	if err != nil {
		return err
	}
	if !req.binary {
		defer call.WipeItems(req.items)
	}
	results, err := do(actor(ctx, c), req.items)
	if err != nil {
		return err
	}
	if wipe != nil {
		defer wipe(results)
	}
	if req.single {
		if err := call.Failed(&results[0]); err != nil {
			s.metrics.count(call.Path, 1, map[fault.Code]int{fault.Of(err).Code: 1})
			return err
		}
	}
	s.metrics.count(call.Path, len(results), s.failures(c, call.Path, len(results), func(i int) error { return call.Failed(&results[i]) }))
	return req.send(c, call, results)
}

// request is the items of one request.
type request[In, Out any] struct {
	items  []In
	binary bool // as protobuf; bytes of items alias the body
	single bool // one JSON object
}

func parse[In, Out any](c *httpx.Call, call kmsapi.Call[In, Out]) (r request[In, Out], err error) {
	if r.binary = isProtobuf(c); r.binary {
		r.items, err = call.ParseRequest(c.Bytes())
	} else {
		r.items, r.single, err = call.ParseRequestJSON(c.Bytes())
	}
	return r, err
}

// send answers in the form of the request.
func (r request[In, Out]) send(c *httpx.Call, call kmsapi.Call[In, Out], results []Out) error {
	out := c.Room(len(c.Bytes()) + perItem*(len(results)+1))
	if r.binary {
		c.Send(http.StatusOK, protobuf, call.AppendAnswer(out, results))
		return nil
	}
	out, err := call.AppendAnswerJSON(out, results, r.single)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "the answer could not be written as JSON; the log has the request ID")
	}
	c.Send(http.StatusOK, httpx.JSON, out)
	return nil
}

// isProtobuf tells the form of a body. One that does not say protobuf is JSON,
// whatever it says: callers of the seed's endpoints say many things.
func isProtobuf(c *httpx.Call) bool {
	text := c.Header("Content-Type")
	switch text {
	case kmsapi.ContentType:
		return true
	case "", "application/json":
		return false
	}
	media, _, err := mime.ParseMediaType(text)
	return err == nil && media == kmsapi.ContentType
}

// actor names the caller of c for the audit.
func actor(ctx context.Context, c *httpx.Call) context.Context {
	ctx = kms.WithActor(ctx, c.Principal.Ref())
	if ids := c.Header(kmsapi.HeaderRequestIDs); wellFormed(ids) {
		c.Note(slog.String("request_ids", ids))
		return tracing.WithRequestID(ctx, ids)
	}
	return ctx
}

// wellFormed reports whether ids are IDs of requests as HeaderRequestIDs has them.
func wellFormed(ids string) bool {
	all := strings.Split(ids, ",")
	return len(all) <= tracing.MaxRequestIDs && !slices.ContainsFunc(all, func(id string) bool { return !httpx.IsRequestID(id) })
}

// failures counts the failed ones of n items by code. The first of our own
// failures goes to the log with its cause.
func (s *Server) failures(c *httpx.Call, route string, n int, failed func(int) error) map[fault.Code]int {
	var codes map[fault.Code]int
	logged := false
	for i := range n {
		err := failed(i)
		if err == nil {
			continue
		}
		if codes == nil {
			codes = map[fault.Code]int{}
		}
		f := fault.Of(err)
		codes[f.Code]++
		if !logged && (f.Code == fault.Damaged || f.Code == fault.Internal || f.Code == fault.Unavailable) {
			logged = true
			s.log.Error("an item failed", "request_id", c.RequestID(), "route", route, "index", i, "error", f.Message, "cause", errors.Unwrap(f))
		}
	}
	return codes
}
