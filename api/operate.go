package api

// Stats is the body of GET /admin/stats.
type Stats struct {
	Threads  int `json:"threads"`  // that are not deleted
	Messages int `json:"messages"` // of these
}

// ServiceHealth is the body of GET /admin/health.
type ServiceHealth struct {
	Status  string `json:"status"`
	Service string `json:"service"`
}

// Pagination says where a page of an operator's list ends.
type Pagination struct {
	Count      int    `json:"count"` // of this page
	HasMore    bool   `json:"has_more"`
	NextCursor string `json:"next_cursor,omitzero"` // pass it as cursor for the next page; absent on the last
}

// ThreadOwners is the body of GET /admin/users: IDs of those who own threads, by org.
type ThreadOwners struct {
	Users      []string   `json:"users"`
	Pagination Pagination `json:"pagination"`
}

// ThreadKeys is the body of GET /admin/users/{owner}/threads: IDs.
type ThreadKeys struct {
	Threads    []string   `json:"threads"`
	Pagination Pagination `json:"pagination"`
}

// MessageKeys is the body of GET /admin/users/{owner}/threads/{thread}/messages: IDs,
// oldest first.
type MessageKeys struct {
	Messages   []string   `json:"messages"`
	Pagination Pagination `json:"pagination"`
}

// StoreKeys is the body of GET /admin/keys: names of rows of the store, in order.
type StoreKeys struct {
	Keys       []string   `json:"keys"`
	Pagination Pagination `json:"pagination"`
}

// RotateThreadDEK is the body of POST /admin/encryption/rotate-thread-dek. Name one:
// a thread, or all.
type RotateThreadDEK struct {
	ThreadID string `json:"thread_id,omitzero"`
	All      bool   `json:"all,omitzero"`  // every thread, one after the other
	Rate     int    `json:"rate,omitzero"` // of all: messages and other rows per second at most; 0: as fast as it goes
}

// ThreadDEKRotated is its answer.
type ThreadDEKRotated struct {
	Status string `json:"status"`
	NewKey string `json:"new_key,omitzero"` // ID of the DEK that new messages are under; absent for all
	JobID  string `json:"job_id"`           // of the job that brings the rest under it
}

// RewrapDEKs is the body of POST /admin/encryption/rewrap-deks. Name threads, at
// most 1000, or all.
type RewrapDEKs struct {
	ThreadIDs   []string `json:"thread_ids,omitzero"`
	All         bool     `json:"all,omitzero"`
	Parallelism int      `json:"parallelism,omitzero"` // is passed over
	// Key material, 64 hex digits, which first becomes the primary version of the
	// threads' KEK; send it over TLS. It is refused where the key process's setting
	// allow_kek_import is off, as it is but under keyfold dev, and where it is no
	// fresh random key. The same call may be sent again.
	NewKEKHex string `json:"new_kek_hex,omitzero"`
}

// DEKRewrap is what came of the rewrap of a DEK.
type DEKRewrap struct {
	Status     string `json:"status,omitzero"` // ok
	KEKID      string `json:"kek_id,omitzero"`
	KEKVersion int    `json:"kek_version,omitzero"`
	Error      string `json:"error,omitzero"`
}

// DEKRewraps answers POST /admin/encryption/rewrap-deks, by key IDs of DEKs. A thread
// of which no DEK is known is there by its own ID.
type DEKRewraps map[string]DEKRewrap

// GeneratedKEK is the body of POST /admin/encryption/generate-kek.
type GeneratedKEK struct {
	KEKHex string `json:"kek_hex"` // 32 random bytes in hex; nothing uses them
}
