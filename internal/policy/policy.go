// Package policy owns the policies of vaults: what a user or agent may do, or
// may not, with the secrets whose paths match a pattern.
//
// All policies of one principal on one vault are one row, so that a decision
// costs one read however many policies others have: see table.go for the
// format. It trusts the store: whoever can write to it can grant. What it
// stores was checked, and what it cannot read it does not leave out: a row that
// does not parse is an error, and whoever asks for rules is refused.
//
// Every change is one commit, which requires the vault's meta row as it was
// decided on: no policy is added to a vault that is gone, and a crash leaves
// nothing half done. The purge of a vault removes its policies.
package policy

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Limits of how many policies there are.
const (
	MaxPerPrincipal = 100  // of one principal on one vault
	MaxPerVault     = 1000 // in all; as many at once as are being made may come on top
)

// Vaults knows the vaults; a *vault.Service does.
type Vaults interface {
	// Resource returns what the gate needs to know of a vault, and the revision
	// of its meta row. One that is not there is of no org, at revision 0.
	Resource(ctx context.Context, p access.Principal, vaultID string) (access.Resource, store.Revision, error)
}

// Config is what a Service stands on.
type Config struct {
	Store  store.Store
	Gate   access.Gate
	Vaults Vaults
	Now    func() time.Time // nil: time.Now

	// Known returns nil when there is such a user or agent in the org, and
	// fault.NotFound when there is not. nil: every UUID is taken for one.
	Known func(ctx context.Context, orgID string, kind access.Kind, principalID string) error
}

// Service makes, changes and shows policies. It may be used by many goroutines.
//
// Every method takes the caller first and asks the gate before it looks for
// what the caller named. Errors are *fault.Error: Unauthenticated, NotFound,
// Forbidden, Invalid, Damaged, Unavailable.
type Service struct {
	Config
	table *Table
}

// New returns a Service. It reads nothing yet.
func New(c Config) *Service {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Service{c, NewTable(c.Store)}
}

var errNoPolicy = fault.New(fault.NotFound, "there is no policy of this ID on this vault; list its policies to see which there are")

// Create gives a principal a policy. fault.Invalid: a field is wrong, or there
// are too many. fault.NotFound: no such vault, or no such principal in the org.
func (s *Service) Create(ctx context.Context, p access.Principal, vaultID string, req api.CreatePolicy) (api.Policy, error) {
	who, made, invalid := newPolicy(req)
	made.ID, made.CreatedAt, made.CreatedBy = newID(), s.Now().UTC().Truncate(time.Microsecond), p.ID
	v, err := s.gate(ctx, p, access.PolicyWrite, vaultID, access.Resource{ID: made.ID, As: "policy.create", Details: made.facts(who, invalid)})
	if err != nil {
		return api.Policy{}, err
	}
	if invalid != nil {
		return api.Policy{}, invalid
	}
	if err := s.known(ctx, p.OrgID, who); err != nil {
		return api.Policy{}, err
	}
	err = s.change(ctx, p, v, who, func(list []policy, b *store.Batch) ([]policy, error) {
		if err := s.checkRoom(ctx, v.id, len(list)); err != nil {
			return nil, err
		}
		idem.Answer(ctx, made.wire(v.id, who))
		b.Put(layout.VaultPolicy(v.id, made.ID), []byte(who.String()))
		b.Put(layout.Grantee(string(who.kind), who.id, v.id), nil)
		return append(list, made), nil
	})
	if err != nil {
		return api.Policy{}, err
	}
	return made.wire(v.id, who), nil
}

func (s *Service) known(ctx context.Context, orgID string, who grantee) error {
	if s.Known == nil {
		return nil
	}
	err := s.Known(ctx, orgID, who.kind, who.id)
	if errors.Is(err, fault.NotFound) {
		return fault.New(fault.NotFound, "the org has no such %s; check principal_id", who.kind)
	}
	return err
}

// checkRoom returns an error when there are too many policies already: have of
// the principal, and those of the vault.
func (s *Service) checkRoom(ctx context.Context, vaultID string, have int) error {
	if have >= MaxPerPrincipal {
		return fault.New(fault.Invalid, "the principal has %d policies on this vault, the most there may be; delete some, or use wider patterns", have)
	}
	n := 0
	for _, err := range store.All(ctx, s.Store, store.Prefix(layout.VaultPolicy(vaultID, ""))) {
		if err != nil {
			return store.Fault(err)
		}
		if n++; n == MaxPerVault {
			return fault.New(fault.Invalid, "the vault has %d policies, the most there may be; delete some, or use wider patterns", n)
		}
	}
	return nil
}

// List returns the policies of a vault, oldest first.
func (s *Service) List(ctx context.Context, p access.Principal, vaultID string) (api.Policies, error) {
	v, err := s.gate(ctx, p, access.PolicyRead, vaultID, access.Resource{As: "policy.list"})
	if err != nil {
		return api.Policies{}, err
	}
	out := api.Policies{Policies: []api.Policy{}}
	rows := layout.AllVaultPolicies(v.id)
	for rec, err := range store.All(ctx, s.Store, store.Prefix(rows)) {
		if err != nil {
			return api.Policies{}, store.Fault(err)
		}
		who, ok := parseGrantee(strings.TrimPrefix(rec.Key, rows))
		list, err := decode(rec.Value)
		if err != nil || !ok {
			return api.Policies{}, errDamaged
		}
		for _, entry := range list {
			out.Policies = append(out.Policies, entry.wire(v.id, who))
		}
	}
	slices.SortFunc(out.Policies, func(a, b api.Policy) int { return strings.Compare(a.ID, b.ID) }) // IDs begin with the time
	return out, nil
}

