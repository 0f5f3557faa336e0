package api

// Problem is every error body, as RFC 9457 (before it RFC 7807) describes it,
// sent as application/problem+json.
type Problem struct {
	Type      string `json:"type"` // "about:blank", or a word that clients tell cases apart by
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`               // what went wrong and what to do; never empty
	Error     string `json:"error"`                // the same text, for clients of the thread API
	RequestID string `json:"request_id,omitempty"` // find it in the server's log
}
