package api

import "time"

// AuditEvent is one event of an org's trail. Package auditcheck says what the
// hash covers and how the ID names the event's place.
type AuditEvent struct {
	ID            string            `json:"id"` // UUID
	OrgID         string            `json:"org_id"`
	ActorType     string            `json:"actor_type"` // "user", "agent", "end_user", "org_key", "operator" or "anonymous"
	ActorID       string            `json:"actor_id"`
	Action        string            `json:"action"`
	ResourceType  string            `json:"resource_type"`
	ResourceID    string            `json:"resource_id"`
	Outcome       string            `json:"outcome"` // "allowed", "refused", "failed", or "done" for what took effect
	Details       map[string]string `json:"details"` // facts, such as vault_id and path; never a value
	IPAddress     string            `json:"ip_address,omitempty"`
	RequestID     string            `json:"request_id,omitempty"`
	CreatedAt     time.Time         `json:"created_at"`              // to the nanosecond
	PrevEventID   string            `json:"prev_event_id,omitempty"` // absent from the first of a chain
	PrevHash      string            `json:"prev_hash"`               // 64 hex; of the first of a chain zeros
	IntegrityHash string            `json:"integrity_hash"`          // 64 hex
}

// AuditEvents is the body of GET /v1/audit/events, newest first. The query may
// name resource_id (of the resource, or of the vault that it is in), actor_id,
// action, from (inclusive), to (exclusive), limit (1 to 1000; 100 when absent)
// and offset (up to 10000). GET /v1/audit takes vault_id beside them and answers
// the bare array.
type AuditEvents struct {
	Events []AuditEvent `json:"events"`
	Count  int          `json:"count"` // of Events

	// One call looks at 10000 events or little more. Where that ended it before
	// limit events were found, go on with to=NextTo and offset=NextOffset.
	NextTo     *time.Time `json:"next_to,omitzero"`
	NextOffset int        `json:"next_offset,omitzero"`
}

// AuditVerification is the body of GET /v1/audit/verify. The query may name from
// (inclusive), to (exclusive) and limit (1 to 10000; 1000 when absent). With from
// the first events from there on are checked, else the newest before to.
type AuditVerification struct {
	ChainValid      bool        `json:"chain_valid"`
	EventsVerified  int         `json:"events_verified"` // of the checked, those with nothing wrong
	EventsChecked   int         `json:"events_checked"`
	BrokenAtEventID *string     `json:"broken_at_event_id"` // the first; null when none, or when a checkpoint alone is wrong
	Scheme          AuditScheme `json:"scheme"`

	Reason             string           `json:"reason,omitempty"` // what is wrong first
	EventsSigned       int              `json:"events_signed"`    // of the checked, those under a signed checkpoint
	CheckpointsChecked int              `json:"checkpoints_checked"`
	Checkpoint         *AuditCheckpoint `json:"checkpoint,omitzero"` // the newest of the org: save it, and give it to a later check
	NextFrom           *time.Time       `json:"next_from,omitzero"`  // with from: there is more; go on here
}

// AuditScheme says how a trail is made safe.
type AuditScheme struct {
	Algorithm      string `json:"algorithm"`
	ChainStructure string `json:"chain_structure"`
	HashField      string `json:"hash_field"`
	LinkField      string `json:"link_field"`
	Documentation  string `json:"documentation"`
}

// AuditHead is the last event of a chain when a checkpoint was made.
type AuditHead struct {
	EventID       string    `json:"event_id"`
	CreatedAt     time.Time `json:"created_at"`
	IntegrityHash string    `json:"integrity_hash"` // 64 hex
}

// AuditCheckpoint is what the server signs of an org's trail: the heads of the
// chains that moved since its checkpoint before.
type AuditCheckpoint struct {
	OrgID     string      `json:"org_id"`
	Number    uint64      `json:"number"` // from 1, without gaps
	CreatedAt time.Time   `json:"created_at"`
	PrevHash  string      `json:"prev_hash"` // 64 hex: of the checkpoint before; of the first zeros
	Heads     []AuditHead `json:"heads"`
	KeyID     string      `json:"key_id"`
	Signature []byte      `json:"signature"` // Ed25519, 64 bytes as base64
}

// AuditKey is a key that signs checkpoints, or did.
type AuditKey struct {
	ID        string    `json:"id"`
	Algorithm string    `json:"algorithm"`  // "Ed25519"
	PublicKey []byte    `json:"public_key"` // 32 bytes as base64
	CreatedAt time.Time `json:"created_at"`
}

// AuditKeys is the body of GET /.well-known/keyfold-audit.json, newest first.
type AuditKeys struct {
	Keys []AuditKey `json:"keys"`
}

// AuditExportLine is one line of GET /v1/audit/export: first Export, then
// checkpoints, then events in the order of time, then End. One member is set.
type AuditExportLine struct {
	Export     *AuditExport     `json:"export,omitzero"`
	Checkpoint *AuditCheckpoint `json:"checkpoint,omitzero"`
	Event      *AuditEvent      `json:"event,omitzero"`
	Damaged    string           `json:"damaged,omitempty"` // ID of an event that is not as it was written
	End        *AuditExportEnd  `json:"end,omitzero"`
}

// AuditExport begins an export.
type AuditExport struct {
	Format    int        `json:"format"` // 1
	OrgID     string     `json:"org_id"`
	From      *time.Time `json:"from,omitzero"` // inclusive; absent: from the beginning
	To        time.Time  `json:"to"`            // exclusive
	CreatedAt time.Time  `json:"created_at"`
	Keys      []AuditKey `json:"keys"`
}

// AuditExportEnd ends an export that is whole.
type AuditExportEnd struct {
	Checkpoints int `json:"checkpoints"`
	Events      int `json:"events"` // damaged ones too
}
