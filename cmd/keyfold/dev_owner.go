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

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/identity"
)

// The credentials of a development server are derived from DIR/dev.seed, 32
// random bytes made once, by HKDF-SHA256 without a salt and with one info
// string each:
//
//	API key of the owner   "1ck_" + base64url of 32 bytes, info "keyfold/dev/owner/api-key/v1"
//	admin key              "1ck_" + base64url of 32 bytes, info "keyfold/dev/admin/api-key/v1"
//
// So one data directory has the same credentials at every start, though the
// server stores only their hashes.
const (
	seedFileName  = "dev.seed"
	seedSize      = 32
	ownerKeyInfo  = "keyfold/dev/owner/api-key/v1"
	adminKeyInfo  = "keyfold/dev/admin/api-key/v1"
	devOwnerEmail = "owner@keyfold.example"
)

// devOwner returns the owner's credentials and the admin key. On the first
// start it makes the org, on the enterprise plan, and the owner. Only the last
// of these steps, the API key, is looked for: a crash before it leaves an org
// that nobody uses.
func (a *app) devOwner(ctx context.Context, ids *identity.Service, data string) (devFile, error) {
	seed, err := devSeed(filepath.Join(data, seedFileName))
	if err != nil {
		return devFile{}, err
	}
	defer clear(seed)
	key, err1 := deriveAPIKey(seed, ownerKeyInfo)
	adminKey, err2 := deriveAPIKey(seed, adminKeyInfo)
	if err := errors.Join(err1, err2); err != nil {
		return devFile{}, err
	}
	dev := devFile{Email: devOwnerEmail, APIKey: key, AdminKey: adminKey}
	owner, err := ids.Authenticate(ctx, key)
	if errors.Is(err, fault.Unauthenticated) {
		dev.OrgID, err = makeOwner(ctx, ids, key)
	} else {
		dev.OrgID = owner.OrgID
	}
	if err != nil {
		return dev, err
	}
	return dev, ids.EnsureAdminKey(ctx, dev.OrgID, adminKey)
}

// makeOwner makes the org, its owner and his API key.
func makeOwner(ctx context.Context, ids *identity.Service, key string) (orgID string, err error) {
	org, err := ids.CreateOrg(ctx, "Development", access.Enterprise)
	if err != nil {
		return "", err
	}
	user, err := ids.CreateUser(ctx, org.ID, devOwnerEmail)
	if err != nil {
		return "", err
	}
	return org.ID, ids.EnsureAPIKey(ctx, user.ID, key)
}

func deriveAPIKey(seed []byte, info string) (string, error) {
	raw, err := hkdf.Key(sha256.New, seed, nil, info, 32)
	if err != nil {
		return "", err
	}
	defer clear(raw)
	return "1ck_" + base64.RawURLEncoding.EncodeToString(raw), nil
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
