package vault

import (
	"context"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// DeleteSecret deletes all versions of a secret: they are not read or listed
// any more. Their rows stay, sealed, until the vault is deleted. The path can
// be written again; its versions go on counting and its ID stays.
// fault.NotFound when there is no secret at path, or no longer.
func (s *Service) DeleteSecret(ctx context.Context, p access.Principal, vaultID, path string) error {
	t, last := target{p: p, action: access.SecretDelete, vault: vaultID, path: path}, 0
	err := s.change(ctx, t, func(v vault) error {
		key := layout.SecretHead(v.id, path)
		h, rev, err := load[secretHead](ctx, s, key)
		if err != nil {
			return err
		}
		if !h.live() {
			return errNoSecret
		}
		b := new(store.Batch)
		b.RequireRevision(layout.VaultMeta(v.id), v.rev)
		b.RequireRevision(key, rev)
		if err := put(b, key, secretHead{ID: h.ID, Version: h.Version, DeletedThrough: h.Version}); err != nil {
			return err
		}
		last = h.Version
		return s.commit(ctx, b)
	})
	if err != nil {
		return err
	}
	return s.done(ctx, t, "secret.deleted", last)
}

// DisableVersion makes version n of a secret unreadable for good. Disabling it
// again changes nothing. fault.NotFound when there is no such version, or no
// longer.
func (s *Service) DisableVersion(ctx context.Context, p access.Principal, vaultID, path string, n int) error {
	return s.change(ctx, target{p: p, action: access.SecretDelete, vault: vaultID, path: path, as: "secret.disable_version"}, func(v vault) error {
		h, _, err := load[secretHead](ctx, s, layout.SecretHead(v.id, path))
		switch {
		case err != nil:
			return err
		case !h.live():
			return errNoSecret
		case n <= h.DeletedThrough || n > h.Version:
			return errNoVersion
		}
		return s.changeState(ctx, v, path, n, func(t *versionState) error {
			t.Disabled = true
			return nil
		})
	})
}
