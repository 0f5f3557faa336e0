package api

import "encoding/json"

// CreateThread is the body of POST /v1/threads.
type CreateThread struct {
	Title string `json:"title,omitzero"`
}

// Thread is a conversation. Times are nanoseconds since 1970.
type Thread struct {
	ID        string `json:"id"`
	Title     string `json:"title"`
	Author    string `json:"author"`
	Slug      string `json:"slug"` // slug of the title, a dash, the ID
	CreatedTS int64  `json:"created_ts"`
	UpdatedTS int64  `json:"updated_ts"`
	Deleted   bool   `json:"deleted,omitzero"`
	DeletedTS int64  `json:"deleted_ts,omitzero"`
}

// Threads is the body of GET /v1/threads, newest first.
type Threads struct {
	Threads    []Thread `json:"threads"`
	NextCursor string   `json:"next_cursor,omitempty"` // pass it as cursor for the next page; absent on the last
}

// PostMessage is the body of POST /v1/threads/{thread}/messages.
type PostMessage struct {
	Body    json.RawMessage `json:"body"`               // any JSON value but null, at most 4 MiB and 1,000 levels deep
	Role    string          `json:"role,omitempty"`     // "user" when absent
	ReplyTo string          `json:"reply_to,omitempty"` // ID of a message
	TS      int64           `json:"ts,omitzero"`        // nanoseconds since 1970; now when absent
}

// Message is an entry of a thread.
type Message struct {
	ID      string          `json:"id"` // "<ts>-<seq>": sorts as text in the thread's order
	Thread  string          `json:"thread"`
	Author  string          `json:"author"`
	Role    string          `json:"role"`
	TS      int64           `json:"ts"`
	Body    json.RawMessage `json:"body"`
	ReplyTo string          `json:"reply_to,omitempty"`
}

// Messages is the body of GET /v1/threads/{thread}/messages, oldest first. A
// page ends before its limit when it holds 16 MiB; only an empty one is the end.
//
// Two messages that are posted at the same moment may be stored in either order.
// A reader who follows a thread by "after" asks again from a few seconds before
// its newest message, or it may miss the one that was stored last.
type Messages struct {
	Thread   string    `json:"thread"`
	Messages []Message `json:"messages"`
}
