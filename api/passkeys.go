package api

import (
	"encoding/json"
	"time"
)

// Passkeys (WebAuthn), beside passwords:
//
//	POST   /v1/auth/passkeys/register/begin    signed in; no body   -> 200 PasskeyChallenge: give Options to navigator.credentials.create
//	POST   /v1/auth/passkeys/register/finish   signed in; FinishPasskey -> 201 Passkey
//	GET    /v1/auth/passkeys                   signed in            -> 200 Passkeys
//	DELETE /v1/auth/passkeys/{id}              signed in            -> 204
//	POST   /v1/auth/passkeys/login/begin       public; no body      -> 200 PasskeyChallenge: give Options to navigator.credentials.get
//	POST   /v1/auth/passkeys/login/finish      public; FinishPasskey -> 200, as POST /v1/auth/token
//
// A challenge is good once, for five minutes. Every failed login/finish is the
// same 401.

// PasskeyChallenge begins a registration or a sign-in.
type PasskeyChallenge struct {
	ChallengeID string          `json:"challenge_id"`
	Options     json.RawMessage `json:"options"` // {"publicKey": ...} as browsers take it, binary in base64url
}

// FinishPasskey ends what a PasskeyChallenge began.
type FinishPasskey struct {
	ChallengeID string          `json:"challenge_id"`
	Name        string          `json:"name,omitempty"` // of a new passkey, for its owner: up to 100 characters
	Credential  json.RawMessage `json:"credential"`     // PublicKeyCredential.toJSON()
}

// Passkey is a registered passkey.
type Passkey struct {
	ID         string     `json:"id"` // UUID
	Name       string     `json:"name"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at,omitzero"`
	// CloneWarning says that the passkey's counter once went backwards, as it
	// does when there are two copies of it. It no longer signs in.
	CloneWarning bool `json:"clone_warning"`
}

// Passkeys is the body of GET /v1/auth/passkeys, oldest first.
type Passkeys struct {
	Passkeys []Passkey `json:"passkeys"`
}
