package api

import (
	"encoding/json"
	"time"
)

// CreatePolicy is the body of POST /v1/vaults/{id}/policies.
type CreatePolicy struct {
	SecretPathPattern string          `json:"secret_path_pattern"` // see Policy
	PrincipalType     string          `json:"principal_type"`      // "user" or "agent"
	PrincipalID       string          `json:"principal_id"`        // UUID
	Permissions       []string        `json:"permissions"`         // one or more of PolicyPermissions
	Conditions        json.RawMessage `json:"conditions,omitzero"` // see PolicyConditions
	ExpiresAt         *time.Time      `json:"expires_at,omitzero"`
	Effect            string          `json:"effect,omitempty"`  // "allow" or "deny"; allow when absent
	Priority          int             `json:"priority,omitzero"` // 0 to 2147483647; the greater goes before the less

	// AttributeConditions is refused unless it is empty: it would limit the
	// policy, and is not evaluated.
	AttributeConditions json.RawMessage `json:"attribute_conditions,omitzero"`
}

// UpdatePolicy is the body of PUT /v1/vaults/{id}/policies/{policy}. What is
// absent or null is kept; {} takes the conditions off. Pattern and principal of
// a policy are fixed.
type UpdatePolicy struct {
	Permissions []string        `json:"permissions,omitempty"`
	Conditions  json.RawMessage `json:"conditions,omitzero"`
	ExpiresAt   *time.Time      `json:"expires_at,omitzero"`
	Effect      string          `json:"effect,omitempty"`
	Priority    *int            `json:"priority,omitzero"`

	AttributeConditions json.RawMessage `json:"attribute_conditions,omitzero"` // see CreatePolicy
}

// Policy is what one principal may do, or may not, with the secrets of a vault
// whose paths match a pattern (strict). In a pattern, segments stand between
// slashes; "*" is exactly one segment and "**" any number of them, none
// included; all else is literal.
type Policy struct {
	ID                string          `json:"id"`
	VaultID           string          `json:"vault_id"`
	SecretPathPattern string          `json:"secret_path_pattern"`
	PrincipalType     string          `json:"principal_type"`
	PrincipalID       string          `json:"principal_id"`
	Permissions       []string        `json:"permissions"`
	Conditions        json.RawMessage `json:"conditions,omitzero"`
	ExpiresAt         *time.Time      `json:"expires_at,omitzero"`
	CreatedAt         time.Time       `json:"created_at"`
	CreatedBy         string          `json:"created_by"`      // UUID
	CreatedByType     string          `json:"created_by_type"` // "user"

	// These two are there only when they say something: "deny", and more than 0.
	Effect   string `json:"effect,omitempty"`
	Priority int    `json:"priority,omitzero"`
}

// Policies is the body of GET /v1/vaults/{id}/policies, oldest first.
type Policies struct {
	Policies []Policy `json:"policies"`
}

// PolicyPermissions are what a policy can give: read (the value, versions,
// listing), write (which includes delete and rotate), delete, rotate (a value
// that the server makes).
var PolicyPermissions = []string{"read", "write", "delete", "rotate"}

// PolicyConditions are the conditions of a policy; all that are there must
// hold. In JSON:
//
//	{"ip_allowlist": ["10.0.0.0/8", "2001:db8::7"],
//	 "time_window": {"after": "22:00", "before": "06:00", "timezone": "Europe/Berlin", "weekdays": ["fri", "sat"]},
//	 "environment_in": ["production"]}
//
// A window runs from after (included) to before (excluded) on the clock of the
// timezone, UTC when absent; over midnight when before is the earlier, and then
// its weekday is that of its beginning. Each of after, before and weekdays may
// be absent, not all. No agent has an environment yet, so that a policy with
// environment_in grants nothing.
type PolicyConditions struct {
	IPAllowlist   []string    `json:"ip_allowlist,omitempty"`
	TimeWindow    *TimeWindow `json:"time_window,omitempty"`
	EnvironmentIn []string    `json:"environment_in,omitempty"`
}

// TimeWindow is part of PolicyConditions.
type TimeWindow struct {
	After    string   `json:"after,omitempty"`    // "HH:MM"
	Before   string   `json:"before,omitempty"`   // "HH:MM"
	Timezone string   `json:"timezone,omitempty"` // IANA name
	Weekdays []string `json:"weekdays,omitempty"` // "mon" to "sun"
}
