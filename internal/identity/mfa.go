package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
)

// secondFactor is kept as JSON under layout.TOTP. Its secret is sealed, in the
// place that totpName names.
type secondFactor struct {
	Confirmed bool      `json:"confirmed,omitzero"` // a code was shown, and it is in force
	Step      int64     `json:"step,omitzero"`      // of the last code that was used
	Recovery  []string  `json:"recovery,omitzero"`  // hashes of the codes that are left
	Created   time.Time `json:"created"`
}

func totpName(userID string) sealed.Name {
	return sealed.Name{Kind: "totp", Owner: userID, ID: "secret"}
}

var (
	errCode   = fault.New(fault.Unauthenticated, "the code is wrong, or was used before; wait for the next one and try again")
	errNoTOTP = fault.New(fault.NotFound, "there is no second factor; begin with POST /v1/auth/mfa/totp")
)

// secondFactor reads that of a user. Errors: errNoTOTP.
func (s *Service) secondFactor(ctx context.Context, userID string) (f secondFactor, rev store.Revision, err error) {
	rev, err = s.get(ctx, layout.TOTP(userID), &f)
	if errors.Is(err, fault.NotFound) {
		err = errNoTOTP
	}
	return f, rev, err
}

// hasTOTP reports whether a user signs in with a second factor.
func (s *Service) hasTOTP(ctx context.Context, userID string) (bool, error) {
	f, _, err := s.secondFactor(ctx, userID)
	if errors.Is(err, fault.NotFound) {
		return false, nil
	}
	return f.Confirmed, err
}

// BeginTOTP makes a second factor for p, a user who shows his password once
// more. It is in force once ConfirmTOTP has seen a code of it; until then
// another call replaces it. Errors: Forbidden, Unauthenticated, TooMany, Conflict (there is
// one), Unavailable.
func (s *Service) BeginTOTP(ctx context.Context, p access.Principal, req api.BeginTOTP) (out api.TOTP, err error) {
	if err := s.gate.Check(ctx, p, access.ProfileWrite, self(p, "auth.totp_begin")); err != nil {
		return out, err
	}
	if err := s.provePassword(ctx, p, req.Password); err != nil {
		return out, err
	}
	u, _, err := s.user(ctx, p.ID)
	if err != nil {
		return out, err
	}
	secret := make([]byte, totpSecretSize)
	rand.Read(secret) // never fails: see crypto/rand
	defer clear(secret)
	text := base32NoPad.EncodeToString(secret)
	out = api.TOTP{Secret: text, OTPAuthURI: totpURI(text, u.Email)}
	idem.Secret(ctx, out)
	err = store.Retry(ctx, func() error {
		f, rev, err := s.secondFactor(ctx, u.ID)
		switch {
		case errors.Is(err, fault.NotFound):
		case err != nil:
			return err
		case f.Confirmed:
			return fault.New(fault.Conflict, "there is a second factor already; remove it first: DELETE /v1/auth/mfa/totp")
		}
		var b store.Batch
		if err := s.box.Put(ctx, &b, totpName(u.ID), secret); err != nil {
			return err
		}
		return s.putFactor(ctx, &b, u.ID, secondFactor{Created: s.now().UTC()}, rev)
	})
	if err != nil {
		return api.TOTP{}, storeFault(err)
	}
	return out, nil
}

// putFactor commits b with the row of f before its own writes, as long as the
// row is at rev.
func (s *Service) putFactor(ctx context.Context, b *store.Batch, userID string, f secondFactor, rev store.Revision) error {
	b.RequireRevision(layout.TOTP(userID), rev) // 0: absent
	var all store.Batch
	if err := put(&all, layout.TOTP(userID), f); err != nil {
		return err
	}
	b.Writes = append(all.Writes, b.Writes...)
	_, err := s.store.Commit(ctx, b)
	return err
}

// ConfirmTOTP puts the second factor of p in force and returns its recovery
// codes. Errors: Forbidden, Unauthenticated, TooMany, NotFound, Conflict (in force
// already), Unavailable.
func (s *Service) ConfirmTOTP(ctx context.Context, p access.Principal, code string) (api.RecoveryCodes, error) {
	if err := s.gate.Check(ctx, p, access.ProfileWrite, self(p, "auth.totp_enable")); err != nil {
		return api.RecoveryCodes{}, err
	}
	codes, hashes := newRecoveryCodes()
	_, err := s.useCode(ctx, from(p), p.ID, code, func(f *secondFactor, _ *store.Batch) error {
		if f.Confirmed {
			return fault.New(fault.Conflict, "the second factor is in force already")
		}
		f.Confirmed, f.Recovery = true, hashes
		idem.Secret(ctx, api.RecoveryCodes{RecoveryCodes: codes})
		return nil
	})
	if err != nil {
		return api.RecoveryCodes{}, err
	}
	return api.RecoveryCodes{RecoveryCodes: codes}, nil
}

// RemoveTOTP takes the second factor of p away, who shows a code of it. Errors:
// Forbidden, Unauthenticated, TooMany, NotFound, Unavailable.
func (s *Service) RemoveTOTP(ctx context.Context, p access.Principal, code string) error {
	if err := s.gate.Check(ctx, p, access.ProfileWrite, self(p, "auth.totp_disable")); err != nil {
		return err
	}
	_, err := s.useCode(ctx, from(p), p.ID, code, func(f *secondFactor, b *store.Batch) error {
		b.Delete(layout.TOTP(p.ID)) // the last write of a key counts
		s.box.Delete(b, totpName(p.ID))
		return nil
	})
	return err
}
