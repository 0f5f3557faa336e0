package api

// Health is the body of GET /healthz, /readyz, /v1/health and /v1/health/hsm.
type Health struct {
	Status  string `json:"status"` // "ok"; of /v1/health "healthy" or "degraded", of /v1/health/hsm "ok" or "unavailable"
	Version string `json:"version,omitzero"`

	// Encryption is "off" where messages are stored in clear, as the server's
	// configuration wants, and "incomplete" where they were and not all threads are
	// encrypted since: call POST /admin/encryption/encrypt-existing. Left out otherwise.
	Encryption string `json:"encryption,omitzero"`

	// KeyProcesses is left out of a server with one key process. While fewer answer
	// than there are, keys can be used, and /v1/health is "degraded".
	KeyProcesses KeyProcesses `json:"key_processes,omitzero"`
}

// KeyProcesses says how many of a server's key processes answer.
type KeyProcesses struct {
	Answering int `json:"answering"`
	Of        int `json:"of"`
}
