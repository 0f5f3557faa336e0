package api

import "time"

// HeaderSharePassphrase carries the passphrase of a share on GET
// /v1/share/{id}. POST to the same path takes it in the body (OpenShare).
const HeaderSharePassphrase = "X-Share-Passphrase"

// The types of a share's recipient.
const (
	ShareUser    = "user"             // a user of the org; opens it with own credentials
	ShareAgent   = "agent"            // an agent of the org; opens it with own credentials
	ShareCreator = "creator"          // who makes the share
	ShareEmail   = "external_email"   // whoever has the link; the address is a note to the maker, and nothing is sent to it
	ShareLink    = "anyone_with_link" // whoever has the link
)

// CreateShare is the body of POST /v1/secrets/{secret_id}/share. A share
// follows the newest version of the secret.
type CreateShare struct {
	RecipientType  string     `json:"recipient_type"`            // a Share constant
	RecipientID    string     `json:"recipient_id,omitempty"`    // UUID of the user or agent
	Email          string     `json:"email,omitempty"`           // of an external_email, or of a user in place of recipient_id
	ExpiresAt      *time.Time `json:"expires_at"`                // required, in the future
	MaxAccessCount *int       `json:"max_access_count,omitzero"` // 1 or more; no limit when absent
	Passphrase     string     `json:"passphrase,omitempty"`      // 4 to 256 bytes; 20 wrong ones in a row end the share
	IPAllowlist    []string   `json:"ip_allowlist,omitempty"`    // addresses and CIDR ranges, at most 100
	Permissions    []string   `json:"permissions,omitempty"`     // absent or ["read"]

	// RecipientHasKey says that the recipient holds the CMEK key of the vault,
	// which CMEKFingerprint names. A sealed value is shared only so: the share
	// hands out the blob.
	RecipientHasKey bool   `json:"recipient_has_key,omitzero"`
	CMEKFingerprint string `json:"cmek_fingerprint,omitempty"` // 64 hex
}

// CreatedShare answers a CreateShare.
type CreatedShare struct {
	ID string `json:"id"` // UUID; names the share in all calls
	// ShareURL is what the recipient opens. For external_email and
	// anyone_with_link its last segment is the ID, a dot, and a secret that is
	// shown only here; whoever has it may open the share.
	ShareURL       string    `json:"share_url"`
	RecipientType  string    `json:"recipient_type"`
	RecipientEmail string    `json:"recipient_email,omitempty"`
	ExpiresAt      time.Time `json:"expires_at"`
	MaxAccessCount *int      `json:"max_access_count,omitzero"`
}

// OpenShare is the body of POST /v1/share/{id}.
type OpenShare struct {
	Passphrase string `json:"passphrase"`
}

// SharedSecret is the body of GET and POST /v1/share/{id}.
type SharedSecret struct {
	ID              string `json:"id"` // of the share
	Path            string `json:"path"`
	Type            string `json:"type"`
	Value           string `json:"value"`
	Version         int    `json:"version"`
	AccessCount     int    `json:"access_count"` // this one included
	MaxAccessCount  *int   `json:"max_access_count,omitzero"`
	CMEKEncrypted   bool   `json:"cmek_encrypted"` // value is a blob
	CMEKFingerprint string `json:"cmek_fingerprint,omitempty"`
	VaultID         string `json:"vault_id,omitempty"` // of a blob: a bound one opens with it and path
}

// Share is an element of Shares.
type Share struct {
	ID             string    `json:"id"`
	VaultID        string    `json:"vault_id"`
	SecretID       string    `json:"secret_id"`
	SecretPath     string    `json:"secret_path"`
	RecipientType  string    `json:"recipient_type"`
	RecipientID    string    `json:"recipient_id,omitempty"`
	RecipientEmail string    `json:"recipient_email,omitempty"`
	CreatedBy      string    `json:"created_by"` // "user:<uuid>"
	AccessCount    int       `json:"access_count"`
	MaxAccessCount *int      `json:"max_access_count,omitzero"`
	ExpiresAt      time.Time `json:"expires_at"`
	CreatedAt      time.Time `json:"created_at"`
	IsExpired      bool      `json:"is_expired"` // by time, by count, or by wrong passphrases
	IsAccepted     bool      `json:"is_accepted"`
}

// Shares is the body of GET /v1/shares/outbound and /v1/shares/inbound, newest
// first.
type Shares struct {
	Shares []Share `json:"shares"`
}

// The problem types of shares.
const (
	ProblemShareSealed     = "share_sealed"     // 409: the value is sealed with a CMEK key and the share does not name it
	ProblemSharePassphrase = "share_passphrase" // 403: the share needs its passphrase, and none or a wrong one came
)
