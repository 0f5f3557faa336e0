package client

import (
	"context"
	"errors"
	"iter"
	"net/url"

	"github.com/keyfold/keyfold/api"
)

// pageSize is how many items an iterator asks for at once.
const pageSize = 200

// PostMessage appends a message to a thread. It is durable when the call
// returns. Body is any JSON value but null, up to 4 MiB.
//
// A post is never sent twice. When the connection fails after it was sent,
// the error does not tell whether the message is there; a caller who must know
// sets TS and looks for it.
func (c *Client) PostMessage(ctx context.Context, threadID string, req api.PostMessage) (api.Message, error) {
	return askAt[api.Message](ctx, c, "POST", req, "threads", threadID, "messages")
}

// MessageQuery selects a page of messages. At most one of Before and After is
// set; with neither, the page holds the newest messages.
type MessageQuery struct {
	Limit  int    // 1 to 1000; 0: 1000
	Before string // ID of a message: the newest ones older than it
	After  string // ID of a message: the oldest ones newer than it
}

// ListMessages returns a page of a thread's messages, oldest first. The page
// ends early at 16 MiB; only an empty page is the end of the thread.
func (c *Client) ListMessages(ctx context.Context, threadID string, q MessageQuery) ([]api.Message, error) {
	path, err := escape("threads", threadID, "messages")
	if err != nil {
		return nil, err
	}
	query := url.Values{}
	set(query, "before", q.Before)
	set(query, "after", q.After)
	setInt(query, "limit", q.Limit)
	out, err := ask[api.Messages](ctx, c, call{method: "GET", path: path, query: query})
	return out.Messages, err
}

// GetMessage returns one message.
func (c *Client) GetMessage(ctx context.Context, threadID, messageID string) (api.Message, error) {
	return askAt[api.Message](ctx, c, "GET", nil, "threads", threadID, "messages", messageID)
}

// The first two IDs that a message can have: no time is less than 1.
const (
	firstMessageID  = "00000000000000000001-000000"
	secondMessageID = "00000000000000000001-000001"
)

var errNoProgress = errors.New("client: the server answers with a page that was read already")

// Messages iterates over the messages of a thread after the one with the ID
// after, oldest first, page by page; from the first one when after is empty.
// Messages that arrive meanwhile are included. It ends at the first error,
// which it yields.
func (c *Client) Messages(ctx context.Context, threadID, after string) iter.Seq2[api.Message, error] {
	return func(yield func(api.Message, error) bool) {
		q := MessageQuery{Limit: pageSize, After: after}
		if after == "" {
			// After leaves out the ID that it names, so the very first is asked for by Before.
			q = MessageQuery{Limit: 1, Before: secondMessageID}
		}
		for {
			page, err := c.ListMessages(ctx, threadID, q)
			if err != nil {
				yield(api.Message{}, err)
				return
			}
			for _, m := range page {
				if m.ID <= q.After {
					yield(api.Message{}, errNoProgress)
					return
				}
				if !yield(m, nil) {
					return
				}
			}
			switch {
			case q.Before != "":
				q = MessageQuery{Limit: pageSize, After: firstMessageID}
			case len(page) == 0: // a page of large messages may be short, and is not the end
				return
			default:
				q.After = page[len(page)-1].ID
			}
		}
	}
}
