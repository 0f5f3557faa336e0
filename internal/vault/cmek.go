package vault

import (
	"context"
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// EnableCMEK makes every later write to the vault require a blob sealed with
// the CMEK key that fingerprint names: 64 hex digits of either case, kept in
// lower case. What is stored already stays as it is. fault.Forbidden when the
// plan of p's org has no CMEK or p is not a person; fault.Invalid when the
// fingerprint is malformed or CMEK is enabled already.
func (s *Service) EnableCMEK(ctx context.Context, p access.Principal, vaultID, fingerprint string) (api.Vault, error) {
	return s.changeCMEK(ctx, target{p: p, action: access.VaultCMEK, vault: vaultID, as: "vault.cmek_enable"}, func(v *vault) error {
		if !p.Plan.AllowsCMEK() {
			return fault.New(fault.Forbidden, "customer-managed keys need the business or enterprise plan")
		}
		fingerprint = strings.ToLower(fingerprint)
		if !cmek.ValidFingerprint(fingerprint) {
			return invalid("fingerprint must be 64 hex digits, the SHA-256 of the key; `keyfold cmek fingerprint` prints it")
		}
		if v.Fingerprint != "" {
			return invalid("CMEK is enabled for this vault already; disable it first, or rotate the key")
		}
		v.Fingerprint = fingerprint
		return nil
	})
}

// DisableCMEK makes later writes to the vault plain again. Versions that the
// client sealed stay sealed and keep their fingerprint. fault.Invalid when
// CMEK is not enabled.
func (s *Service) DisableCMEK(ctx context.Context, p access.Principal, vaultID string) (api.Vault, error) {
	return s.changeCMEK(ctx, target{p: p, action: access.VaultCMEK, vault: vaultID, as: "vault.cmek_disable"}, func(v *vault) error {
		if v.Fingerprint == "" {
			return invalid("CMEK is not enabled for this vault")
		}
		v.Fingerprint = ""
		return nil
	})
}

// changeCMEK applies change to the vault's meta row in one commit.
func (s *Service) changeCMEK(ctx context.Context, t target, change func(*vault) error) (api.Vault, error) {
	var out api.Vault
	err := s.change(ctx, t, func(v vault) error {
		if err := change(&v); err != nil {
			return err
		}
		out = v.wire()
		return s.commitMeta(ctx, new(store.Batch), v)
	})
	if err != nil {
		return api.Vault{}, err
	}
	return out, nil
}

// checkDeclared refuses a write that was sealed with a key that is not the
// vault's. An empty declaration declares nothing.
func (v vault) checkDeclared(fingerprint string) error {
	switch {
	case fingerprint == "" || v.Fingerprint != "" && strings.EqualFold(fingerprint, v.Fingerprint):
		return nil
	case v.Fingerprint == "":
		return mismatch("the value was declared as sealed, but CMEK is not enabled for this vault; enable it, or write without " + api.HeaderCMEKFingerprint)
	}
	return mismatch("the value was sealed with another key than the vault's; read the vault for its fingerprint and seal with that key")
}

func mismatch(message string) error {
	return fault.New(fault.Conflict, "%s", message).WithType(api.ProblemCMEKKeyMismatch)
}

// checkShape refuses a value that is not a blob when the vault wants blobs.
func (v vault) checkShape(value string) error {
	if v.Fingerprint == "" {
		return nil
	}
	if _, err := cmek.Inspect(value); err != nil {
		return fault.New(fault.Invalid, "this vault takes only values sealed with its CMEK key; seal the value on your side and send the blob in base64").
			WithType(api.ProblemCMEKBlobRequired)
	}
	return nil
}
