package api

import "encoding/json"

// ThreadExportLine is one line of GET /v1/threads/{thread}/export: a version of a
// message, as Message says, or the end, which is the last line. The versions of a
// message stand together, oldest first, and the last one has its reactions.
type ThreadExportLine struct {
	ID        string            `json:"id,omitzero"`
	Thread    string            `json:"thread,omitzero"`
	Author    string            `json:"author,omitzero"`
	EndUser   bool              `json:"end_user,omitzero"`
	Role      string            `json:"role,omitzero"`
	TS        int64             `json:"ts,omitzero"`
	Body      json.RawMessage   `json:"body,omitzero"`
	ReplyTo   string            `json:"reply_to,omitzero"`
	Version   int               `json:"version,omitzero"`
	UpdatedTS int64             `json:"updated_ts,omitzero"`
	Deleted   bool              `json:"deleted,omitzero"`
	Reactions map[string]string `json:"reactions,omitzero"`

	End      bool `json:"end,omitzero"`      // nothing follows: without it the export was cut off
	Messages int  `json:"messages,omitzero"` // how many there were; with end
}

// ImportedMessages is the answer to POST /v1/threads/{thread}/import.
type ImportedMessages struct {
	Imported int `json:"imported"`
	Present  int `json:"present"`           // the thread had them already
	LeftOut  int `json:"left_out,omitzero"` // what could not be brought: others' reactions, replies to what is not there, messages of which nothing is left
}
