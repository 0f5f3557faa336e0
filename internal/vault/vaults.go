package vault

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Limits of a vault's own texts, in characters.
const (
	MaxName        = 200
	MaxDescription = 2000
)

// Create makes a vault in p's org, owned by p. The name has 1 to MaxName
// characters, any text; names need not differ. fault.Invalid when a text does
// not fit; fault.Forbidden, type resource_limit_exceeded, when the plan has no
// room.
func (s *Service) Create(ctx context.Context, p access.Principal, req api.CreateVault) (api.Vault, error) {
	v := vault{id: newID(), vaultMeta: vaultMeta{OrgID: p.OrgID}}
	if err := s.authority.Check(ctx, p, access.VaultCreate, access.Resource{OrgID: p.OrgID, Type: "vault", ID: v.id}); err != nil {
		return api.Vault{}, err
	}
	if err := checkVault(req); err != nil {
		return api.Vault{}, err
	}
	v.OwnerKind, v.OwnerID = p.Kind, p.ID
	v.Name, v.Description, v.CreatedAt = req.Name, req.Description, s.time()
	v.KEKID = KEKPrefix + v.id
	if err := s.admit(ctx, p, access.Vaults, func() error { return s.create(ctx, v) }); err != nil {
		return api.Vault{}, err
	}
	return v.wire(), nil
}

func (s *Service) create(ctx context.Context, v vault) error {
	if err := idem.Look(ctx); err != nil { // before there is a KEK for nothing
		return err
	}
	if _, err := s.kms.CreateKEK(ctx, []string{v.KEKID}); err != nil {
		return sealFault(err)
	}
	b := new(store.Batch)
	b.Put(layout.OrgVault(v.OrgID, v.id), nil)
	idem.Answer(ctx, v.wire())
	return s.commitMeta(ctx, b, v)
}

func checkVault(req api.CreateVault) error {
	switch {
	case req.Name == "":
		return invalid("the vault needs a name: {\"name\": \"production\"}")
	case utf8.RuneCountInString(req.Name) > MaxName:
		return fault.New(fault.Invalid, "the name is longer than %d characters", MaxName)
	case utf8.RuneCountInString(req.Description) > MaxDescription:
		return fault.New(fault.Invalid, "the description is longer than %d characters", MaxDescription)
	case !utf8.ValidString(req.Name) || !utf8.ValidString(req.Description):
		return invalid("name and description must be valid UTF-8")
	}
	return nil
}

// commitMeta commits b with v's meta row, at the revision that v was read at.
func (s *Service) commitMeta(ctx context.Context, b *store.Batch, v vault) error {
	key := layout.VaultMeta(v.id)
	b.RequireRevision(key, v.rev)
	if err := put(b, key, v.vaultMeta); err != nil {
		return err
	}
	return s.commit(ctx, b)
}

// List returns the vaults of p's org that p may read, oldest first.
func (s *Service) List(ctx context.Context, p access.Principal) (api.Vaults, error) {
	if err := s.authority.Check(ctx, p, access.VaultRead, access.Resource{OrgID: p.OrgID, Type: "vault", As: "vault.list"}); err != nil {
		return api.Vaults{}, err
	}
	out := api.Vaults{Vaults: []api.Vault{}}
	index := layout.OrgVault(p.OrgID, "")
	for rec, err := range store.All(ctx, s.store, store.Prefix(index)) {
		if err != nil {
			return api.Vaults{}, readFault(err)
		}
		v, err := s.load(ctx, strings.TrimPrefix(rec.Key, index))
		if err != nil {
			return api.Vaults{}, err
		}
		mayRead, err := s.authority.Filter(ctx, p, access.VaultRead, v.resource("", ""))
		if err != nil {
			return api.Vaults{}, err
		}
		if mayRead("") { // a vault deleted since is of no org
			out.Vaults = append(out.Vaults, v.wire())
		}
	}
	return out, nil
}

// Get returns a vault.
func (s *Service) Get(ctx context.Context, p access.Principal, vaultID string) (api.Vault, error) {
	v, err := s.gate(ctx, target{p: p, action: access.VaultRead, vault: vaultID})
	if err != nil {
		return api.Vault{}, err
	}
	return v.wire(), nil
}

func (v vault) wire() api.Vault {
	return api.Vault{
		ID: v.id, Name: v.Name, Description: v.Description,
		CreatedBy: v.OwnerID, CreatedByType: string(v.OwnerKind), CreatedAt: v.CreatedAt,
		CMEKEnabled: v.Fingerprint != "", CMEKFingerprint: v.Fingerprint,
	}
}

// newID returns a fresh UUID. Those made later sort later.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// Exists returns nil when there is such a vault, of whichever org: for
// operators, who see no more of it. Else it is fault.NotFound.
func (s *Service) Exists(ctx context.Context, vaultID string) error {
	v, err := s.load(ctx, vaultID)
	if err == nil && v.rev == 0 {
		err = fault.New(fault.NotFound, "there is no vault of this ID; check it")
	}
	return err
}
