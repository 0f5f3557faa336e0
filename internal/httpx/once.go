package httpx

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/api"
)

// Once has do make the call c, which came with the Idempotency-Key key, unless it was
// made before, and returns what is to be answered.
type Once func(ctx context.Context, c *Call, key string, do func(context.Context) (Held, error)) (Held, error)

// Held is an answer that has not gone out. Body is wiped once it has.
type Held struct {
	Status   int
	Location string // "": the answer has none
	Body     []byte // JSON; nil: none
	Replayed bool   // it is that of an earlier request

	contentType ContentType
}

// digested are the headers that make a request what it is, beside its path and body.
var digested = []string{"If-Match", api.HeaderCMEKFingerprint, api.HeaderCMEKOldKey, api.HeaderCMEKNewKey}

// digestedIfSent are more of them: rows of before know nothing of these, so that they
// count where they are sent.
var digestedIfSent = []string{"X-Identity"}

// Parts are method, path, query and headers of the request: all but its body that
// makes it what it is. A header may be a key: they are for a digest alone.
func (c *Call) Parts() []string {
	parts := []string{c.r.Method, c.r.URL.EscapedPath(), c.r.URL.RawQuery}
	for _, name := range digested {
		parts = append(parts, c.r.Header.Get(name))
	}
	for _, name := range digestedIfSent {
		if value := c.r.Header.Get(name); value != "" {
			parts = append(parts, name+": "+value)
		}
	}
	return parts
}

// Success is the status of the answer, if the call succeeds; known once the handler runs.
func (c *Call) Success() int { return c.success }

// Timeout is the row's.
func (c *Call) Timeout() time.Duration { return c.row.timeout() }

// Encode is how an answer goes out as JSON.
func Encode(out any) ([]byte, error) {
	var b bytes.Buffer
	err := json.MarshalWrite(&b, out)
	return b.Bytes(), err
}

// handle has the row's handler answer, once if the request says so.
func (c *Call) handle(ctx context.Context) error {
	if !c.Writes() || c.row.OwnOnce || c.mux.once == nil {
		return c.row.Handler(ctx, c)
	}
	key, err := c.Guard(api.HeaderIdempotencyKey)
	if err != nil {
		return err
	}
	if key == "" {
		return c.row.Handler(ctx, c)
	}
	out, err := c.mux.once(ctx, c, key, func(ctx context.Context) (Held, error) {
		c.held = new(Held)
		err := c.row.Handler(ctx, c)
		out := *c.held
		c.held = nil
		out.Location = c.w.Header().Get("Location")
		return out, err
	})
	if err != nil {
		return err
	}
	defer clear(out.Body)
	c.release(out)
	return nil
}

// Writes reports whether the call is a write of somebody's whom the row knows.
func (c *Call) Writes() bool {
	return c.row.Who == Principal && c.r.Method != http.MethodGet && c.r.Method != http.MethodHead
}

// Replayed says in the answer that it is that of an earlier request.
func (c *Call) Replayed() { c.SetHeader(api.HeaderIdempotencyReplayed, "true") }

// release sends an answer.
func (c *Call) release(out Held) {
	if out.Replayed {
		c.Replayed()
	}
	if out.Location != "" {
		c.SetHeader("Location", out.Location)
	}
	if out.Status == http.StatusNoContent {
		_ = c.noContent()
		return
	}
	if out.contentType == nil {
		out.contentType = JSON
	}
	c.Send(out.Status, out.contentType, out.Body)
}
