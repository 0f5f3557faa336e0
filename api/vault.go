// Package api is the wire of Keyfold's server: request and response bodies,
// headers and problems. Field sets follow the published vault and thread APIs;
// the bodies marked strict carry exactly these members, since a published
// client refuses any other.
//
// Times are RFC 3339. IDs are opaque strings. Absent members are left out: by
// omitzero where omitempty would mean one thing to encoding/json and another
// to its second version, which would leave out {} and send false.
package api

import (
	"encoding/json"
	"time"
)

// Headers beyond the standard ones.
const (
	// HeaderCMEKFingerprint declares, on a write, the key that the value was
	// sealed with, and names it on every read of a sealed version.
	HeaderCMEKFingerprint = "X-Keyfold-Cmek-Fingerprint"
	HeaderRequestID       = "X-Request-Id"
	HeaderSession         = "X-Keyfold-Session" // "cookie": see Refresh
)

// CreateVault is the body of POST /v1/vaults.
type CreateVault struct {
	Name        string `json:"name"` // 1 to 200 characters, any text
	Description string `json:"description,omitzero"`
}

// Vault is a vault (strict).
type Vault struct {
	ID              string    `json:"id"`
	Name            string    `json:"name"`
	Description     string    `json:"description,omitempty"`
	CreatedBy       string    `json:"created_by"`      // UUID
	CreatedByType   string    `json:"created_by_type"` // "user" or "agent"
	CreatedAt       time.Time `json:"created_at"`
	CMEKEnabled     bool      `json:"cmek_enabled"`
	CMEKFingerprint string    `json:"cmek_fingerprint,omitempty"` // 64 lower-case hex
}

// Vaults is the body of GET /v1/vaults.
type Vaults struct {
	Vaults []Vault `json:"vaults"`
}

// MaxSecretPath is the greatest length of a secret's path, in bytes.
const MaxSecretPath = 512

// PutSecret is the body of PUT /v1/vaults/{id}/secrets/{path}.
type PutSecret struct {
	Type           string          `json:"type,omitempty"`    // see SecretTypes; "generic" when absent
	Value          *string         `json:"value"`             // any string; a blob when the vault is sealed
	Metadata       json.RawMessage `json:"metadata,omitzero"` // a JSON object
	ExpiresAt      *time.Time      `json:"expires_at,omitzero"`
	RotationPolicy json.RawMessage `json:"rotation_policy,omitzero"`
	MaxAccessCount *int            `json:"max_access_count,omitzero"` // 1 or more
}

// SecretTypes are the accepted types of a secret.
var SecretTypes = []string{"generic", "password", "api_key", "private_key", "certificate", "file", "note", "ssh_key", "env_bundle", "env"}

// Secret is a version of a secret with its value (strict).
type Secret struct {
	ID            string          `json:"id"`
	Path          string          `json:"path"`
	Type          string          `json:"type"`
	Value         string          `json:"value"`
	Version       int             `json:"version"`
	CreatedAt     time.Time       `json:"created_at"`
	Metadata      json.RawMessage `json:"metadata,omitzero"`
	CreatedBy     string          `json:"created_by"` // "user:<uuid>" or "agent:<uuid>"
	ExpiresAt     *time.Time      `json:"expires_at,omitzero"`
	CMEKEncrypted bool            `json:"cmek_encrypted"`
}

// SecretMetadata is a version of a secret without its value (strict).
type SecretMetadata struct {
	ID        string          `json:"id"`
	Path      string          `json:"path"`
	Type      string          `json:"type"`
	Version   int             `json:"version"`
	CreatedAt time.Time       `json:"created_at"`
	Metadata  json.RawMessage `json:"metadata,omitzero"`
	ExpiresAt *time.Time      `json:"expires_at,omitzero"`
}

// Secrets is the body of GET /v1/vaults/{id}/secrets.
type Secrets struct {
	Secrets []ListedSecret `json:"secrets"`
}

// ListedSecret is a SecretMetadata with, where the query details=true asks for
// them, who wrote the version and whether it is sealed.
type ListedSecret struct {
	SecretMetadata
	CreatedBy     string `json:"created_by,omitzero"`     // "user:<uuid>" or "agent:<uuid>"; absent: not asked for, or not known
	CMEKEncrypted *bool  `json:"cmek_encrypted,omitzero"` // the customer sealed it; absent: not asked for, or not known
}

// VersionMetadata is one entry of Versions.
type VersionMetadata struct {
	ListedSecret
	IsDisabled bool `json:"is_disabled"`
}

// Versions is the body of GET /v1/vaults/{id}/secret-versions/{path}, newest first.
type Versions struct {
	Versions []VersionMetadata `json:"versions"`
}

// GenerateSecret is the body of POST /v1/vaults/{id}/secret-rotate/{path}.
type GenerateSecret struct {
	Length  *int   `json:"length,omitzero"`   // 8 to 1024 characters; 32 when absent
	Charset string `json:"charset,omitempty"` // hex, base64, alphanumeric or ascii; hex when absent
	Type    string `json:"type,omitempty"`    // kept when absent
}
