// Package access decides who may do what. Allow is the one decision in
// Keyfold; the domain packages ask it through a Gate, which records it, before
// they look at what the caller named.
//
// It holds no state. It trusts what it is told: who the principal is and where
// the call came from, whose the resource is, and which rules there are.
package access

import (
	"context"
	"net/netip"
)

// Kind tells people from programs.
type Kind string

// The kinds of principal.
const (
	User     Kind = "user"
	Agent    Kind = "agent"
	EndUser  Kind = "end_user" // of an org's own product, named by the org's backend or by a signature: threads and messages alone
	Operator Kind = "operator" // who runs this server: its keys' life and its jobs, and nobody's data
	Scraper  Kind = "scraper"  // a program that reads the server's metrics; Allow lets it do nothing
)

// Role is what a user is in the org.
type Role string

// The roles.
const (
	Owner  Role = "owner"  // everything about the org; there is always one
	Admin  Role = "admin"  // members, agents and policies
	Member Role = "member" // own vaults and agents, and what policies grant
)

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
	Scopes []string // path globs and labels (see IsLabel); of an agent empty grants nothing, of a user it is no limit
	Vaults []string // IDs of the vaults that it is bound to; empty: any

	Intents bool // of an agent that signs through intents: it reads no value of the types private_key and ssh_key
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
	MessageWrite  Action = "message.write" // edit and delete what one has posted, and react
	ThreadShare   Action = "thread.share"  // who takes part in it
	ThreadHold    Action = "thread.hold"   // a legal hold

	RetentionRead  Action = "retention.read" // how long the org keeps threads
	RetentionWrite Action = "retention.write"

	PolicyRead   Action = "policy.read"
	PolicyWrite  Action = "policy.write" // create, update, delete
	AgentRead    Action = "agent.read"
	AgentWrite   Action = "agent.write" // create, update, rotate key, delete
	MemberRead   Action = "member.read"
	MemberWrite  Action = "member.write"  // invite, change role, remove
	APIKeyWrite  Action = "api_key.write" // of the user's own
	OrgKeyWrite  Action = "org_key.write" // frontend and backend keys, signing secrets
	AuditRead    Action = "audit.read"
	PlanRead     Action = "plan.read" // and what the org has used of it
	ProfileRead  Action = "profile.read"
	ProfileWrite Action = "profile.write" // name, password, second factor, passkeys, logout

	// Operate is all that an operator may do, and nobody else.
	Operate Action = "server.operate"
)

// Resource is the object of an action: the vault, thread or thing of the org's
// that holds it, with the facts that the decision needs.
type Resource struct {
	OrgID   string // the org that owns it
	OwnerID string // the principal that created it; empty for an action that creates or lists
	VaultID string // the vault, for actions on it, its secrets and policies; empty for one that creates or lists vaults
	Part    Part   // what p was given of a thread that is another's
	Path    string // the secret's path, for secret actions; empty for the list of a vault's secrets

	Type string // for the record: "vault", "secret", "policy", "agent", "user", "api_key", "thread", ...
	ID   string // for the record: what the action is about, by its ID; of a secret its path
	As   string // for the record: what it is called there, when that says more than the action: "policy.create"

	Details map[string]string // for the record: more facts, none of them secret; see Event
}

// Part is what a participant of a thread may do in it.
type Part string

// The parts.
const (
	Reader Part = "read"  // see it and its messages
	Writer Part = "write" // post as well, and edit, delete and react
)

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
	Done    Outcome = "done"   // what was allowed before has taken effect
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
