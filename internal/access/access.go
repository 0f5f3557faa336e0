// Package access decides who may do what. Allow is the one decision in
// Keyfold; each domain package asks it through one gate method, before it
// looks at what the caller named.
package access

import "github.com/keyfold/keyfold/internal/fault"

// Kind tells people from programs.
type Kind string

// The kinds of principal.
const (
	User     Kind = "user"
	Agent    Kind = "agent"
	Operator Kind = "operator" // who runs this server: its keys' life and its jobs, and nobody's data
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

// Principal is an authenticated caller. The zero Principal may do nothing.
type Principal struct {
	Kind  Kind
	ID    string // UUID of the user or agent, or of the operator's key
	OrgID string
	Plan  Plan // of the org
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
	ThreadCreate  Action = "thread.create"
	ThreadRead    Action = "thread.read"
	ThreadWrite   Action = "thread.write"
	ThreadDelete  Action = "thread.delete"
	MessageAppend Action = "message.append"
	MessageRead   Action = "message.read"

	// Operate is all that an operator may do, and nobody else.
	Operate Action = "server.operate"
)

// Resource is the object of an action: the vault or thread that holds it, with
// the facts that the decision needs.
type Resource struct {
	OrgID   string // the org that owns it
	OwnerID string // the principal that created it; empty for an action that creates
	Path    string // the secret's path, for secret actions
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
