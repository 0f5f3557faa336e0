package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

const (
	keyPrefix = "1ck_"
	keyBytes  = 32
	keyLen    = len(keyPrefix) + 43 // 43 is 32 bytes in base64url without padding
)

// errCredential is the answer to every credential that is not a live one.
var errCredential = fault.New(fault.Unauthenticated, "the API key is not a live one; send Authorization: Bearer 1ck_...")

// keyRecord is what is kept of an API key, as JSON under layout.APIKey of its hash.
type keyRecord struct {
	ID      string    `json:"id"`            // UUID, to name the key by
	User    string    `json:"user,omitzero"` // ID of the user who it is
	Role    string    `json:"role,omitzero"` // of a key that is nobody's: "admin"
	Org     string    `json:"org,omitzero"`  // of a key that is nobody's
	Created time.Time `json:"created"`
}

const roleAdmin = "admin"

// Authenticate says who bearer is: the user of an API key, with the org's plan
// as it stands at this moment, or the operator of an admin key. A credential that is malformed, unknown, or of
// a user or org that is no more is one and the same Unauthenticated, for the
// work of at most one hash and one read when the key is unknown. Other errors:
// Unavailable, Damaged.
func (s *Service) Authenticate(ctx context.Context, bearer string) (access.Principal, error) {
	if !isKey(bearer) {
		return access.Principal{}, errCredential
	}
	var k keyRecord
	var u User
	var o Org
	_, err := s.get(ctx, layout.APIKey(hash(bearer)), &k)
	u.Org = k.Org
	if err == nil && k.Role != roleAdmin {
		_, err = s.get(ctx, layout.User(k.User), &u)
	}
	if err == nil {
		_, err = s.get(ctx, layout.Org(u.Org), &o)
	}
	if errors.Is(err, fault.NotFound) {
		return access.Principal{}, errCredential
	} else if err != nil {
		return access.Principal{}, err
	}
	if k.Role == roleAdmin {
		return access.Principal{Kind: access.Operator, ID: k.ID, OrgID: o.ID, Plan: o.Plan}, nil
	}
	return access.Principal{Kind: access.User, ID: u.ID, OrgID: o.ID, Plan: o.Plan}, nil
}

// CreateAPIKey makes a key of the user's and returns its text, which cannot be
// had again. Errors: NotFound (no such user).
func (s *Service) CreateAPIKey(ctx context.Context, userID string) (key string, err error) {
	key = newKey()
	if err := s.EnsureAPIKey(ctx, userID, key); err != nil {
		return "", err
	}
	return key, nil
}

func newKey() string {
	raw := make([]byte, keyBytes)
	rand.Read(raw) // never fails: see crypto/rand
	defer clear(raw)
	return keyPrefix + base64.RawURLEncoding.EncodeToString(raw)
}

// CreateAdminKey makes an admin key of the org's and returns its text, which
// cannot be had again. Errors: NotFound (no such org).
func (s *Service) CreateAdminKey(ctx context.Context, orgID string) (key string, err error) {
	key = newKey()
	if err := s.EnsureAdminKey(ctx, orgID, key); err != nil {
		return "", err
	}
	return key, nil
}

// EnsureAPIKey makes key a key of the user's, if it is not yet. Errors:
// Invalid (not the form of a key), NotFound (no such user), Conflict (the key
// is another user's).
func (s *Service) EnsureAPIKey(ctx context.Context, userID, key string) error {
	var u User
	return s.ensureKey(ctx, key, layout.User(userID), &u, keyRecord{User: userID})
}

// EnsureAdminKey makes key an admin key, if it is not yet: it runs the server
// and reads nobody's data. It is the org's to revoke. Errors: Invalid (not the
// form of a key), NotFound (no such org), Conflict (the key is somebody's).
func (s *Service) EnsureAdminKey(ctx context.Context, orgID, key string) error {
	var o Org
	return s.ensureKey(ctx, key, layout.Org(orgID), &o, keyRecord{Role: roleAdmin, Org: orgID})
}

// ensureKey makes key what rec says, as long as there is the row of its owner.
func (s *Service) ensureKey(ctx context.Context, key, owner string, row any, rec keyRecord) error {
	if !isKey(key) {
		return fault.New(fault.Invalid, "an API key must be 1ck_ and 32 bytes in base64url without padding")
	}
	name := layout.APIKey(hash(key))
	return storeFault(store.Retry(ctx, func() error {
		rev, err := s.get(ctx, owner, row)
		if err != nil {
			return err
		}
		var k keyRecord
		switch _, err := s.get(ctx, name, &k); {
		case errors.Is(err, fault.NotFound):
			return s.register(ctx, name, rec, owner, rev)
		case err != nil:
			return err
		case k.User != rec.User || k.Role != rec.Role || k.Org != rec.Org:
			return fault.New(fault.Conflict, "this API key belongs to another user; make a new one")
		}
		return nil
	}))
}

// register commits the record of a key, as long as its owner's is as it was read.
func (s *Service) register(ctx context.Context, name string, rec keyRecord, owner string, rev store.Revision) (err error) {
	if rec.ID, err = newID(); err != nil {
		return err
	}
	rec.Created = s.now().UTC()
	var b store.Batch
	b.RequireRevision(owner, rev)
	return s.insert(ctx, name, rec, &b)
}

// isKey reports whether text has the form of a key. There is one text per key:
// the last character may not hold bits that mean nothing.
func isKey(text string) bool {
	body, ok := strings.CutPrefix(text, keyPrefix)
	if !ok || len(text) != keyLen {
		return false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	return err == nil && len(raw) == keyBytes
}

// hash names a key in the store: hex SHA-256 of its whole text.
func hash(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}
