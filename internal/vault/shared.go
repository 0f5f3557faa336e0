package vault

import (
	"context"
	"errors"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Shared names the secret that a share hands out.
type Shared struct {
	OrgID, VaultID, SecretID, Path string
	Fingerprint                    string // of the CMEK key that the recipient has; empty: none
	Intents                        bool   // of who reads, as in access.Ceiling
}

// ErrShareSealed is the answer to a sealed version that is shared without naming
// its key.
var ErrShareSealed = fault.New(fault.Conflict, "the value is sealed with a CMEK key; if the recipient has that key, share it with recipient_has_key true and cmek_fingerprint naming it").
	WithType(api.ProblemShareSealed)

var errIntents = fault.New(fault.Forbidden, "an agent that signs through intents reads no private key; have the value used, not read")

var errNoSecretID = fault.New(fault.NotFound, "there is no secret of this ID; take the id of the secret's metadata")

// ReadShared returns the newest version of a secret to package share, which is
// the gate of shares: nothing is decided here but that the secret is the one
// that was shared. count is called once, when the value is open and before it
// is answered; its error is the answer. Then the read is counted as each
// other. Errors as for Read; fault.Forbidden, to who may not read values of the type; also fault.Conflict, type share_sealed, when the
// version is sealed with another key than sh names.
func (s *Service) ReadShared(ctx context.Context, sh Shared, count func() error) (Read, error) {
	_, h, err := s.shared(ctx, sh)
	if err != nil {
		return Read{}, err
	}
	r, err := s.sharedVersion(ctx, sh.VaultID, sh.Path, h.Version)
	switch {
	case err != nil:
		return Read{}, err
	case r.Fingerprint != "" && r.Fingerprint != sh.Fingerprint:
		return Read{}, ErrShareSealed
	case sh.Intents && isKeyType(r.Type):
		return Read{}, errIntents
	}
	if err := s.checkReadable(ctx, sh.VaultID, sh.Path, h.Version, r.attributes); err != nil {
		return Read{}, err
	}
	r, value, err := s.openShared(ctx, sh, h.Version, r)
	if err != nil {
		return Read{}, err
	}
	if err := count(); err != nil {
		return Read{}, err
	}
	if r.MaxAccessCount > 0 {
		if err := s.countShared(ctx, sh, h.Version, r.MaxAccessCount); err != nil {
			return Read{}, err
		}
	}
	return Read{Secret: r.secret(sh.Path, h.Version, value), CMEKFingerprint: r.Fingerprint}, nil
}

// shared returns the vault and the head of the secret, which is live.
func (s *Service) shared(ctx context.Context, sh Shared) (vault, secretHead, error) {
	v, err := s.load(ctx, sh.VaultID)
	if err != nil {
		return vault{}, secretHead{}, err
	}
	if v.rev == 0 || v.OrgID != sh.OrgID {
		return vault{}, secretHead{}, errNoSecretID
	}
	h, _, err := load[secretHead](ctx, s, layout.SecretHead(sh.VaultID, sh.Path))
	switch {
	case err != nil:
		return vault{}, secretHead{}, err
	case h.ID != sh.SecretID || !h.live():
		return vault{}, secretHead{}, errNoSecretID
	}
	return v, h, nil
}

func (s *Service) sharedVersion(ctx context.Context, vaultID, path string, n int) (versionRow, error) {
	rec, err := s.store.Get(ctx, layout.SecretVersion(vaultID, path, n))
	switch {
	case errors.Is(err, store.ErrNotFound): // the vault is being deleted, or its rows are torn
		return versionRow{}, errNoSecretID
	case err != nil:
		return versionRow{}, readFault(err)
	}
	return decodeVersion(rec.Value)
}

// openShared opens version n, once more if it was rewrapped since r was read. One
// that was re-encrypted is not for who has the key of before.
func (s *Service) openShared(ctx context.Context, sh Shared, n int, r versionRow) (versionRow, string, error) {
	value, failed := s.open(ctx, sh.VaultID, sh.Path, n, r)
	if !errors.Is(failed, fault.Damaged) {
		return r, value, failed
	}
	now, err := s.sharedVersion(ctx, sh.VaultID, sh.Path, n)
	switch {
	case err != nil || !now.replaces(r):
		return r, "", failed
	case now.Fingerprint != r.Fingerprint:
		return r, "", ErrShareSealed
	}
	value, err = s.open(ctx, sh.VaultID, sh.Path, n, now)
	return now, value, err
}

// countShared counts one read of version n on stable storage, or refuses it.
func (s *Service) countShared(ctx context.Context, sh Shared, n, maxReads int) error {
	return s.retry(ctx, func() error {
		v, _, err := s.shared(ctx, sh)
		if err != nil {
			return err
		}
		return s.changeState(ctx, v, sh.Path, n, func(t *versionState) error {
			if err := t.check(maxReads); err != nil {
				return err
			}
			t.Reads++
			return nil
		})
	})
}
