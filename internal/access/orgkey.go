package access

// OrgKey is the kind of a frontend or backend key that has not named its end
// user. It may do nothing here: no rule of Allow's is about it.
const OrgKey Kind = "org_key"

// Roles of an org's own keys. An EndUser has the role of the key that named him.
const (
	Frontend Role = "frontend" // in a browser: one end user, by a signature
	Backend  Role = "backend"  // on the org's server, which names whom it likes
)

// Lists of keys, without the keys. Each is decided as the action that makes one.
const (
	APIKeyRead Action = "api_key.read" // of the user's own
	OrgKeyRead Action = "org_key.read" // frontend and backend keys, signing secrets
)
