package main

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/password"
)

// The credentials of a development server are derived from DIR/dev.seed, 32
// random bytes made once, by HKDF-SHA256 without a salt and with one info
// string each, "keyfold/dev/<who>/<what>/v1":
//
//	owner/api-key, free/api-key      "1ck_" + base64url of 32 bytes: the owners of the two orgs
//	admin/api-key                    "1ck_" + base64url of 32 bytes: the admin key
//	backend/api-key, frontend/api-key  "1ck_" + base64url of 32 bytes: keys of the first org
//	signing/secret                   the prefix of signing secrets + base64url of 32 bytes
//	owner/password, member/password, free/password  "Kf-" + base64url of 16 bytes, the first of the sequence
//	                                 .../v1, .../v2, ... that keeps the rules for passwords
//
// So one data directory has the same credentials at every start, though the
// server stores only their hashes.
const (
	seedFileName = "dev.seed"
	seedSize     = 32

	devOwnerEmail  = "owner@keyfold.example"
	devMemberEmail = "member@keyfold.example"
	devFreeEmail   = "free@keyfold.example"
)

// devOwner returns the credentials of two orgs: the owner's, on the enterprise
// plan, and one on the free plan. What is missing it makes; an org is looked
// for by its owner's API key, which is made last, so that a crash before it
// leaves an org that nobody uses.
func (a *app) devOwner(ctx context.Context, ids *identity.Service, data string) (devFile, error) {
	raw, err := devSeed(filepath.Join(data, seedFileName))
	if err != nil {
		return devFile{}, err
	}
	seed := devSecret(raw)
	defer clear(seed)
	dev := devFile{
		Email: devOwnerEmail, Password: seed.password("owner"), APIKey: seed.key("1ck_", "owner/api-key"), AdminKey: seed.key("1ck_", "admin/api-key"),
		BackendKey: seed.key("1ck_", "backend/api-key"), FrontendKey: seed.key("1ck_", "frontend/api-key"),
		SigningKey: seed.key(identity.SigningPrefix, "signing/secret"),
		Member:     devLogin{devMemberEmail, seed.password("member")}, Free: devLogin{devFreeEmail, seed.password("free")},
	}
	if dev.OrgID, err = ensureOwner(ctx, ids, "Development", access.Enterprise, devLogin{dev.Email, dev.Password}, dev.APIKey); err != nil {
		return dev, err
	}
	if _, err = ensureOwner(ctx, ids, "Development, free", access.Free, dev.Free, seed.key("1ck_", "free/api-key")); err != nil {
		return dev, err
	}
	return dev, errors.Join(
		ensureLogin(ctx, ids, dev.OrgID, dev.Member),
		ids.EnsureAdminKey(ctx, dev.OrgID, dev.AdminKey),
		ids.EnsureOrgKey(ctx, dev.OrgID, api.RoleBackend, dev.BackendKey),
		ids.EnsureOrgKey(ctx, dev.OrgID, api.RoleFrontend, dev.FrontendKey),
		ids.EnsureSigningSecret(ctx, dev.OrgID, dev.SigningKey),
	)
}

// ensureOwner makes the org, its owner and his API key, unless the key is live.
func ensureOwner(ctx context.Context, ids *identity.Service, name string, plan access.Plan, who devLogin, key string) (orgID string, err error) {
	owner, err := ids.Authenticate(ctx, key)
	if err == nil {
		return owner.OrgID, ensureLogin(ctx, ids, owner.OrgID, who)
	}
	if !errors.Is(err, fault.Unauthenticated) {
		return "", err
	}
	org, err := ids.CreateOrg(ctx, name, plan)
	if err != nil {
		return "", err
	}
	if err := ensureLogin(ctx, ids, org.ID, who); err != nil {
		return "", err
	}
	user, err := ids.EnsureUser(ctx, org.ID, who.Email)
	if err != nil {
		return "", err
	}
	return org.ID, ids.EnsureAPIKey(ctx, user.ID, key)
}

// ensureLogin makes a user with a password, unless he has one.
func ensureLogin(ctx context.Context, ids *identity.Service, orgID string, who devLogin) error {
	user, err := ids.EnsureUser(ctx, orgID, who.Email)
	if err != nil || user.HasPassword {
		return err
	}
	return ids.SetPassword(ctx, user.ID, who.Password)
}

// devSecret is the seed, from which all follows.
type devSecret []byte

func (s devSecret) derive(info string, size int) string {
	raw, err := hkdf.Key(sha256.New, s, nil, "keyfold/dev/"+info, size)
	if err != nil { // which needs a size of thousands
		panic(err)
	}
	defer clear(raw)
	return base64.RawURLEncoding.EncodeToString(raw)
}

func (s devSecret) key(prefix, info string) string { return prefix + s.derive(info+"/v1", 32) }

func (s devSecret) password(who string) string {
	for n := 1; ; n++ {
		if text := "Kf-" + s.derive(fmt.Sprintf("%s/password/v%d", who, n), 16); password.Check(text) == nil {
			return text
		}
	}
}

// devSeed reads the seed or makes it. The data directory is ours alone by now:
// its stores are open, and they lock it.
func devSeed(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeSeed(path)
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, cli.Advise(fmt.Errorf("%s is open to others; the API key follows from it", path), "chmod 600 "+path)
	}
	seed, err := os.ReadFile(path)
	if err == nil && len(seed) != seedSize {
		err = cli.Advise(fmt.Errorf("%s is damaged: it must hold %d bytes", path, seedSize),
			"remove it; a new org with a new API key is then made, which does not see the old one's data")
	}
	return seed, err
}

func makeSeed(path string) ([]byte, error) {
	seed := make([]byte, seedSize)
	rand.Read(seed) // never fails: see crypto/rand
	return seed, cli.ReplaceFile(path, cli.Bytes(seed))
}

func writeDevFile(path string, dev devFile) error {
	text, err := json.MarshalIndent(dev, "", "  ")
	if err != nil {
		return err
	}
	return cli.ReplaceFile(path, cli.Bytes(append(text, '\n')))
}