// Update changes what req names of a policy.
func (s *Service) Update(ctx context.Context, p access.Principal, vaultID, policyID string, req api.UpdatePolicy) (api.Policy, error) {
	var out api.Policy
	r := access.Resource{As: "policy.update", Details: changes(req)}
	err := s.edit(ctx, p, vaultID, policyID, r, func(v opened, who grantee, list []policy, i int, _ *store.Batch) ([]policy, error) {
		changed, err := list[i].update(req)
		if err != nil {
			return nil, err
		}
		list[i], out = changed, changed.wire(v.id, who)
		idem.Answer(ctx, out)
		return list, nil
	})
	if err != nil {
		return api.Policy{}, err
	}
	return out, nil
}

// Delete removes a policy.
func (s *Service) Delete(ctx context.Context, p access.Principal, vaultID, policyID string) error {
	return s.edit(ctx, p, vaultID, policyID, access.Resource{As: "policy.delete"}, func(v opened, who grantee, list []policy, i int, b *store.Batch) ([]policy, error) {
		b.Delete(layout.VaultPolicy(v.id, policyID))
		if len(list) == 1 {
			b.Delete(layout.Grantee(string(who.kind), who.id, v.id))
		}
		return slices.Delete(list, i, i+1), nil
	})
}

// edit applies change to the row that holds the policy, at i.
func (s *Service) edit(ctx context.Context, p access.Principal, vaultID, policyID string, r access.Resource, change func(v opened, who grantee, list []policy, i int, b *store.Batch) ([]policy, error)) error {
	if isID(policyID) {
		r.ID = policyID
	}
	v, err := s.gate(ctx, p, access.PolicyWrite, vaultID, r)
	if err != nil {
		return err
	}
	if r.ID == "" {
		return errNoPolicy
	}
	rec, err := s.Store.Get(ctx, layout.VaultPolicy(v.id, policyID))
	if errors.Is(err, store.ErrNotFound) {
		return errNoPolicy
	} else if err != nil {
		return store.Fault(err)
	}
	who, ok := parseGrantee(string(rec.Value))
	if !ok {
		return errDamaged
	}
	return s.change(ctx, p, v, who, func(list []policy, b *store.Batch) ([]policy, error) {
		i := slices.IndexFunc(list, func(entry policy) bool { return entry.ID == policyID })
		if i < 0 { // deleted since
			return nil, errNoPolicy
		}
		return change(v, who, list, i, b)
	})
}

// opened is a vault whose policies the caller may see or change.
type opened struct {
	id  string
	rev store.Revision
}

// gate has it decided and recorded whether p may do a with the policies of the
// vault. r says what the record is to hold.
func (s *Service) gate(ctx context.Context, p access.Principal, a access.Action, vaultID string, r access.Resource) (opened, error) {
	v, rev, err := s.Vaults.Resource(ctx, p, vaultID)
	if err != nil {
		return opened{}, err
	}
	r.OrgID, r.OwnerID, r.VaultID, r.Type = v.OrgID, v.OwnerID, v.VaultID, "policy"
	if err := s.Gate.Check(ctx, p, a, r); err != nil {
		return opened{}, err
	}
	return opened{vaultID, rev}, nil
}

// change commits what edit makes of who's policies on v, together with what it
// adds to the batch; no policies, no row.
func (s *Service) change(ctx context.Context, p access.Principal, v opened, who grantee, edit func([]policy, *store.Batch) ([]policy, error)) error {
	return store.Fault(store.Retry(ctx, func() error {
		err := s.tryChange(ctx, v, who, edit)
		if errors.Is(err, store.ErrConflict) {
			var failed error
			if _, v.rev, failed = s.Vaults.Resource(ctx, p, v.id); failed != nil {
				return failed
			}
			if v.rev == 0 { // deleted since
				return access.NotThere
			}
		}
		return err
	}))
}

func (s *Service) tryChange(ctx context.Context, v opened, who grantee, edit func([]policy, *store.Batch) ([]policy, error)) error {
	list, rev, err := s.table.load(ctx, v.id, who)
	if err != nil {
		return err
	}
	key, b := layout.VaultPolicies(v.id, string(who.kind), who.id), new(store.Batch)
	b.RequireRevision(layout.VaultMeta(v.id), v.rev)
	b.RequireRevision(key, rev)
	if list, err = edit(list, b); err != nil {
		return err
	}
	if len(list) == 0 {
		b.Delete(key)
	} else if err := put(b, key, list); err != nil {
		return err
	}
	_, err = s.Store.Commit(ctx, b)
	return err
}

// newID returns a fresh UUID. Those made later sort later.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// isID reports whether id is in the form of a UUID, so that it is one part of a key.
func isID(id string) bool {
	return len(id) == 36 && strings.Trim(id, "0123456789abcdef-") == ""
}
