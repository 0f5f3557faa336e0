package vault

import (
	"context"
	"errors"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// PutOptions are what a write says beside its body.
type PutOptions struct {
	DeclaredFingerprint string // of the CMEK key that the value was sealed with; empty: not said
	IfMatch             int    // write only if this is the newest version; 0: write in any case
}

// Put writes a new version of a secret, the first one if there is none.
// Versions of a path are 1, 2, 3 and so on, without gaps. When it fails,
// nothing was stored; only a failing store leaves that open.
//
// fault.Invalid: the path or a field of req is wrong, or the vault wants a
// blob (type cmek_blob_required). fault.TooLarge: the value is over MaxValue.
// fault.Conflict: the declared key is neither the vault's nor, while it is
// rotated, the new one (type cmek_key_mismatch); or the rotation is about to end
// and the value may be under the old key (type cmek_rotation_closing). fault.PreconditionFailed: see PutOptions.IfMatch.
func (s *Service) Put(ctx context.Context, p access.Principal, vaultID, path string, req api.PutSecret, opt PutOptions) (api.SecretMetadata, error) {
	var first *vault
	return s.write(ctx, target{p: p, action: access.SecretWrite, vault: vaultID, path: path}, func(v vault, h secretHead) (draft, error) {
		d, err := newDraft(req)
		if err != nil {
			return draft{}, err
		}
		if first == nil {
			first = &v
		}
		if d.Fingerprint, err = v.tag(opt.DeclaredFingerprint); err != nil {
			return draft{}, err
		}
		if err := v.checkShape(d.value); err != nil {
			return draft{}, err
		}
		if opt.DeclaredFingerprint == "" && v.Fingerprint != first.Fingerprint {
			return draft{}, errKeyChanged
		}
		return d, checkMatch(h, opt.IfMatch)
	})
}

func checkMatch(h secretHead, ifMatch int) error {
	if ifMatch == 0 || ifMatch == h.Version && h.live() {
		return nil
	}
	return fault.New(fault.PreconditionFailed, "version %d is not the newest; read the secret again and decide anew", ifMatch)
}

// draft is a version before it has a number.
type draft struct {
	attributes
	value string
}

// write commits one new version. compose says what it holds; it may be asked
// again when another write came first.
func (s *Service) write(ctx context.Context, t target, compose func(vault, secretHead) (draft, error)) (api.SecretMetadata, error) {
	var out api.SecretMetadata
	err := s.change(ctx, t, func(v vault) error {
		h, rev, err := load[secretHead](ctx, s, layout.SecretHead(v.id, t.path))
		if err != nil {
			return err
		}
		d, err := compose(v, h)
		if err != nil {
			return err
		}
		d.CreatedAt, d.CreatedBy = s.time(), t.p.Ref()
		added := !h.live()
		h = h.next(&d.attributes)
		if err := s.checkVacant(ctx, v.id, t.path, h.Version, rev); err != nil {
			return err
		}
		out = h.wire(t.path)
		idem.Answer(ctx, out)
		commit := func() error { return s.commitVersion(ctx, v, t.path, h, rev, d) }
		if added {
			return s.admit(ctx, t.p, access.Secrets, commit)
		}
		return commit()
	})
	if err == nil {
		err = s.done(ctx, t, "secret.written", out.Version)
	}
	if err != nil {
		return api.SecretMetadata{}, err
	}
	return out, nil
}

// next returns the head after a, which gets the secret's ID.
func (h secretHead) next(a *attributes) secretHead {
	if h.ID == "" {
		h.ID = newID()
	}
	a.SecretID = h.ID
	h.Version++
	h.Type, h.CreatedAt, h.Metadata, h.ExpiresAt = a.Type, a.CreatedAt, a.Metadata, a.ExpiresAt
	h.CreatedBy, h.Sealed = a.CreatedBy, a.Fingerprint != ""
	return h
}

// commitVersion seals d and commits it as the version that h names. It
// requires the vault as the gate saw it, so that the version is plain or sealed
// as the vault says and no row outlives its vault, and the head at rev, so that
// no two writes take one number.
func (s *Service) commitVersion(ctx context.Context, v vault, path string, h secretHead, rev store.Revision, d draft) error {
	row, err := s.seal(ctx, v, path, h.Version, d.attributes, d.value)
	if err != nil {
		return err
	}
	headKey := layout.SecretHead(v.id, path)
	b := new(store.Batch)
	b.RequireRevision(layout.VaultMeta(v.id), v.rev)
	b.RequireRevision(headKey, rev)
	b.Put(layout.SecretVersion(v.id, path, h.Version), row)
	indexID(b, v.id, path, h)
	if err := put(b, headKey, h); err != nil {
		return err
	}
	return s.commit(ctx, b)
}

// checkVacant makes sure that no row lies where version n goes, after the head
// at rev. When one does, another writer was faster, or the rows are torn and it
// must not be overwritten.
func (s *Service) checkVacant(ctx context.Context, vaultID, path string, n int, rev store.Revision) error {
	_, err := s.store.Get(ctx, layout.SecretVersion(vaultID, path, n))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return readFault(err)
	}
	_, now, err := load[secretHead](ctx, s, layout.SecretHead(vaultID, path))
	switch {
	case err != nil:
		return err
	case now != rev:
		return store.ErrConflict
	}
	return s.torn(ctx, vaultID)
}
