package api

import "time"

// RotateTokenKey is the body of POST /admin/token-keys/rotate, which makes a new
// key that signs access tokens and answers 204. It is published at once and signs
// ten minutes later, and the tokens of the one before live out their time. With
// Replace it signs at once, and the tokens of all others are dead within a second:
// for when a key may be in wrong hands.
type RotateTokenKey struct {
	Replace bool `json:"replace,omitzero"`
}

// RotateKEK is the body of POST /admin/encryption/rotate-kek, which makes new
// primaries and rewraps under them, and of POST /admin/encryption/rewrap, which
// only rewraps under the present ones. Name one: a vault, the threads, or all.
type RotateKEK struct {
	VaultID string `json:"vault_id,omitzero"`
	Threads bool   `json:"threads,omitzero"`
	All     bool   `json:"all,omitzero"`
}

// Job is work that goes on in the server.
type Job struct {
	ID          string    `json:"id"`
	Kind        string    `json:"kind"`
	Status      string    `json:"status"` // running, interrupted, completed, failed or cancelled
	Total       int       `json:"total"`  // as counted at the start; more may come
	Processed   int       `json:"processed"`
	Failed      int       `json:"failed"`
	FailedItems []string  `json:"failed_items,omitempty"` // the first 100
	Error       string    `json:"error,omitzero"`         // why it failed, or what it waits for
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

// Ended reports whether nothing more happens to the job.
func (j Job) Ended() bool { return j.Status != "running" }

// Jobs is the body of GET /admin/jobs, newest first, and of what starts jobs.
type Jobs struct {
	Jobs []Job `json:"jobs"`
}
