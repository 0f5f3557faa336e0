package vault

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/store"
)

// EnableCMEK makes every later write to the vault require a blob sealed with
// the CMEK key that req names by its fingerprint: 64 hex digits of either case,
// kept in lower case. What is stored already stays as it is. With req.Replaces the
// key takes the place of the vault's, in one commit, so that no write in between
// is plain. fault.Forbidden when the plan of p's org has no CMEK or p is not a
// person; fault.Invalid when req is malformed or CMEK is enabled already;
// fault.Conflict when the vault's key is not the one to be replaced (type
// cmek_key_mismatch) or is being rotated (cmek_rotating).
func (s *Service) EnableCMEK(ctx context.Context, p access.Principal, vaultID string, req api.EnableCMEK) (api.Vault, error) {
	as, replaces := "vault.cmek_enable", strings.ToLower(req.Replaces)
	if replaces != "" {
		as = "vault.cmek_replace"
	}
	return s.changeCMEK(ctx, target{p: p, action: access.VaultCMEK, vault: vaultID, as: as}, func(v *vault) error {
		if !p.Plan.AllowsCMEK() {
			return fault.New(fault.Forbidden, "customer-managed keys need the business or enterprise plan; the operator gives the org one: keyfold admin plan ORG PLAN")
		}
		fingerprint := strings.ToLower(req.Fingerprint)
		switch {
		case !cmek.ValidFingerprint(fingerprint):
			return errFingerprint
		case req.KeyCheck != "" && !cmek.ValidCheck(req.KeyCheck):
			return errKeyCheck
		case req.BlobVersion < 0 || req.BlobVersion > 2:
			return invalid("blob_version is 1, or 2 for blobs that are bound to vault and path")
		case v.Rotation != nil:
			return errRotating
		case v.Fingerprint != "" && replaces == "":
			return invalid("CMEK is enabled for this vault already: another key is in place; to replace it send replaces with the fingerprint of the old one, or rotate the key")
		case v.Fingerprint != replaces:
			return mismatch("the vault's key is not the one to be replaced; read the vault for its fingerprint and decide anew")
		case fingerprint == replaces:
			return invalid("fingerprint and replaces name the same key; there is nothing to do")
		}
		v.Fingerprint, v.Since, v.KeyCheck, v.BlobVersion = fingerprint, s.time(), req.KeyCheck, cmp.Or(req.BlobVersion, v.BlobVersion)
		return nil
	})
}

var (
	errFingerprint = invalid("fingerprint must be 64 hex digits, the SHA-256 of the key; `keyfold cmek fingerprint` prints it")
	errKeyCheck    = invalid("a key check is 64 lower-case hex digits; leave it out when you have none")
)

// DisableCMEK makes later writes to the vault plain again. Versions that the
// client sealed stay sealed and keep their fingerprint. fault.Invalid when
// CMEK is not enabled; fault.Conflict, type cmek_rotating, while its key is
// rotated.
func (s *Service) DisableCMEK(ctx context.Context, p access.Principal, vaultID string) (api.Vault, error) {
	return s.changeCMEK(ctx, target{p: p, action: access.VaultCMEK, vault: vaultID, as: "vault.cmek_disable"}, func(v *vault) error {
		switch {
		case v.Fingerprint == "":
			return errNoCMEK
		case v.Rotation != nil:
			return errRotating
		}
		v.Fingerprint, v.Since, v.KeyCheck, v.BlobVersion = "", time.Time{}, "", 0
		return nil
	})
}

var (
	errNoCMEK   = invalid("CMEK is not enabled for this vault")
	errRotating = underWay("the vault's CMEK key is being rotated; wait for its end, or cancel the rotation first")
)

func underWay(message string) error {
	return fault.New(fault.Conflict, "%s", message).WithType(api.ProblemCMEKRotating)
}

// changeCMEK applies change to the vault's meta row in one commit.
func (s *Service) changeCMEK(ctx context.Context, t target, change func(*vault) error) (api.Vault, error) {
	var out api.Vault
	err := s.change(ctx, t, func(v vault) error {
		if err := change(&v); err != nil {
			return err
		}
		out = v.wire()
		idem.Answer(ctx, out)
		return s.commitMeta(ctx, new(store.Batch), v)
	})
	if err != nil {
		return api.Vault{}, err
	}
	return out, nil
}

// tag returns the fingerprint that a version is stored with which was declared
// to be sealed with the key of the fingerprint declared; "" declares nothing, and
// is then taken for the vault's key: what is wrong about that while the key is
// rotated the rotation sets right.
func (v vault) tag(declared string) (string, error) {
	declared = strings.ToLower(declared)
	switch {
	case v.Rotation != nil && declared == v.Rotation.Fingerprint:
		return declared, nil
	case declared != "" && v.Fingerprint == "":
		return "", mismatch("the value was declared as sealed, but CMEK is not enabled for this vault; enable it, or write without " + api.HeaderCMEKFingerprint)
	case declared != "" && declared != v.Fingerprint:
		return "", mismatch("the value was sealed with another key than the vault's; read the vault for its fingerprint and seal with that key")
	case v.Rotation != nil && v.Rotation.Closed:
		return "", errClosing
	}
	return v.Fingerprint, nil
}

// What a write hears at the end of a rotation.
var (
	errClosing = closing("the rotation of the vault's CMEK key is about to end; seal with the new key and declare it in " + api.HeaderCMEKFingerprint +
		", or read the vault for its fingerprint in a moment and write again")
	errKeyChanged = closing("the vault's CMEK key changed while this write was under way; read the vault for its fingerprint, seal with that key and write again")
)

func closing(message string) error {
	return fault.New(fault.Conflict, "%s", message).WithType(api.ProblemCMEKRotationClosing).WithRetryAfter(time.Second)
}

func mismatch(message string) error {
	return fault.New(fault.Conflict, "%s", message).WithType(api.ProblemCMEKKeyMismatch)
}

// checkShape refuses a value that is not a blob of the vault's version when the
// vault wants blobs.
func (v vault) checkShape(value string) error {
	if v.Fingerprint == "" {
		return nil
	}
	info, err := cmek.Inspect(value)
	switch {
	case err != nil:
		return blobRequired("this vault takes only values sealed with its CMEK key; seal the value on your side and send the blob in base64")
	case v.BlobVersion == 2 && info.Version != 2:
		return blobRequired("this vault takes only blobs of version 2, which are bound to vault and path; seal the value with a client that makes them")
	case v.BlobVersion != 2 && info.Version == 2:
		return blobRequired("this vault takes no blobs of version 2, since not all clients read them; enable CMEK with blob_version 2 to use them")
	}
	return nil
}

func blobRequired(message string) error {
	return fault.New(fault.Invalid, "%s", message).WithType(api.ProblemCMEKBlobRequired)
}
