package api

import "time"

// CreateAgent is the body of POST /v1/agents. Members that other servers take
// beside these, wallets and the like, are passed over.
type CreateAgent struct {
	Name            string     `json:"name"` // 1 to 200 characters, any text
	Description     string     `json:"description,omitzero"`
	AuthMethod      string     `json:"auth_method,omitzero"`        // "api_key", which is also what absent means
	Scopes          []string   `json:"scopes,omitzero"`             // path globs; none: what the agent's policies say when a token is issued
	ExpiresAt       *time.Time `json:"expires_at,omitzero"`         // of the agent
	APIKeyExpiresAt *time.Time `json:"api_key_expires_at,omitzero"` // of its key
	TokenTTLSeconds *int       `json:"token_ttl_seconds,omitzero"`  // 60 to 86400; 3600 when absent
	VaultIDs        []string   `json:"vault_ids,omitzero"`          // the vaults that it is bound to; none: any

	// IntentsAPIEnabled keeps values of the types private_key and ssh_key from it.
	IntentsAPIEnabled bool `json:"intents_api_enabled,omitzero"`
}

// UpdateAgent is the body of PATCH /v1/agents/{id}. A member that is absent or
// null leaves what is there; an empty list empties it.
type UpdateAgent struct {
	Name            *string    `json:"name,omitzero"`
	Description     *string    `json:"description,omitzero"`
	AuthMethod      string     `json:"auth_method,omitzero"` // "api_key"
	IsActive        *bool      `json:"is_active,omitzero"`   // false ends its tokens at once
	Scopes          []string   `json:"scopes,omitzero"`
	ExpiresAt       *time.Time `json:"expires_at,omitzero"`
	APIKeyExpiresAt *time.Time `json:"api_key_expires_at,omitzero"`
	TokenTTLSeconds *int       `json:"token_ttl_seconds,omitzero"`
	VaultIDs        []string   `json:"vault_ids,omitzero"`

	IntentsAPIEnabled *bool `json:"intents_api_enabled,omitzero"`
}

// Agent is a program that acts for an org (strict).
type Agent struct {
	ID                string     `json:"id"`
	Name              string     `json:"name"`
	Description       string     `json:"description,omitempty"`
	AuthMethod        string     `json:"auth_method"` // "api_key"
	IsActive          bool       `json:"is_active"`
	IntentsAPIEnabled bool       `json:"intents_api_enabled"`
	ShroudEnabled     bool       `json:"shroud_enabled"` // false: no part of Keyfold
	Scopes            []string   `json:"scopes"`
	TokenTTLSeconds   int        `json:"token_ttl_seconds"`
	VaultIDs          []string   `json:"vault_ids"`
	CreatedAt         time.Time  `json:"created_at"`
	ExpiresAt         *time.Time `json:"expires_at,omitzero"`
	LastActiveAt      *time.Time `json:"last_active_at,omitzero"` // late by some minutes
}

// AgentCreated is the answer to POST /v1/agents (strict). The key is shown this once.
type AgentCreated struct {
	Agent  Agent  `json:"agent"`
	APIKey string `json:"api_key"` // "ocv_..."
}

// Agents is the body of GET /v1/agents, oldest first: of ?limit=1000, at most
// and by default, after ?cursor=.
type Agents struct {
	Agents     []Agent `json:"agents"`
	NextCursor string  `json:"next_cursor,omitzero"` // absent: these are the last

	// APIKeysExpire says, by the ID of an agent, when its key ends; of a key without
	// an end nothing. It is here since an Agent is strict.
	APIKeysExpire map[string]time.Time `json:"api_keys_expire,omitzero"`
}

// AgentSelf is the body of GET /v1/agents/me, which an agent asks for itself.
type AgentSelf struct {
	ID                string     `json:"id"`
	Name              string     `json:"name"`
	Description       string     `json:"description"`
	OrgID             string     `json:"org_id"`
	Scopes            []string   `json:"scopes"`
	VaultIDs          []string   `json:"vault_ids"`
	IsActive          bool       `json:"is_active"`
	IntentsAPIEnabled bool       `json:"intents_api_enabled"`
	CreatedBy         string     `json:"created_by"` // UUID of a user
	CreatedAt         time.Time  `json:"created_at"`
	ExpiresAt         *time.Time `json:"expires_at,omitzero"`
	LastActiveAt      *time.Time `json:"last_active_at,omitzero"`
}

// AgentKeyRotated is the answer to POST /v1/agents/{id}/rotate-key. The key
// before it is dead.
type AgentKeyRotated struct {
	APIKey string `json:"api_key"`
}

