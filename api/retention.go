package api

// PurgeStarted is the body of POST /admin/jobs/purge.
type PurgeStarted struct {
	Status  string `json:"status"` // "ok"
	Message string `json:"message"`
	JobID   string `json:"job_id"` // see GET /admin/jobs/{job}
}
