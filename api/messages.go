package api

// PostToThread is the body of POST /v1/messages.
type PostToThread struct {
	Thread string `json:"thread,omitzero"` // ID; absent: the message is the first of a thread that is made for it
	PostMessage
}

// React is the body of POST /v1/threads/{thread}/messages/{message}/reactions.
type React struct {
	ID       string `json:"id,omitzero"` // identity: whose it is; absent: the header X-Identity, or the caller's user ID
	Reaction string `json:"reaction"`    // 1 to 64 characters
}
