package api

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
