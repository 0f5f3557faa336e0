package policy

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// policy is one entry of a row. A row is a JSON array of them, in the order of
// their making, under layout.VaultPolicies. Example:
//
//	[{"id":"0198...","pattern":"db/**","permissions":["read"],"priority":5,
//	  "conditions":"{\"ip_allowlist\":[\"10.0.0.0/8\"]}",
//	  "created_at":"2030-01-02T03:04:05Z","created_by":"0198..."}]
//
// No entry may have a member that the struct does not know: an older program
// must not grant by a policy whose newer limits it would ignore.
type policy struct {
	ID          string              `json:"id"`
	Pattern     string              `json:"pattern"`
	Permissions []access.Permission `json:"permissions"`
	Deny        bool                `json:"deny,omitzero"`
	Priority    int                 `json:"priority,omitzero"`
	Conditions  string              `json:"conditions,omitzero"` // JSON text, to the byte
	ExpiresAt   *time.Time          `json:"expires_at,omitzero"`
	CreatedAt   time.Time           `json:"created_at"`
	CreatedBy   string              `json:"created_by"` // ID of a user
}

var errDamaged = fault.New(fault.Damaged, "policies of this vault are damaged; restore the store from a backup")

func decode(row []byte) (list []policy, err error) {
	err = jsonv2.Unmarshal(row, &list, jsonv2.RejectUnknownMembers(true))
	return list, err
}

func put(b *store.Batch, key string, list []policy) error {
	row, err := jsonv2.Marshal(list)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "a policy does not encode")
	}
	b.Put(key, row)
	return nil
}

// grantee is whom a policy is for.
type grantee struct {
	kind access.Kind // User or Agent
	id   string
}

// String is "<kind>:<id>", as in keys of the store.
func (g grantee) String() string { return string(g.kind) + ":" + g.id }

func parseGrantee(text string) (grantee, bool) {
	kind, id, _ := strings.Cut(text, ":")
	g := grantee{access.Kind(kind), id}
	return g, g.valid()
}

func (g grantee) valid() bool {
	return (g.kind == access.User || g.kind == access.Agent) && isID(g.id)
}

// Table reads policies for those who decide.
type Table struct{ store store.Store }

// NewTable returns the Table of the policies in s.
func NewTable(s store.Store) *Table { return &Table{s} }

// Rules returns the policies of one principal on one vault, for one read of the
// store. Errors: Damaged, Unavailable.
func (t *Table) Rules(ctx context.Context, vaultID string, kind access.Kind, principalID string) ([]access.Rule, error) {
	who := grantee{kind, principalID}
	if !who.valid() || !isID(vaultID) {
		return nil, nil
	}
	list, _, err := t.load(ctx, vaultID, who)
	rules := make([]access.Rule, len(list))
	for i, p := range list {
		rules[i] = access.Rule{Pattern: p.Pattern, Permissions: p.Permissions, Deny: p.Deny, Priority: p.Priority, Conditions: []byte(p.Conditions)}
		if p.ExpiresAt != nil {
			rules[i].Expires = *p.ExpiresAt
		}
	}
	return rules, err
}

// load returns who's policies on the vault, with the revision of their row.
func (t *Table) load(ctx context.Context, vaultID string, who grantee) ([]policy, store.Revision, error) {
	rec, err := t.store.Get(ctx, layout.VaultPolicies(vaultID, string(who.kind), who.id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, nil
	} else if err != nil {
		return nil, 0, store.Fault(err)
	}
	list, err := decode(rec.Value)
	if err != nil {
		return nil, 0, errDamaged
	}
	return list, rec.Revision, nil
}

// maxPatterns is the most bytes of patterns that Patterns returns: they travel
// in a token with each request.
const maxPatterns = 4 << 10

// Patterns returns what the policies of a principal allow anywhere, each
// pattern once: the scopes of a token that was given none. Where they would be
// over 4 KiB it returns "**" alone, which is no more than they grant, since
// policies are asked for each request. Errors: Damaged, Unavailable.
func (t *Table) Patterns(ctx context.Context, kind access.Kind, principalID string) ([]string, error) {
	who := grantee{kind, principalID}
	if !who.valid() {
		return nil, nil
	}
	found, size := map[string]bool{}, 0
	index := layout.Grantee(string(kind), principalID, "")
	for rec, err := range store.All(ctx, t.store, store.Prefix(index)) {
		if err != nil {
			return nil, store.Fault(err)
		}
		list, _, err := t.load(ctx, strings.TrimPrefix(rec.Key, index), who)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			if !p.Deny && !found[p.Pattern] {
				found[p.Pattern] = true
				size += len(p.Pattern)
			}
		}
		if size > maxPatterns {
			return []string{"**"}, nil
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// wire is p as clients see it.
func (p policy) wire(vaultID string, who grantee) api.Policy {
	out := api.Policy{
		ID: p.ID, VaultID: vaultID, SecretPathPattern: p.Pattern, PrincipalType: string(who.kind), PrincipalID: who.id,
		ExpiresAt: p.ExpiresAt, CreatedAt: p.CreatedAt, CreatedBy: p.CreatedBy, CreatedByType: string(access.User), Priority: p.Priority,
	}
	for _, perm := range p.Permissions {
		out.Permissions = append(out.Permissions, string(perm))
	}
	if p.Conditions != "" {
		out.Conditions = json.RawMessage(p.Conditions)
	}
	if p.Deny {
		out.Effect = "deny"
	}
	return out
}
