package share

import (
	"context"
	"crypto/subtle"
	"errors"
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/vault"
)

// The answers to who has shown that the share is his.
var (
	errPassphrase = fault.New(fault.Forbidden, "this share needs its passphrase; send it in the header "+api.HeaderSharePassphrase).WithType(api.ProblemSharePassphrase)
	errSealed     = fault.New(fault.Conflict, "the value is sealed by now with a CMEK key that this share does not name; ask whoever shared it for a new share").WithType(api.ProblemShareSealed)
	errAddress    = fault.New(fault.Forbidden, "this share does not open from your address; ask whoever shared the secret")
)

// Open answers the newest version of a shared secret and counts the access.
// text is a share's ID, or the ID, a dot and the link's secret. p is who asks,
// with Addr and RequestID; its ID is empty when it is nobody. Errors: NotFound,
// one for whatever does not open; Forbidden (type share_passphrase, or the
// wrong address), Conflict (type share_sealed), Unavailable, Damaged.
func (s *Service) Open(ctx context.Context, p access.Principal, text, passphrase string) (api.SharedSecret, error) {
	id, link, _ := strings.Cut(text, ".")
	r, _, err := s.get(ctx, id)
	if err != nil {
		return api.SharedSecret{}, err
	}
	out, reason, err := s.open(ctx, p, r, link, passphrase)
	if reason != "" {
		if err := s.record(ctx, p, "share.read", r, access.Refused, reason); err != nil {
			return api.SharedSecret{}, err
		}
	}
	return out, err
}

// open is Open after the share was found. With an error that is a refusal comes
// its reason, for the trail.
func (s *Service) open(ctx context.Context, p access.Principal, r row, link, passphrase string) (out api.SharedSecret, reason string, err error) {
	if !r.entitles(p, link) {
		return out, "not_the_recipient", errNone
	}
	if reason := r.over(s.Now()); reason != "" {
		return out, reason, errNone
	}
	if link == "" {
		if err := s.reaches(p, r); err != nil {
			return out, "ceiling", err
		}
	}
	if !r.admits(p) {
		return out, "address", errAddress
	}
	if reason, err := s.unlock(ctx, r, passphrase); err != nil {
		return out, reason, err
	}
	switch may, err := s.makerMay(ctx, p, r); {
	case err != nil:
		return out, "", err
	case !may:
		return out, "maker_may_not", errNone
	}
	return s.read(ctx, p, r)
}

// entitles reports whether the share is for p, or for who has this link.
func (r row) entitles(p access.Principal, link string) bool {
	if link != "" {
		return r.Link != "" && subtle.ConstantTimeCompare([]byte(hashLink(link)), []byte(r.Link)) == 1
	}
	return r.isFor(p) || r.madeBy(p)
}

// reaches refuses a credential whose vaults or scopes do not take in the
// secret: it may no more than if the secret were its principal's own.
func (s *Service) reaches(p access.Principal, r row) error {
	own := r.secret()
	own.OwnerID = p.ID
	return access.Allow(p, access.SecretRead, own, nil, s.Now())
}

// admits reports whether the share opens from p's address.
func (r row) admits(p access.Principal) bool {
	for _, a := range r.Addresses {
		if a.Contains(p.Addr.Unmap()) {
			return true
		}
	}
	return len(r.Addresses) == 0
}

// unlock checks the passphrase of a share that has one. A try is counted on
// stable storage before the passphrase is looked at, so that many at once are
// as many tries. The right passphrase sets the count back, whatever comes of the
// access; a try that was not decided is taken back.
func (s *Service) unlock(ctx context.Context, r row, passphrase string) (reason string, err error) {
	if r.Passphrase == "" {
		return "", nil
	}
	if passphrase == "" {
		return "no_passphrase", errPassphrase
	}
	if len(passphrase) > MaxPassphrase {
		return "wrong_passphrase", errPassphrase
	}
	_, err = s.change(ctx, r.ID, func(r *row) error {
		if reason = r.over(s.Now()); reason != "" {
			return errNone
		}
		r.Tries++
		return nil
	})
	if err != nil {
		return reason, err
	}
	ok, _, failed := s.Passwords.Verify(ctx, r.Passphrase, passphrase)
	if failed == nil && !ok {
		return "wrong_passphrase", errPassphrase
	}
	_, err = s.change(context.WithoutCancel(ctx), r.ID, func(r *row) error {
		if r.Tries = max(0, r.Tries-1); ok {
			r.Tries = 0
		}
		return nil
	})
	if failed != nil {
		return "", busy(failed)
	}
	return "", err
}

// makerMay reports whether the maker is still there and may share the secret,
// from the address that it goes to.
func (s *Service) makerMay(ctx context.Context, p access.Principal, r row) (bool, error) {
	maker, err := s.People.Member(ctx, r.Maker)
	if errors.Is(err, fault.NotFound) || err == nil && maker.OrgID != r.OrgID {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	maker.Addr, maker.RequestID = p.Addr, p.RequestID
	may, err := s.Gate.Filter(ctx, maker, access.SecretShare, r.secret())
	switch {
	case errors.Is(err, fault.Forbidden), errors.Is(err, fault.NotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	return may(r.Path), nil
}

// read opens the value, counts the access, records it and answers.
func (s *Service) read(ctx context.Context, p access.Principal, r row) (out api.SharedSecret, reason string, err error) {
	sh := vault.Shared{OrgID: r.OrgID, VaultID: r.VaultID, SecretID: r.SecretID, Path: r.Path, Fingerprint: r.Fingerprint}
	sh.Intents = p.Ceiling != nil && p.Ceiling.Intents
	got, err := s.Vault.ReadShared(ctx, sh, func() error {
		var err error
		r, err = s.change(ctx, r.ID, func(r *row) error {
			if reason = r.over(s.Now()); reason != "" && reason != "wrong_passphrases" {
				return errNone
			}
			r.Count++
			return nil
		})
		return err
	})
	switch {
	case errors.Is(err, fault.NotFound), errors.Is(err, fault.Gone):
		if reason == "" {
			reason = "gone"
		}
		return out, reason, errNone
	case errors.Is(err, vault.ErrShareSealed):
		return out, "sealed", errSealed
	case errors.Is(err, fault.Forbidden):
		return out, "intents", err
	case err != nil:
		return out, "", err
	}
	if err := s.record(ctx, p, "share.read", r, access.Allowed, ""); err != nil {
		return out, "", err
	}
	vaultID := ""
	if got.Secret.CMEKEncrypted {
		vaultID = r.VaultID
	}
	return api.SharedSecret{
		VaultID: vaultID, ID: r.ID, Path: r.Path, Type: got.Secret.Type, Value: got.Secret.Value, Version: got.Secret.Version, AccessCount: r.Count,
		MaxAccessCount: r.maxCount(), CMEKEncrypted: got.Secret.CMEKEncrypted, CMEKFingerprint: got.CMEKFingerprint,
	}, "", nil
}