// DeleteAgents is the body of POST /v1/agents/batch-delete.
type DeleteAgents struct {
	AgentIDs []string `json:"agent_ids"` // 1 to 500
}

// AgentsDeleted is its answer.
type AgentsDeleted struct {
	Deleted int               `json:"deleted"`
	Failed  int               `json:"failed"`
	Errors  []AgentNotDeleted `json:"errors"`
}

// AgentNotDeleted says why one of the agents is still there.
type AgentNotDeleted struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// EnrollAgent is the body of POST /v1/agents/enroll, which anybody may send: a
// program asks for a human who makes it an agent.
type EnrollAgent struct {
	Name        string `json:"name"`
	HumanEmail  string `json:"human_email,omitzero"`
	Description string `json:"description,omitzero"`
}

// AgentEnrolled is its answer, the same for everybody, and never a key.
type AgentEnrolled struct {
	AgentID     string `json:"agent_id"` // the nil UUID
	Message     string `json:"message"`
	ApprovalURL string `json:"approval_url"`
}

// AgentToken is the answer to POST /v1/auth/agent-token: a Token (strict), and
// for those who did not name the agent, who it is.
type AgentToken struct {
	Token
	AgentID  string   `json:"agent_id,omitzero"`
	VaultIDs []string `json:"vault_ids,omitzero"`
}

// GetAgentToken is the body of POST /v1/auth/agent-token.
type GetAgentToken struct {
	APIKey  string `json:"api_key"`           // "ocv_..."
	AgentID string `json:"agent_id,omitzero"` // whose key it must be
}

// GetAPIKeyToken is the body of POST /v1/auth/api-key-token, which answers a Token.
type GetAPIKeyToken struct {
	APIKey string `json:"api_key"` // "1ck_..."
}

// Roles of API keys that are no user's.
const (
	RoleFrontend = "frontend" // in a browser: threads and messages of the user whose ID comes signed
	RoleBackend  = "backend"  // on an org's server: threads and messages of the user that it names
	RoleAdmin    = "admin"    // runs the Keyfold server
)

// CreateAPIKey is the body of POST /v1/auth/api-keys, and of POST /admin/keys,
// which makes admin keys.
type CreateAPIKey struct {
	Name      string     `json:"name"`            // 1 to 200 characters
	Scopes    []string   `json:"scopes,omitzero"` // path globs; none: no limit
	ExpiresAt *time.Time `json:"expires_at,omitzero"`
	Role      string     `json:"role,omitzero"` // "": a key of the caller's own; "frontend" or "backend": of the org
}

// APIKey is what is known of an API key.
type APIKey struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	KeyPrefix  string     `json:"key_prefix"` // its first 12 characters
	Scopes     []string   `json:"scopes"`
	IsActive   bool       `json:"is_active"` // false: expired
	CreatedAt  time.Time  `json:"created_at"`
	ExpiresAt  *time.Time `json:"expires_at,omitzero"`
	LastUsedAt *time.Time `json:"last_used_at,omitzero"` // late by some minutes
	Role       string     `json:"role,omitzero"`
}

// APIKeyCreated is the answer to POST /v1/auth/api-keys. The key is shown this once.
type APIKeyCreated struct {
	Key    APIKey `json:"key"`
	APIKey string `json:"api_key"` // "1ck_..."
}

// APIKeys is the body of GET /v1/auth/api-keys: the caller's, and the org's for
// those who may make them; oldest first.
type APIKeys struct {
	Keys []APIKey `json:"keys"`
}

// Headers that name the end user of a frontend or backend key.
const (
	HeaderUserID        = "X-User-Id"
	HeaderUserSignature = "X-User-Signature"
)

// Sign is the body of POST /v1/_sign.
type Sign struct {
	UserID string `json:"userId"` // 1 to 36 bytes, without control characters
}

// Signed is its answer.
type Signed struct {
	UserID    string `json:"userId"`
	Signature string `json:"signature"` // hex HMAC-SHA256 of the user ID under a signing secret of the org
}

// SigningKey is a signing secret of an org, without the secret.
type SigningKey struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at"`
}

// SigningKeyCreated is the answer to POST /v1/org/signing-keys. The secret is
// shown this once, for those who sign without asking; its bytes as they stand
// are the key of the HMAC.
type SigningKeyCreated struct {
	SigningKey SigningKey `json:"signing_key"`
	Secret     string     `json:"secret"`
}

// SigningKeys is the body of GET /v1/org/signing-keys, oldest first. The newest
// one signs, all of them are taken.
type SigningKeys struct {
	SigningKeys []SigningKey `json:"signing_keys"`
}
