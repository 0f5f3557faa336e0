package vault

import (
	"context"
	"errors"
	"strings"

	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Located says where a secret is, which was asked for by its ID.
type Located struct {
	OrgID, OwnerID, VaultID, Path string // OwnerID is the vault's
	Fingerprint                   string // of the CMEK key of the newest version; empty when it is not sealed
}

// Locate finds a secret of the org's by the ID that its metadata shows. It
// asks no gate: whoever calls it does, with what it answers, before anybody
// learns anything of it. fault.NotFound: the org has no such secret, or no
// longer. It costs one read for each vault of the org.
func (s *Service) Locate(ctx context.Context, orgID, secretID string) (Located, error) {
	if !isID(secretID) || orgID == "" {
		return Located{}, errNoSecretID
	}
	index := layout.OrgVault(orgID, "")
	for rec, err := range store.All(ctx, s.store, store.Prefix(index)) {
		if err != nil {
			return Located{}, readFault(err)
		}
		vaultID := strings.TrimPrefix(rec.Key, index)
		path, err := s.store.Get(ctx, layout.SecretID(vaultID, secretID))
		switch {
		case errors.Is(err, store.ErrNotFound):
			continue
		case err != nil:
			return Located{}, readFault(err)
		}
		return s.located(ctx, orgID, vaultID, string(path.Value), secretID)
	}
	return Located{}, errNoSecretID
}

// located reads what the index pointed to.
func (s *Service) located(ctx context.Context, orgID, vaultID, path, secretID string) (Located, error) {
	v, h, err := s.shared(ctx, Shared{OrgID: orgID, VaultID: vaultID, SecretID: secretID, Path: path})
	if err != nil {
		return Located{}, err
	}
	r, err := s.sharedVersion(ctx, vaultID, path, h.Version)
	if err != nil {
		return Located{}, err
	}
	return Located{OrgID: orgID, OwnerID: v.OwnerID, VaultID: vaultID, Path: path, Fingerprint: r.Fingerprint}, nil
}

// indexID adds the index entry by which Locate finds the secret. The first
// version of a path brings it; the ID stays for good.
func indexID(b *store.Batch, vaultID, path string, h secretHead) {
	if h.Version == 1 {
		b.Put(layout.SecretID(vaultID, h.ID), []byte(path))
	}
}
