package access

import (
	"slices"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
)

// NotThere is the answer to whoever names what is not there, or another org's.
var NotThere = fault.New(fault.NotFound, "there is no such thing here; check the ID")

// Allow returns nil when p may do a on r. rules are the policies of p on the
// vault of r, now is the time by which they count. The order:
//
// a principal of no org is unauthenticated; an operator may operate and nothing
// else, and nobody else may; another org's thing does not exist; what is not
// for this kind of principal is forbidden, and so is what a limited credential
// does not reach: a vault that it is not bound to, a path outside of its
// scopes; then a policy may grant it, its creator may do it, some things an
// owner or admin of the org, and what names no thing everybody; the rest is
// forbidden.
//
// Rules only ever add: what is allowed without them is allowed with any.
func Allow(p Principal, a Action, r Resource, rules []Rule, now time.Time) error {
	t := actions[a]
	switch {
	case p.ID == "" || p.OrgID == "":
		return fault.New(fault.Unauthenticated, "send an API key: Authorization: Bearer 1ck_...")
	case p.Kind == Operator || a == Operate:
		return allowOperator(p, a)
	case p.OrgID != r.OrgID:
		return NotThere
	case !slices.Contains(t.kinds, p.Kind):
		return fault.New(fault.Forbidden, "%s is not for a principal of the kind %s; %s", a, p.Kind, instead[p.Kind])
	case t.unlimited && p.limited():
		return fault.New(fault.Forbidden, "%s needs an API key or session that is limited neither to paths nor to vaults", a)
	case !p.bound(r):
		return fault.New(fault.Forbidden, "your credential is bound to other vaults; ask for one that is bound to this vault")
	case t.inVault && !p.inScope(r):
		return fault.New(fault.Forbidden, "the scopes of your credential do not reach this; ask for one with a scope that matches the path")
	case granted(p, t.perms, r, rules, now):
		return nil
	case p.created(r) || t.self && p.ID == r.ID || slices.Contains(t.parts, r.Part):
		return nil
	case t.admins && p.Kind == User && (p.Role == Owner || p.Role == Admin):
		return nil
	case r.OwnerID == "" && r.VaultID == "" && slices.Contains(t.open, p.Kind):
		return nil
	}
	return fault.New(fault.Forbidden, "your key may not do %s here; ask the owner for access", a)
}

// terms say what an action takes.
type terms struct {
	kinds     []Kind       // who may do it at all
	unlimited bool         // not with a credential that has a ceiling, since it leads beyond that
	inVault   bool         // scopes count
	perms     []Permission // which permissions of a rule grant it
	parts     []Part       // which parts in a thread
	self      bool         // a principal may, on itself
	admins    bool         // owners and admins of the org may
	open      []Kind       // who may where no thing is named: create one, list them
}

var (
	people   = []Kind{User}
	programs = []Kind{User, Agent}
	all      = []Kind{User, Agent, EndUser}
)

// actions lists every action but Operate. What is not here, nobody may.
var actions = map[Action]terms{
	VaultCreate: {kinds: people, unlimited: true, open: people},
	VaultRead:   {kinds: programs, inVault: true, perms: Permissions, admins: true, open: programs},
	VaultDelete: {kinds: people, unlimited: true},
	VaultCMEK:   {kinds: people, unlimited: true},

	SecretRead:   {kinds: programs, inVault: true, perms: []Permission{Read}},
	SecretList:   {kinds: programs, inVault: true, perms: []Permission{Read}},
	SecretShare:  {kinds: people, inVault: true, perms: []Permission{Read}},
	SecretWrite:  {kinds: programs, inVault: true, perms: []Permission{Write}},
	SecretDelete: {kinds: programs, inVault: true, perms: []Permission{Write, Delete}},
	SecretRotate: {kinds: programs, inVault: true, perms: []Permission{Write, Rotate}},

	ThreadCreate:  {kinds: all, open: all},
	ThreadRead:    {kinds: all, parts: []Part{Reader, Writer}},
	ThreadWrite:   {kinds: all},
	ThreadDelete:  {kinds: all},
	ThreadShare:   {kinds: all},
	ThreadHold:    {kinds: people, admins: true, unlimited: true},
	MessageAppend: {kinds: all, parts: []Part{Writer}},
	MessageRead:   {kinds: all, parts: []Part{Reader, Writer}},
	MessageWrite:  {kinds: all, parts: []Part{Writer}},

	RetentionRead:  {kinds: people, admins: true},
	RetentionWrite: {kinds: people, admins: true, unlimited: true},

	PolicyRead:   {kinds: people, admins: true},
	PolicyWrite:  {kinds: people, admins: true, unlimited: true},
	AgentRead:    {kinds: programs, self: true, admins: true, open: people},
	AgentWrite:   {kinds: people, admins: true, unlimited: true, open: people},
	MemberRead:   {kinds: people, admins: true, open: people},
	MemberWrite:  {kinds: people, admins: true, unlimited: true},
	APIKeyWrite:  {kinds: people, unlimited: true, open: people},
	APIKeyRead:   {kinds: people, open: people},
	OrgKeyRead:   {kinds: people, admins: true},
	OrgKeyWrite:  {kinds: people, admins: true, unlimited: true},
	AuditRead:    {kinds: people, admins: true},
	PlanRead:     {kinds: people, admins: true},
	ProfileRead:  {kinds: people, self: true},
	ProfileWrite: {kinds: people, self: true, unlimited: true},
}

// instead is what to do for those who are of the wrong kind.
var instead = map[Kind]string{
	Agent:   "a person has to do it",
	EndUser: "end users have threads and messages alone",
	OrgKey:  "the key has to name its end user",
}

func allowOperator(p Principal, a Action) error {
	switch {
	case a != Operate:
		return fault.New(fault.Forbidden, "an admin key is for /admin alone; use a user's API key here")
	case p.Kind != Operator:
		return fault.New(fault.Forbidden, "this needs an admin key; a user's API key has no part in running the server")
	}
	return nil
}

// created reports whether the resource is p's own.
func (p Principal) created(r Resource) bool { return r.OwnerID != "" && p.ID == r.OwnerID }

// bound reports whether the vault is one that the credential is for.
func (p Principal) bound(r Resource) bool {
	return r.VaultID == "" || p.Ceiling == nil || len(p.Ceiling.Vaults) == 0 || slices.Contains(p.Ceiling.Vaults, r.VaultID)
}

// inScope reports whether a scope of the credential matches the path, or no
// scope limits it.
func (p Principal) inScope(r Resource) bool {
	if p.Kind == Agent && (p.Ceiling == nil || len(p.Ceiling.Scopes) == 0) {
		return r.VaultID == "" // the list of vaults is filtered
	}
	paths := p.paths()
	return len(paths) == 0 || r.Path == "" || slices.ContainsFunc(paths, func(scope string) bool { return Match(scope, r.Path) })
}

// limited reports whether the credential has a ceiling.
func (p Principal) limited() bool {
	return p.Ceiling != nil && (len(p.Ceiling.Vaults) > 0 || len(p.paths()) > 0)
}

// paths are the scopes that limit paths. Of a user, "*" is what clients send
// for all.
func (p Principal) paths() (paths []string) {
	if p.Ceiling == nil {
		return nil
	}
	for _, scope := range p.Ceiling.Scopes {
		if p.Kind == User && (scope == "*" || scope == "**") {
			return nil
		}
		if !IsLabel(scope) {
			paths = append(paths, scope)
		}
	}
	return paths
}
