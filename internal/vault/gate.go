package vault

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// vault is a vault's meta row as it was read.
type vault struct {
	vaultMeta
	id  string
	rev store.Revision // 0: there is no such vault
}

// target is what a caller named, and what he wants with it.
type target struct {
	p      access.Principal
	action access.Action
	vault  string            // ID
	path   string            // for secret actions but the list, which is of all
	as     string            // for the record, see access.Resource
	facts  map[string]string // as that, none of them secret
}

// gate has it decided and recorded whether the principal may do the action in
// the vault and, for a secret action, on the path. It comes before any look-up
// of what is in the vault. The vault that it returns is the one that was
// decided on; a commit that requires its revision stands under that decision.
//
// A vault that is not there is decided on like one of no org, so that it is
// answered as another org's. So is one whose meta row is damaged, unless the
// org's index has it: nobody else may learn that it exists, and its owner must
// not be told that it is gone.
func (s *Service) gate(ctx context.Context, t target) (vault, error) {
	if strings.HasPrefix(string(t.action), "secret.") && t.action != access.SecretList {
		if err := ValidatePath(t.path); err != nil {
			return vault{}, err
		}
	}
	v, err := s.find(ctx, t.p, t.vault)
	if err != nil {
		return vault{}, err
	}
	r := v.resource(t.path, t.as)
	r.Details = t.facts
	if err := s.authority.Check(ctx, t.p, t.action, r); err != nil {
		return vault{}, err
	}
	return v, nil
}

// Ahead is [store.Ahead] of what a Read asks the gate with: the row of the vault, there or
// not and whoever asks. It is for a call that reads when it has found who its caller is.
func (s *Service) Ahead(ctx context.Context, vaultID, path string) context.Context {
	if !isID(vaultID) || ValidatePath(path) != nil { // a Read of it reads no vault
		return ctx
	}
	return store.Ahead(ctx, s.store, layout.VaultMeta(vaultID))
}

// find loads the vault for p, who may be anybody.
func (s *Service) find(ctx context.Context, p access.Principal, vaultID string) (vault, error) {
	v, err := s.load(ctx, vaultID)
	if errors.Is(err, fault.Damaged) && !s.listed(ctx, p.OrgID, vaultID) {
		return vault{id: vaultID}, nil
	}
	return v, err
}

// listed reports whether the org's index has the vault, or cannot be read.
func (s *Service) listed(ctx context.Context, org, vaultID string) bool {
	_, err := s.store.Get(ctx, layout.OrgVault(org, vaultID))
	return !errors.Is(err, store.ErrNotFound)
}

// resource is the vault, or a secret in it, as the gate sees it. An ID that is
// none is not told: the record is not for any text that somebody sends.
func (v vault) resource(path, as string) access.Resource {
	r := access.Resource{OrgID: v.OrgID, OwnerID: v.OwnerID, Path: path, As: as}
	if isID(v.id) {
		r.VaultID = v.id
	}
	if r.Type, r.ID = "secret", path; path == "" {
		r.Type, r.ID = "vault", r.VaultID
	}
	return r
}

// Resource returns what the gate needs to know of a vault, for those who decide
// about things that belong to it, with the revision of its meta row: a commit
// that requires it adds nothing to a vault that is gone. The resource of a
// vault that is not there is of no org, and the revision 0. Nothing of it is
// for the caller before the gate has decided.
func (s *Service) Resource(ctx context.Context, p access.Principal, vaultID string) (access.Resource, store.Revision, error) {
	v, err := s.find(ctx, p, vaultID)
	if err != nil {
		return access.Resource{}, 0, err
	}
	return v.resource("", ""), v.rev, nil
}

// load returns the vault; with rev 0 when there is none.
func (s *Service) load(ctx context.Context, vaultID string) (v vault, err error) {
	v.id = vaultID
	if isID(vaultID) {
		v.vaultMeta, v.rev, err = load[vaultMeta](ctx, s, layout.VaultMeta(vaultID))
	}
	return v, err
}

// isID reports whether id is in the form of a UUID, so that it is one part of a key.
func isID(id string) bool {
	return len(id) == 36 && strings.Trim(id, "0123456789abcdef-") == ""
}

// reload returns a vault that the gate has let the caller into, as it is now.
// access.NotThere: it was deleted since.
func (s *Service) reload(ctx context.Context, vaultID string) (vault, error) {
	v, err := s.load(ctx, vaultID)
	if err == nil && v.rev == 0 {
		err = access.NotThere
	}
	return v, err
}

// change has t decided and recorded once, and runs try until its commit meets
// no other, each time with the vault as it is then.
func (s *Service) change(ctx context.Context, t target, try func(vault) error) error {
	v, err := s.gate(ctx, t)
	if err != nil {
		return err
	}
	return s.retry(ctx, func() error {
		err := try(v)
		if errors.Is(err, store.ErrConflict) {
			now, failed := s.reload(ctx, v.id)
			if failed != nil {
				return failed
			}
			v = now
		}
		return err
	})
}

// done records that t took effect on a secret that is at version n by now. It
// comes after the commit, so that the trail never has a version that was not
// stored: whoever compares both finds a head that was put back. A crash at that
// moment may lose the record.
func (s *Service) done(ctx context.Context, t target, as string, n int) error {
	return s.authority.Done(ctx, t.p, t.action, access.Resource{
		VaultID: t.vault, Path: t.path, Type: "secret", ID: t.path, As: as, Details: map[string]string{"version": strconv.Itoa(n)},
	})
}

// torn answers for rows that do not fit together: the vault was deleted since
// the gate and its rows are going, or the store lost some or was put back.
func (s *Service) torn(ctx context.Context, vaultID string) error {
	if _, err := s.reload(ctx, vaultID); err != nil {
		return err
	}
	return damaged(errTorn)
}
