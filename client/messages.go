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

// PostMessage appends a message to a thread. It is durable when the call returns.
// Body is any JSON value but null, up to 4 MiB, or 3 MiB in a thread under a CMEK
// key, where it is sealed before it is sent. Reads open it again.
//
// Each call has an Idempotency-Key of its own, so it is made again when the
// connection fails, and there is one message. When it fails for good after it was
// sent, the error does not tell whether the message is there.
func (c *Client) PostMessage(ctx context.Context, threadID string, req api.PostMessage) (m api.Message, err error) {
	path, err := escape("threads", threadID, "messages")
	if err != nil {
		return m, err
	}
	if req.Body, err = c.sealBody(ctx, threadID, req.Body); err != nil {
		return m, err
	}
	return c.oneMessage(ctx, threadID, call{
		method: "POST", path: path, in: req,
	})
}

// EditMessage makes a new version of a message of the caller's; what req leaves out
// is kept. Each call has an Idempotency-Key of its own, as one of PostMessage has.
func (c *Client) EditMessage(ctx context.Context, threadID, messageID string, req api.EditMessage) (m api.Message, err error) {
	path, err := escape("threads", threadID, "messages", messageID)
	if err != nil {
		return m, err
	}
	if req.Body != nil {
		if req.Body, err = c.sealBody(ctx, threadID, req.Body); err != nil {
			return m, err
		}
	}
	return c.oneMessage(ctx, threadID, call{method: "PUT", path: path, in: req})
}

// DeleteMessage deletes a message of the caller's, or in a thread of theirs. Its
// versions stay readable until they are purged.
func (c *Client) DeleteMessage(ctx context.Context, threadID, messageID string) error {
	return c.on(ctx, "DELETE", "threads", threadID, "messages", messageID)
}

// MessageQuery selects a page of messages. At most one of Before and After is
// set; with neither, the page holds the newest messages.
type MessageQuery struct {
	Limit          int    // 1 to 1000; 0: 1000
	Before         string // ID of a message: the newest ones older than it
	After          string // ID of a message: the oldest ones newer than it
	IncludeDeleted bool   // deleted ones, too: without body
}

// ListMessages returns a page of a thread's messages, oldest first. The page
// ends early at 16 MiB; only an empty page is the end of the thread.
func (c *Client) ListMessages(ctx context.Context, threadID string, q MessageQuery) ([]api.Message, error) {
	messages, err := c.listMessages(ctx, threadID, q)
	if err != nil {
		return nil, err
	}
	return messages, c.openMessages(ctx, threadID, pointers(messages)...)
}

// listMessages is ListMessages with bodies as they lie.
func (c *Client) listMessages(ctx context.Context, threadID string, q MessageQuery) ([]api.Message, error) {
	path, err := escape("threads", threadID, "messages")
	if err != nil {
		return nil, err
	}
	query := url.Values{}
	set(query, "before", q.Before)
	set(query, "after", q.After)
	setInt(query, "limit", q.Limit)
	if q.IncludeDeleted {
		query.Set("include_deleted", "true")
	}
	out, err := ask[api.Messages](ctx, c, call{method: "GET", path: path, query: query})
	return out.Messages, err
}

func pointers(messages []api.Message) []*api.Message {
	out := make([]*api.Message, len(messages))
	for i := range messages {
		out[i] = &messages[i]
	}
	return out
}

// GetMessage returns the newest version of a message.
func (c *Client) GetMessage(ctx context.Context, threadID, messageID string) (m api.Message, err error) {
	path, err := escape("threads", threadID, "messages", messageID)
	if err != nil {
		return m, err
	}
	return c.oneMessage(ctx, threadID, call{method: "GET", path: path})
}

// MessageVersions iterates over the versions of a message, oldest first, also of one
// that was deleted, whose last version says so. It ends at the first error, which it
// yields.
func (c *Client) MessageVersions(ctx context.Context, threadID, messageID string) iter.Seq2[api.Message, error] {
	return func(yield func(api.Message, error) bool) {
		path, err := escape("threads", threadID, "messages", messageID, "versions")
		for cursor := ""; err == nil; {
			query := url.Values{}
			set(query, "cursor", cursor)
			var page api.MessageVersions
			if page, err = ask[api.MessageVersions](ctx, c, call{method: "GET", path: path, query: query}); err != nil {
				break
			}
			if err = c.openMessages(ctx, threadID, pointers(page.Versions)...); err != nil {
				break
			}
			for _, m := range page.Versions {
				if !yield(m, nil) {
					return
				}
			}
			if page.NextCursor == "" {
				return
			}
			if page.NextCursor == cursor {
				err = errNoProgress
			}
			cursor = page.NextCursor
		}
		yield(api.Message{}, err)
	}
}

// Reactions returns the reactions to a message.
func (c *Client) Reactions(ctx context.Context, threadID, messageID string) ([]api.Reaction, error) {
	out, err := askAt[api.Reactions](ctx, c, "GET", nil, "threads", threadID, "messages", messageID, "reactions")
	return out.Reactions, err
}

// React sets the caller's reaction to a message, of 1 to 64 characters, in place of
// the one before. Reactions are not sealed, also in a thread under a CMEK key.
func (c *Client) React(ctx context.Context, threadID, messageID, reaction string) (m api.Message, err error) {
	path, err := escape("threads", threadID, "messages", messageID, "reactions")
	if err != nil {
		return m, err
	}
	return c.oneMessage(ctx, threadID, call{method: "POST", path: path, in: api.Reaction{Reaction: reaction}})
}

// Unreact takes the reaction of an identity back: a user ID, the caller's or, in the
// caller's thread, anybody's.
func (c *Client) Unreact(ctx context.Context, threadID, messageID, identity string) error {
	return c.on(ctx, "DELETE", "threads", threadID, "messages", messageID, "reactions", identity)
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
	return c.messages(ctx, threadID, after, false, c.ListMessages)
}

// AllMessages is Messages with those that were deleted.
func (c *Client) AllMessages(ctx context.Context, threadID, after string) iter.Seq2[api.Message, error] {
	return c.messages(ctx, threadID, after, true, c.ListMessages)
}

func (c *Client) messages(ctx context.Context, threadID, after string, deleted bool, list func(context.Context, string, MessageQuery) ([]api.Message, error)) iter.Seq2[api.Message, error] {
	return func(yield func(api.Message, error) bool) {
		q := MessageQuery{Limit: pageSize, After: after, IncludeDeleted: deleted}
		if after == "" {
			// After leaves out the ID that it names, so the very first is asked for by Before.
			q = MessageQuery{Limit: 1, Before: secondMessageID, IncludeDeleted: deleted}
		}
		for {
			page, err := list(ctx, threadID, q)
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
				q = MessageQuery{Limit: pageSize, After: firstMessageID, IncludeDeleted: deleted}
			case len(page) == 0: // a page of large messages may be short, and is not the end
				return
			default:
				q.After = page[len(page)-1].ID
			}
		}
	}
}
