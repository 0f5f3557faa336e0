package vault

import (
	"context"
	"errors"
	"strings"
	"time"

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

// gate decides whether p may do action in the vault and, for a secret action,
// on path. It comes before any look-up of what is in the vault. The vault that
// it returns is the one that it decided on; a commit that requires its revision
// stands under that decision.
//
// A vault that is not there is decided on like one of no org, so that it is
// answered as another org's. So is one whose meta row is damaged, unless the
// org's index has it: nobody else may learn that it exists, and its owner must
// not be told that it is gone.
func (s *Service) gate(ctx context.Context, p access.Principal, action access.Action, vaultID, path string) (vault, error) {
	if strings.HasPrefix(string(action), "secret.") {
		if err := ValidatePath(path); err != nil {
			return vault{}, err
		}
	}
	v, err := s.load(ctx, vaultID)
	if errors.Is(err, fault.Damaged) && !s.listed(ctx, p.OrgID, vaultID) {
		v, err = vault{id: vaultID}, nil
	}
	if err != nil {
		return vault{}, err
	}
	if err := v.allow(p, action, path); err != nil {
		return vault{}, err
	}
	return v, nil
}

// listed reports whether the org's index has the vault, or cannot be read.
func (s *Service) listed(ctx context.Context, org, vaultID string) bool {
	_, err := s.store.Get(ctx, layout.OrgVault(org, vaultID))
	return !errors.Is(err, store.ErrNotFound)
}

// allow is the decision alone. Lists ask it once for each entry.
func (v vault) allow(p access.Principal, action access.Action, path string) error {
	return access.Allow(p, action, access.Resource{OrgID: v.OrgID, OwnerID: v.OwnerID, Path: path}, nil, time.Time{})
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

// torn answers for rows that do not fit together: the vault was deleted since
// the gate and its rows are going, or the store lost some or was put back.
func (s *Service) torn(ctx context.Context, p access.Principal, action access.Action, vaultID, path string) error {
	if _, err := s.gate(ctx, p, action, vaultID, path); err != nil {
		return err
	}
	return damaged(errTorn)
}
