package identity

import (
	"context"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// EnsureOrgKey makes key a frontend or backend key of the org, if it is not yet.
// Errors: Invalid (not the form of a key, or another role), NotFound (no such
// org), Conflict (the key is somebody's).
func (s *Service) EnsureOrgKey(ctx context.Context, orgID, role, key string) error {
	if role != api.RoleFrontend && role != api.RoleBackend {
		return fault.New(fault.Invalid, "the role must be frontend or backend")
	}
	return s.ensureKey(ctx, key, &keyRecord{Role: role, Org: orgID})
}

// SigningPrefix begins the text of a signing secret.
const SigningPrefix = signingPrefix

// EnsureSigningSecret makes text, of the form that AddSigningKey returns, the
// org's signing secret, if it has none. Errors: Invalid, Unavailable (of the KMS).
func (s *Service) EnsureSigningSecret(ctx context.Context, orgID, text string) error {
	if !isKey(text, signingPrefix) {
		return fault.New(fault.Invalid, "a signing secret must be %s and 32 bytes in base64url without padding", SigningPrefix)
	}
	return s.editSigning(ctx, orgID, func(list *signingList, b *store.Batch) error {
		if len(list.Keys) > 0 {
			return nil
		}
		id, err := newID()
		if err != nil {
			return err
		}
		k := signingKey{ID: id, Created: s.now().UTC()}
		list.Keys = append(list.Keys, k)
		return s.box.Put(ctx, b, k.name(orgID), []byte(text))
	})
}
