package api

// Health is the body of GET /healthz, /readyz, /v1/health and /v1/health/hsm.
type Health struct {
	Status  string `json:"status"` // "ok"; of /v1/health "healthy" or "degraded", of /v1/health/hsm "ok" or "unavailable"
	Version string `json:"version,omitzero"`
}
