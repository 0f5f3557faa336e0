// Package access decides who may do what. Allow is the one decision in
// Keyfold; each domain package asks it through one gate method, before it
// looks at what the caller named.
package access

import (
	"context"
	"net/netip"

	"github.com/keyfold/keyfold/internal/fault"
)

// Kind tells people from programs.
type Kind string

// The kinds of principal.
const (
	User     Kind = "user"
	Agent    Kind = "agent"
	EndUser  Kind = "end_user" // of an org's own product, named by the org's backend or by a signature: threads and messages alone
	Operator Kind = "operator" // who runs this server: its keys' life and its jobs, and nobody's data
)

// Role is what a user is in the org.
type Role string

// The roles.
const (
	Owner  Role = "owner"  // everything about the org; there is always one
	Admin  Role = "admin"  // members, agents and policies
	Member Role = "member" // own vaults and agents, and what policies grant
)

// Plan is what an org has bought.
type Plan string

// The plans, least first.
const (
	Free       Plan = "free"
	Pro        Plan = "pro"
	Business   Plan = "business"
	Enterprise Plan = "enterprise"
)

// AllowsCMEK reports whether the plan includes customer-managed keys.
func (p Plan) AllowsCMEK() bool { return p == Business || p == Enterprise }

// Principal is an authenticated caller. The zero Principal may do nothing. It is
// comparable, by the identity of Ceiling.
type Principal struct {
	Kind    Kind
	ID      string // UUID of the user or agent, or of the operator's key; of an EndUser what the org calls him
	OrgID   string
	Plan    Plan     // of the org
	Role    Role     // of a User in the org
	Ceiling *Ceiling // of the token or key; nil: none. An agent always has one

	Credential string     // ID of the token or key that was sent; "": none has one
	Addr       netip.Addr // where the request came from; the zero Addr: not known
	RequestID  string     // of the request, for the record
}

// Ceiling is the most that a credential may, whatever its principal may.
type Ceiling struct {
	Scopes []string // path globs; of an agent empty grants nothing, of a user it is no limit
	Vaults []string // IDs of the vaults that it is bound to; empty: any
}

// Ref is how records name the principal: "user:<uuid>".
func (p Principal) Ref() string { return string(p.Kind) + ":" + p.ID }

// Action is what a principal wants to do with a resource.
type Action string

// The actions.
const (
	VaultCreate   Action = "vault.create"
	VaultRead     Action = "vault.read"
	VaultDelete   Action = "vault.delete"
	VaultCMEK     Action = "vault.cmek"
	SecretRead    Action = "secret.read"
	SecretWrite   Action = "secret.write"
	SecretDelete  Action = "secret.delete"
	SecretRotate  Action = "secret.rotate" // a value that the server makes
	SecretList    Action = "secret.list"
	SecretShare   Action = "secret.share"
	ThreadCreate  Action = "thread.create"
	ThreadRead    Action = "thread.read"
	ThreadWrite   Action = "thread.write"
	ThreadDelete  Action = "thread.delete"
	MessageAppend Action = "message.append"
	MessageRead   Action = "message.read"

	PolicyRead   Action = "policy.read"
	PolicyWrite  Action = "policy.write" // create, update, delete
	AgentRead    Action = "agent.read"
	AgentWrite   Action = "agent.write" // create, update, rotate key, delete
	MemberRead   Action = "member.read"
	MemberWrite  Action = "member.write"  // invite, change role, remove
	APIKeyWrite  Action = "api_key.write" // of the user's own
	OrgKeyWrite  Action = "org_key.write" // frontend and backend keys, signing secrets
	AuditRead    Action = "audit.read"
	ProfileRead  Action = "profile.read"
	ProfileWrite Action = "profile.write" // name, password, second factor, passkeys, logout

	// Operate is all that an operator may do, and nobody else.
	Operate Action = "server.operate"
)

// Resource is the object of an action: the vault, thread or thing of the org's
// that holds it, with the facts that the decision needs.
type Resource struct {
	OrgID   string // the org that owns it
	OwnerID string // the principal that created it; empty for an action that creates
	VaultID string // the vault, for actions on it, its secrets and policies
	Path    string // the secret's path, for secret actions

	Type string // for the record: "vault", "secret", "policy", "agent", "user", "api_key", "thread", ...
	ID   string // for the record: what the action is about, by its ID
}

// Event is what the trail keeps of a decision, or of a thing that happened. It
// never holds a value, a key or a token.
type Event struct {
	OrgID        string // whose trail it is in; "": the operator's
	ActorType    string // a Kind, or "anonymous"
	ActorID      string
	Action       string // an Action, or a name such as "auth.failure"
	ResourceType string
	ResourceID   string
	Outcome      Outcome
	Details      map[string]string // facts such as vault_id, path, reason; keys are lower case with underscores
	Addr         netip.Addr        // zero: not known
	RequestID    string
}

// Outcome is how a decision ended.
type Outcome string

// The outcomes.
const (
	Allowed Outcome = "allowed" // and may have failed later
	Refused Outcome = "refused"
	Failed  Outcome = "failed" // a sign-in with a wrong credential
)

// Recorder appends events to the trail. It returns when e is on stable storage;
// what cannot be recorded must not be done.
type Recorder interface {
	Record(ctx context.Context, e Event) error
}

// Gate is what a domain package asks before it touches anything.
type Gate interface {
	// Check decides whether p may do a on r, and records the decision. The error
	// is nil, or what Allow answers, or the failure to decide or to record.
	Check(ctx context.Context, p Principal, a Action, r Resource) error
	// Filter answers for many paths of one vault, and records nothing: lists
	// Check the list and filter its entries.
	Filter(ctx context.Context, p Principal, a Action, r Resource) (func(path string) bool, error)
}

// Allow returns nil when p may do action on r. The order: a principal of no
// org is unauthenticated; an operator may operate and nothing else, and nobody
// else may; another org's thing does not exist; its creator may do everything;
// anybody of the org may create; the rest is forbidden.
func Allow(p Principal, action Action, r Resource) error {
	switch {
	case p.ID == "" || p.OrgID == "":
		return fault.New(fault.Unauthenticated, "send an API key: Authorization: Bearer 1ck_...")
	case p.Kind == Operator || action == Operate:
		return allowOperator(p, action)
	case p.OrgID != r.OrgID:
		return fault.New(fault.NotFound, "there is no such thing here; check the ID")
	case action == VaultCreate || action == ThreadCreate:
		return nil
	case r.OwnerID != "" && p.ID == r.OwnerID:
		return nil
	}
	return fault.New(fault.Forbidden, "your key may not do %s here; ask the owner for access", action)
}

func allowOperator(p Principal, action Action) error {
	switch {
	case action != Operate:
		return fault.New(fault.Forbidden, "an admin key is for /admin alone; use a user's API key here")
	case p.Kind != Operator:
		return fault.New(fault.Forbidden, "this needs an admin key; a user's API key has no part in running the server")
	}
	return nil
}
