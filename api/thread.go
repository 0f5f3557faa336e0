package api

import "encoding/json"

// CreateThread is the body of POST /v1/threads.
type CreateThread struct {
	Title           string `json:"title,omitzero"`
	CMEKFingerprint string `json:"cmek_fingerprint,omitzero"` // of the customer's key that bodies are sealed with; 64 hex digits
}

// UpdateThread is the body of PUT /v1/threads/{thread}.
type UpdateThread struct {
	Title string `json:"title"`
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

	CMEKFingerprint string     `json:"cmek_fingerprint,omitzero"` // of the customer's key that bodies are sealed with
	Part            string     `json:"part,omitzero"`             // of another's thread: read or write
	KMS             *ThreadDEK `json:"kms,omitzero"`              // for backend and admin keys
}

// ThreadDEK is what is told of a thread's DEK.
type ThreadDEK struct {
	KeyID      string `json:"key_id"`
	KEKVersion int    `json:"kek_version"`
	CreatedTS  int64  `json:"created_ts,omitzero"` // when it was made, for admin keys; absent: not known
}

// Hold is a legal hold: nothing of the thread is purged while it lasts.
type Hold struct {
	By     string `json:"by"`    // ID of the user who set it
	Since  int64  `json:"since"` // nanoseconds since 1970
	Reason string `json:"reason,omitzero"`
}

// PutHold is the body of PUT /v1/threads/{thread}/hold.
type PutHold struct {
	Reason string `json:"reason,omitzero"` // at most 500 characters
}

// Participant is somebody who takes part in another's thread.
type Participant struct {
	ID      string `json:"id"` // of a user or agent of the org, or of an end user
	EndUser bool   `json:"end_user,omitzero"`
	Part    string `json:"part"` // read, or write: post, and edit, delete and react as well
}

// Participants is the body of GET /v1/threads/{thread}/participants.
type Participants struct {
	Participants []Participant `json:"participants"`
}

// PutParticipant is the body of PUT /v1/threads/{thread}/participants/{participant}.
type PutParticipant struct {
	Part    string `json:"part"`
	EndUser bool   `json:"end_user,omitzero"`
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
	TS      int64           `json:"ts,omitzero"`        // nanoseconds since 1970, at most 24 hours ahead of the server's clock; now when absent
}

// Message is an entry of a thread.
type Message struct {
	ID      string          `json:"id"` // "<ts>-<seq>": sorts as text in the thread's order
	Thread  string          `json:"thread"`
	Author  string          `json:"author"`
	Role    string          `json:"role"`
	TS      int64           `json:"ts"`
	Body    json.RawMessage `json:"body,omitzero"` // absent when deleted
	ReplyTo string          `json:"reply_to,omitempty"`

	EndUser   bool              `json:"end_user,omitzero"`   // the author is an end user
	Version   int               `json:"version,omitzero"`    // from 2; absent: 1
	UpdatedTS int64             `json:"updated_ts,omitzero"` // of the version, when there was one before
	Deleted   bool              `json:"deleted,omitzero"`
	Reactions map[string]string `json:"reactions,omitzero"` // reaction by identity
}

// EditMessage is the body of PUT /v1/threads/{thread}/messages/{message}. What is
// absent is kept.
type EditMessage struct {
	Body    json.RawMessage `json:"body,omitzero"`
	Role    string          `json:"role,omitzero"`
	ReplyTo string          `json:"reply_to,omitzero"`
}

// MessageVersions is the body of GET /v1/threads/{thread}/messages/{message}/versions,
// oldest first.
type MessageVersions struct {
	ID         string    `json:"id"`
	Versions   []Message `json:"versions"`
	NextCursor string    `json:"next_cursor,omitzero"`
}

// Reaction is what somebody said to a message, in a word or a sign.
type Reaction struct {
	ID       string `json:"id"` // identity: who; the caller's user ID when absent from a request
	Reaction string `json:"reaction"`
}

// Reactions is the body of GET /v1/threads/{thread}/messages/{message}/reactions.
type Reactions struct {
	ID        string     `json:"id"`
	Reactions []Reaction `json:"reactions"`
}

// Retention is the body of GET and PUT /v1/retention: how long an org keeps what.
// 0: for ever.
type Retention struct {
	DeletedDays int `json:"deleted_days,omitzero"` // threads and messages, after their deletion
	MessageDays int `json:"message_days,omitzero"` // messages, after their time
}

// RetentionPreview is the body of GET /v1/retention/preview: what a run would purge now.
type RetentionPreview struct {
	Threads  int `json:"threads"`
	Messages int `json:"messages"` // of other threads
	Held     int `json:"held"`     // threads of which a legal hold keeps something; at most 1000 are counted

	Partial bool `json:"partial,omitzero"` // there is more: a preview looks at a million messages and index entries
}

// MessageEvent is the data of an event of GET /v1/threads/{thread}/events, whose
// event field says what came about: created, edited, deleted, reactions, thread, or
// purged: that message and all before it are gone, for their age.
type MessageEvent struct {
	Thread    string   `json:"thread"`
	MessageID string   `json:"message_id,omitzero"` // absent for thread
	Message   *Message `json:"message,omitzero"`    // as it is now, a deleted one without body; absent when it was purged, and for thread
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
