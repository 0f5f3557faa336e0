package api

import "time"

// EncryptExisting asks for the encryption of threads that were made while the
// server did not encrypt; it is the body of POST
// /admin/encryption/encrypt-existing. Name some, or all.
type EncryptExisting struct {
	ThreadIDs []string `json:"thread_ids,omitempty"` // at most 1000
	All       bool     `json:"all,omitzero"`
}

// ThreadEncryption is how far a thread is encrypted.
type ThreadEncryption struct {
	// Status is "ok" once nothing of the thread lies in clear, "encrypting" while a
	// job is at that, and "error".
	Status string `json:"status"`
	KeyID  string `json:"key_id,omitzero"` // of its DEK
	Error  string `json:"error,omitzero"`
}

// ThreadEncryptions are threads by ID. Of all threads there are those that were
// not encrypted, the first 1000 of them; the rest follows in the job.
type ThreadEncryptions map[string]ThreadEncryption

// EncryptThreads is the body of POST /admin/encryption/encrypt-threads, which asks
// for all threads.
type EncryptThreads struct{}

// EncryptedThreads answers POST /admin/encryption/encrypt-threads.
type EncryptedThreads struct {
	Summary EncryptionSummary  `json:"summary"`
	Results []EncryptionResult `json:"results"`
	JobID   string             `json:"job_id"` // of the job that does the rest, and then takes what was in clear out of the store's files
}

// EncryptionSummary counts threads.
type EncryptionSummary struct {
	Total   int `json:"total"`
	Success int `json:"success"` // are encrypted, or being encrypted, and were not
	Skipped int `json:"skipped"` // were encrypted
	Errors  int `json:"errors"`
}

// EncryptionResult is a thread that was not encrypted.
type EncryptionResult struct {
	ThreadID string `json:"thread_id"`
	ThreadEncryption
}

// EncryptionKeys is the body of GET /admin/encryption/keys: a page of the KEKs, by
// ID. What a KEK is said to be is what its row in the key process says, and no
// proof that it opens.
type EncryptionKeys struct {
	// Available is false where the key process does not tell this server of its keys:
	// then there is neither root nor KEK, and Message says what to do.
	Available  bool       `json:"available"`
	Message    string     `json:"message,omitzero"`
	Root       *RootKey   `json:"root,omitzero"`
	WrapLimit  int64      `json:"wrap_limit,omitzero"` // wraps that one version makes at most
	KEKs       []KEK      `json:"keks"`
	MaxAge     KeyAges    `json:"max_age"`
	Pagination Pagination `json:"pagination"`
}

// RootKey is what protects the KEKs.
type RootKey struct {
	Kind  string `json:"kind"`  // file, or pkcs11: a token, as an HSM is one
	State string `json:"state"` // unlocked, or locked: it cannot be used now
}

// KEK is a key-encryption key. The last version is the primary.
type KEK struct {
	ID       string       `json:"kek_id"`
	Of       string       `json:"of"`                // vault, threads, server (what it stores beside them) or key-process
	VaultID  string       `json:"vault_id,omitzero"` // of is vault: whose it is, or was before it was deleted
	Damaged  bool         `json:"damaged,omitzero"`  // its row cannot be read; there are no versions
	Versions []KEKVersion `json:"versions"`
}

// KEKVersion is one version of a KEK.
type KEKVersion struct {
	Version    int       `json:"version"`
	State      string    `json:"state"` // enabled (the primary), decrypt-only or destroyed
	CreatedAt  time.Time `json:"created_at"`
	Imported   bool      `json:"imported,omitzero"`    // its material was made elsewhere, where it may still be
	Wraps      int64     `json:"wraps"`                // made or reserved so far; see wrap_limit
	Released   bool      `json:"released,omitzero"`    // nothing of this server is under it any more
	ThreadDEKs *int      `json:"thread_deks,omitzero"` // with the query count=true, of the threads' KEK: DEKs under it, as of the last minute
}

// EncryptionDEKs is the body of GET /admin/encryption/deks: the DEKs of the threads
// that were named. What is said of EncryptionKeys holds here; where Available is
// false, the server tells what it knows of the DEKs by itself.
type EncryptionDEKs struct {
	Available bool   `json:"available"`
	Message   string `json:"message,omitzero"`
	SealLimit int64  `json:"seal_limit,omitzero"` // encryptions that a DEK makes at most
	DEKs      []DEK  `json:"deks"`
}

// DEK is a data-encryption key of a thread. A new one has an ID of its own.
type DEK struct {
	ThreadID string `json:"thread_id"`
	KeyID    string `json:"key_id"`

	// State is enabled; decrypt-only, of the one before while a job takes the thread's
	// rows from under it; missing or damaged where the key process says so.
	State      string    `json:"state"`
	KEKVersion int       `json:"kek_version"`         // that it is wrapped under
	CreatedAt  time.Time `json:"created_at,omitzero"` // absent: not known
	Seals      int64     `json:"seals,omitzero"`      // encryptions made or reserved so far; see seal_limit; absent: not told
}

// KeyAges are the ages in seconds at which keys are due to be rotated; absent: none.
// They are the operator's policy, which is shown: nothing rotates by itself.
type KeyAges struct {
	KEK  int64 `json:"kek,omitzero"`
	DEK  int64 `json:"dek,omitzero"` // of a thread
	CMEK int64 `json:"cmek,omitzero"`
}
