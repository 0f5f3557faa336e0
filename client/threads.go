package client

import (
	"context"
	"errors"
	"iter"
	"net/url"
	"strconv"
	"strings"

	"github.com/keyfold/keyfold/api"
)

// CreateThread makes a thread; its DEK exists when the call returns. With a CMEK
// fingerprint it is under that key for good: bodies of its messages are sealed by
// clients that have the key, and read by nobody else. Titles, roles and reactions are not.
func (c *Client) CreateThread(ctx context.Context, req api.CreateThread) (api.Thread, error) {
	t, err := ask[api.Thread](ctx, c, call{method: "POST", path: "/v1/threads", in: req})
	if err != nil {
		return t, err
	}
	if !strings.EqualFold(t.CMEKFingerprint, req.CMEKFingerprint) {
		return t, errors.New("client: the server has made a thread that is not under the CMEK key that was named; delete it")
	}
	c.knowThread(t.ID, t)
	return t, nil
}

// ThreadQuery selects threads. The zero value selects all.
type ThreadQuery struct {
	Title  string // part of the title, case-blind
	Slug   string // the whole slug
	Limit  int    // of one page; 0: all
	Cursor string // api.Threads.NextCursor of the page before
}

// ListThreads returns a page of the caller's threads, newest first.
func (c *Client) ListThreads(ctx context.Context, q ThreadQuery) (api.Threads, error) {
	query := url.Values{}
	set(query, "title", q.Title)
	set(query, "slug", q.Slug)
	set(query, "cursor", q.Cursor)
	setInt(query, "limit", q.Limit)
	return ask[api.Threads](ctx, c, call{method: "GET", path: "/v1/threads", query: query})
}

// Threads iterates over all threads that q selects, page by page. It ends at
// the first error, which it yields.
func (c *Client) Threads(ctx context.Context, q ThreadQuery) iter.Seq2[api.Thread, error] {
	if q.Limit == 0 {
		q.Limit = pageSize
	}
	return func(yield func(api.Thread, error) bool) {
		for {
			page, err := c.ListThreads(ctx, q)
			if err != nil {
				yield(api.Thread{}, err)
				return
			}
			for _, t := range page.Threads {
				if !yield(t, nil) {
					return
				}
			}
			if page.NextCursor == "" {
				return
			}
			if page.NextCursor == q.Cursor {
				yield(api.Thread{}, errNoProgress)
				return
			}
			q.Cursor = page.NextCursor
		}
	}
}

// UpdateThread gives a thread another title, and with it another slug.
func (c *Client) UpdateThread(ctx context.Context, threadID string, req api.UpdateThread) (api.Thread, error) {
	return askAt[api.Thread](ctx, c, "PUT", req, "threads", threadID)
}

// GetThread returns a thread.
func (c *Client) GetThread(ctx context.Context, threadID string) (api.Thread, error) {
	return askAt[api.Thread](ctx, c, "GET", nil, "threads", threadID)
}

// DeleteThread deletes a thread; its messages are no longer readable.
func (c *Client) DeleteThread(ctx context.Context, threadID string) error {
	return c.on(ctx, "DELETE", "threads", threadID)
}

func set(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

func setInt(q url.Values, name string, n int) {
	if n != 0 {
		q.Set(name, strconv.Itoa(n))
	}
}
