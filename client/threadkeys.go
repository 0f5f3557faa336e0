package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
)

// WithSealedThreads lets the client post to, edit in, and import into, threads under a CMEK key
// alone ([ErrThreadNotSealed] otherwise), whatever the server says of a thread.
func WithSealedThreads() Option {
	return func(c *Client) { c.sealedThreads = true }
}

// ErrThreadNotSealed is the answer to a post, an edit or an import in a thread that is
// under no CMEK key, by a client that was made with [WithSealedThreads]. Nothing was sent.
var ErrThreadNotSealed = errors.New("client: the thread is under no CMEK key; the body was not sent in the clear")

// A body's JSON is sealed as a bound blob, cmek.MessageContext, and travels as a
// JSON string of base64 (cmek/FORMAT.md).

// maxKnownThreads is how many threads without a key are remembered at most.
const maxKnownThreads = 10_000

// knowThread remembers what the server says of a thread that was asked for. Its key
// is fixed when it is made, so the first answer counts.
func (c *Client) knowThread(threadID string, t api.Thread) (fingerprint string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if had, known := c.threads[threadID]; known {
		return had
	}
	if len(c.threads) >= maxKnownThreads {
		for id, fingerprint := range c.threads {
			if fingerprint == "" {
				delete(c.threads, id)
			}
		}
	}
	c.threads[threadID] = strings.ToLower(t.CMEKFingerprint)
	return c.threads[threadID]
}

// threadFingerprint returns that of the key that bodies of a thread are sealed with;
// "": they are not.
func (c *Client) threadFingerprint(ctx context.Context, threadID string) (string, error) {
	c.mu.Lock()
	fingerprint, known := c.threads[threadID]
	c.mu.Unlock()
	if known {
		return fingerprint, nil
	}
	t, err := c.GetThread(ctx, threadID)
	if err != nil {
		return "", err
	}
	return c.knowThread(threadID, t), nil
}

// threadKey returns the key that bodies of a thread are sealed with; nil: they are
// not sealed. *KeyError: the client has not got it.
func (c *Client) threadKey(ctx context.Context, threadID string) (CMEK, error) {
	fingerprint, err := c.threadFingerprint(ctx, threadID)
	if err != nil || fingerprint == "" {
		return nil, err
	}
	k, err := c.key(ctx, fingerprint)
	if e, ok := errors.AsType[*KeyError](err); ok {
		e.of = "thread"
	}
	return k, err
}

// sealBody returns a body as it is sent to a thread.
func (c *Client) sealBody(ctx context.Context, threadID string, body json.RawMessage) (json.RawMessage, error) {
	k, err := c.sealingKey(ctx, threadID)
	if err != nil || k == nil {
		return body, err
	}
	return sealBody(ctx, k, threadID, body)
}

// sealingKey is threadKey for what is written: ErrThreadNotSealed, where the client
// writes to no other threads.
func (c *Client) sealingKey(ctx context.Context, threadID string) (CMEK, error) {
	k, err := c.threadKey(ctx, threadID)
	if err == nil && k == nil && c.sealedThreads {
		err = ErrThreadNotSealed
	}
	return k, err
}

func sealBody(ctx context.Context, k CMEK, threadID string, body json.RawMessage) (json.RawMessage, error) {
	text, err := marshal(body)
	if err != nil {
		return nil, err
	}
	text = bytes.TrimSuffix(text, []byte("\n"))
	if string(text) == "null" {
		return nil, errors.New("client: a message's body is any JSON value but null")
	}
	blob, err := k.Seal(ctx, cmek.MessageContext(threadID), 2, text)
	if err != nil {
		return nil, fmt.Errorf("client: sealing the body: %w", err)
	}
	return json.Marshal(blob)
}

// openMessages opens the bodies of messages that were read from a thread, in place.
func (c *Client) openMessages(ctx context.Context, threadID string, messages ...*api.Message) error {
	k, err := c.threadKey(ctx, threadID)
	if err != nil || k == nil {
		return err
	}
	for _, m := range messages {
		if m.Body == nil {
			continue
		}
		if m.Body, err = openBody(ctx, k, threadID, m.Body); err != nil {
			return fmt.Errorf("client: opening message %s: %w", m.ID, err)
		}
	}
	return nil
}

var errNotJSON = errors.New("what was sealed is not JSON")

// openBody opens a bound blob alone: one of version 1, from a vault of the same key
// say, opens anywhere.
func openBody(ctx context.Context, k CMEK, threadID string, body json.RawMessage) (json.RawMessage, error) {
	var value string
	if json.Unmarshal(body, &value) != nil {
		return nil, cmek.ErrNotBlob
	}
	if info, err := cmek.Inspect(value); err != nil || info.Version != 2 {
		return nil, cmek.ErrNotBlob
	}
	text, err := k.Open(ctx, cmek.MessageContext(threadID), value)
	if err == nil && !json.Valid(text) {
		err = errNotJSON
	}
	return text, err
}

// oneMessage makes a call on a thread that is answered with a message, and opens it.
func (c *Client) oneMessage(ctx context.Context, threadID string, cl call) (api.Message, error) {
	m, err := ask[api.Message](ctx, c, cl)
	if err == nil {
		err = c.openMessages(ctx, threadID, &m)
	}
	return m, err
}
