package api

import "time"

// Headers that carry the keys of a rotation, standard base64 of 32 bytes each.
// They are refused on a connection that others can read.
const (
	HeaderCMEKOldKey = "X-Cmek-Old-Key"
	HeaderCMEKNewKey = "X-Cmek-New-Key"
)

// The problem types of customer-managed keys.
const (
	ProblemCMEKKeyMismatch     = "cmek_key_mismatch"     // 409: the declared fingerprint is not the vault's, nor the new one of its rotation
	ProblemCMEKBlobRequired    = "cmek_blob_required"    // 400: the vault is sealed and the value is not a blob of the vault's version
	ProblemCMEKRotationClosing = "cmek_rotation_closing" // 409: the rotation is about to end; seal with the new key, or come again after Retry-After
	ProblemCMEKRotating        = "cmek_rotating"         // 409: a rotation is under way, with other keys or to be cancelled first
	ProblemCMEKOldKey          = "cmek_old_key"          // 400: the old key is missing, malformed or not the vault's
	ProblemCMEKNewKey          = "cmek_new_key"          // 400: the new key is missing, malformed or not the one of new_fingerprint
	ProblemCMEKKeyCheck        = "cmek_key_check"        // 400: the new key check is not the new key's for this vault
	ProblemCMEKTransport       = "cmek_unsafe_transport" // 400: keys came over a connection that others can read

	ProblemCMEKSealedKeys      = "cmek_sealed_keys"       // 400: sealed_keys do not open for this vault and these fingerprints
	ProblemCMEKRotationKeyGone = "cmek_rotation_key_gone" // 400: the one-time key was used, or its time is over; nothing was begun. Ask for another
	ProblemCMEKRotationsFull   = "cmek_rotations_full"    // 503: the key process holds the keys of as many rotations as it can
	ProblemCMEKShareUsed       = "cmek_share_used"        // 429: the org has its share of rotations, or of one-time keys; come again after Retry-After
)

// EnableCMEK is the body of POST /v1/vaults/{id}/cmek.
type EnableCMEK struct {
	Fingerprint string `json:"fingerprint"`           // 64 hex
	KeyCheck    string `json:"key_check,omitzero"`    // 64 hex: cmek.Key.Check of the vault's ID; absent: none is kept
	BlobVersion int    `json:"blob_version,omitzero"` // of the blobs to be written: 1, or 2, which are bound to vault and path; absent: 1, or with replaces as before
	Replaces    string `json:"replaces,omitzero"`     // fingerprint of the vault's key, for this one to take its place in one step; absent: the vault is not sealed
}

// CMEKStatus is the body of GET /v1/vaults/{id}/cmek. With the query keys=false
// it says nothing of stored versions, and costs no scan of them.
type CMEKStatus struct {
	Enabled     bool             `json:"enabled"`
	Fingerprint string           `json:"fingerprint,omitzero"`  // of the vault's key, which new versions are sealed with
	BlobVersion int              `json:"blob_version,omitzero"` // 1 or 2: of the blobs that a write must bring
	KeyCheck    string           `json:"key_check,omitzero"`    // see EnableCMEK
	Since       *time.Time       `json:"since,omitzero"`        // when the key became the vault's; absent: not known
	MaxAge      int64            `json:"max_age,omitzero"`      // seconds after since at which the operator's policy has the key rotated; absent: none
	Keys        []CMEKKey        `json:"keys,omitempty"`        // every key that a stored version needs; the vault's first, then those that were used last
	Plain       int              `json:"plain,omitzero"`        // stored versions that are not sealed
	Damaged     int              `json:"damaged,omitzero"`      // stored versions whose rows do not parse
	Rotation    *CMEKRotationJob `json:"rotation,omitzero"`     // under way or interrupted
}

// CMEKKey says what needs one key. Old, disabled, expired and deleted versions
// count as long as they are stored.
type CMEKKey struct {
	Fingerprint string    `json:"fingerprint"`
	Versions    int       `json:"versions"` // that are stored and sealed with it
	Newest      int       `json:"newest"`   // of these, the newest of a secret that is not deleted
	Oldest      time.Time `json:"oldest"`   // when the first of these was written
	Latest      time.Time `json:"latest"`   // when the last of these was written
}

// RotateCMEK is the body of POST /v1/vaults/{id}/cmek-rotate. The two keys come
// in SealedKeys, or in the headers HeaderCMEKOldKey and HeaderCMEKNewKey.
type RotateCMEK struct {
	NewFingerprint string          `json:"new_fingerprint"`        // 64 hex
	NewKeyCheck    string          `json:"new_key_check,omitzero"` // see EnableCMEK; one that is not the new key's is refused
	AcceptFailed   bool            `json:"accept_failed,omitzero"` // complete in spite of versions that open with neither key
	SealedKeys     *SealedCMEKKeys `json:"sealed_keys,omitzero"`
}

// SealedCMEKKeys are the old key and then the new one, 64 bytes, sealed by HPKE
// in base mode to the public key of a CMEKRotationKey, with the info
//
//	keyfold/cmek-rotation/v1 LF vault ID LF old fingerprint LF new fingerprint
//
// and no AAD. LF is one byte, 0x0a.
type SealedCMEKKeys struct {
	KeyID      string `json:"key_id"`
	Enc        []byte `json:"enc"` // the encapsulated key
	Ciphertext []byte `json:"ciphertext"`
}

// CMEKRotationKey is the body of GET /v1/vaults/{id}/cmek-rotate-key: a public
// key of the key process, for one use.
type CMEKRotationKey struct {
	KeyID     string    `json:"key_id"`
	Suite     string    `json:"suite"`
	PublicKey []byte    `json:"public_key"`
	ExpiresAt time.Time `json:"expires_at"`
}

// CMEKRotationJob is one rotation (strict). It is said to be running only while
// the key process says that it has the keys, which it has 2 seconds for.
type CMEKRotationJob struct {
	ID             string     `json:"id"`
	VaultID        string     `json:"vault_id"`
	OldFingerprint string     `json:"old_fingerprint"`
	NewFingerprint string     `json:"new_fingerprint"`
	Status         string     `json:"status"`         // running, interrupted (send the same request again), completed, failed or cancelled
	TotalSecrets   int        `json:"total_secrets"`  // versions under the old fingerprint; 0 before they were counted; more may come while it runs
	Processed      int        `json:"processed"`      // of these
	Error          string     `json:"error,omitzero"` // why it does not run, or what it waits for; of versions that do not open the first 100 names
	CreatedAt      time.Time  `json:"created_at"`
	StartedAt      *time.Time `json:"started_at,omitzero"`
	CompletedAt    *time.Time `json:"completed_at,omitzero"` // when it ended
}

// Ended reports whether nothing more happens to the rotation unless somebody asks.
func (j CMEKRotationJob) Ended() bool { return j.Status != "running" }

// CMEKRotations is the body of GET /v1/vaults/{id}/cmek-rotations, newest first.
type CMEKRotations struct {
	Rotations []CMEKRotationJob `json:"rotations"`
}
