package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/keyfold/keyfold/api"
)

// ImportThread brings lines of an export into a thread, at most 1,000 lines and 8 MiB:
// each message with its versions, which stand together, and its deletion, under the
// caller's name. Bodies are in the clear; into a thread under a CMEK key they are
// sealed before they are sent. The same lines may be sent again: what the thread has is
// not brought again.
func (c *Client) ImportThread(ctx context.Context, threadID string, lines []api.ThreadExportLine) (out api.ImportedMessages, err error) {
	path, err := escape("threads", threadID, "import")
	if err != nil {
		return out, err
	}
	k, err := c.sealingKey(ctx, threadID)
	if err == nil && k != nil {
		lines, err = c.sealLines(ctx, k, threadID, lines)
	}
	if err != nil {
		return out, err
	}
	return ask[api.ImportedMessages](ctx, c, call{
		method: "POST", path: path, in: exportLines(lines), header: http.Header{"Content-Type": {"application/x-ndjson"}},
	})
}

// exportLines are sent as JSON Lines.
type exportLines []api.ThreadExportLine

// sealLines returns lines with their bodies sealed. The server knows a message again by
// its time and its first body, and no two seals are the same: of a message that the
// thread has, the blob that lies there is sent.
func (c *Client) sealLines(ctx context.Context, k CMEK, threadID string, lines []api.ThreadExportLine) ([]api.ThreadExportLine, error) {
	out := slices.Clone(lines)
	has, err := c.present(ctx, k, threadID, lines)
	for i := 0; i < len(out) && err == nil; i++ {
		l := &out[i]
		if l.Body == nil {
			continue
		}
		if isFirst(lines, i) {
			if blob := has.take(l.TS, l.Body); blob != nil {
				l.Body = blob
				continue
			}
		}
		if l.Body, err = sealBody(ctx, k, threadID, l.Body); err != nil {
			err = fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return out, err
}

// isFirst reports whether line i is the first version of its message.
func isFirst(lines []api.ThreadExportLine, i int) bool {
	return i == 0 || lines[i].ID == "" || lines[i].ID != lines[i-1].ID
}

// presence is what a thread has of the messages of some times, in their order.
type presence map[int64][]presentBody

// presentBody is the first body of a message.
type presentBody struct{ blob, text json.RawMessage } // as it lies, and opened

// take returns the blob of a message of this time and text, if there is one, and takes
// it away: two equal lines are two messages.
func (p presence) take(ts int64, text json.RawMessage) json.RawMessage {
	i := slices.IndexFunc(p[ts], func(b presentBody) bool { return sameJSON(b.text, text) })
	if i < 0 {
		return nil
	}
	blob := p[ts][i].blob
	p[ts] = slices.Delete(p[ts], i, i+1)
	return blob
}

// present finds what the thread has of the times of lines.
func (c *Client) present(ctx context.Context, k CMEK, threadID string, lines []api.ThreadExportLine) (presence, error) {
	has := presence{}
	for i, l := range lines {
		if l.Body != nil && l.TS > 0 && isFirst(lines, i) {
			has[l.TS] = nil
		}
	}
	if len(has) == 0 {
		return has, nil
	}
	times := slices.Sorted(maps.Keys(has))
	after := ""
	if times[0] > 1 {
		after = fmt.Sprintf("%020d-999999", times[0]-1)
	}
	for m, err := range c.messages(ctx, threadID, after, true, c.listMessages) {
		if err != nil {
			return nil, err
		}
		if m.TS > times[len(times)-1] {
			break
		}
		if _, asked := has[m.TS]; !asked {
			continue
		}
		blob, err := c.firstBody(ctx, threadID, m)
		if err != nil {
			return nil, err
		}
		if text, err := openBody(ctx, k, threadID, blob); err == nil { // what does not open is none of the lines
			has[m.TS] = append(has[m.TS], presentBody{blob, text})
		}
	}
	return has, nil
}

// firstBody is the body of the first version of a message, as it lies; nil: it is gone.
func (c *Client) firstBody(ctx context.Context, threadID string, m api.Message) (json.RawMessage, error) {
	if m.Version <= 1 && !m.Deleted {
		return m.Body, nil
	}
	path, err := escape("threads", threadID, "messages", m.ID, "versions")
	if err != nil {
		return nil, err
	}
	page, err := ask[api.MessageVersions](ctx, c, call{method: "GET", path: path, query: url.Values{"limit": {"1"}}})
	if IsNotFound(err) || err == nil && len(page.Versions) == 0 { // purged since
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return page.Versions[0].Body, nil
}

// sameJSON compares two JSON texts but for the space between their tokens.
func sameJSON(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
