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

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// A key is its prefix and 32 random bytes in base64url without padding.
const (
	keyPrefix   = "1ck_"
	agentPrefix = "ocv_"
	keyBytes    = 32
	keyLen      = len(keyPrefix) + 43 // 43 is 32 bytes in base64url without padding
	shownOfKey  = 12                  // characters that tell one key from another in a list
)

// keyRecord is what is kept of an API key, as JSON under layout.APIKey of its hash.
type keyRecord struct {
	ID      string    `json:"id"`            // UUID, to name the key by
	User    string    `json:"user,omitzero"` // ID of the user who it is
	Role    string    `json:"role,omitzero"` // of a key that is nobody's: admin, frontend or backend
	Org     string    `json:"org,omitzero"`  // of a key that is nobody's
	Created time.Time `json:"created"`

	// Rows from before keys had names have none of these, and no index entry,
	// until the key is used.
	Prefix  string    `json:"prefix,omitzero"` // shownOfKey characters
	Name    string    `json:"name,omitzero"`
	Scopes  []string  `json:"scopes,omitempty"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
	Used    time.Time `json:"used,omitzero"`    // see Service.touch
}

// owner is whom the key is one of: a user, or the org of a key that is nobody's.
func (k keyRecord) owner() string {
	if k.User != "" {
		return k.User
	}
	return k.Org
}

func (k keyRecord) ownerRow() string {
	if k.User != "" {
		return layout.User(k.User)
	}
	return layout.Org(k.Org)
}

func (k keyRecord) expired(now time.Time) bool { return passed(k.Expires, now) }

// passed reports whether the time to end at, zero for never, is over.
func passed(end, now time.Time) bool { return !end.IsZero() && !now.Before(end) }

func (k keyRecord) wire(now time.Time) api.APIKey {
	return api.APIKey{
		ID: k.ID, Name: k.Name, KeyPrefix: k.Prefix, Scopes: append([]string{}, k.Scopes...), IsActive: !k.expired(now),
		CreatedAt: k.Created, ExpiresAt: timeOrNil(k.Expires), LastUsedAt: timeOrNil(k.Used), Role: k.Role,
	}
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// CreateAPIKey makes a key of the user's and returns its text, which cannot be
// had again. Errors: NotFound (no such user).
func (s *Service) CreateAPIKey(ctx context.Context, userID string) (key string, err error) {
	return s.createKey(ctx, &keyRecord{User: userID})
}

// CreateAdminKey makes an admin key of the org's and returns its text, which
// cannot be had again. Errors: NotFound (no such org).
func (s *Service) CreateAdminKey(ctx context.Context, orgID string) (key string, err error) {
	return s.createKey(ctx, &keyRecord{Role: api.RoleAdmin, Org: orgID})
}

// createKey makes a key of what k says. It fills in the rest of k.
func (s *Service) createKey(ctx context.Context, k *keyRecord) (key string, err error) {
	key = newKey(keyPrefix)
	if err := s.ensureKey(ctx, key, k); err != nil {
		return "", err
	}
	return key, nil
}

func newKey(prefix string) string {
	raw := make([]byte, keyBytes)
	rand.Read(raw) // never fails: see crypto/rand
	defer clear(raw)
	return prefix + base64.RawURLEncoding.EncodeToString(raw)
}

// EnsureAPIKey makes key a key of the user's, if it is not yet. Errors:
// Invalid (not the form of a key), NotFound (no such user), Conflict (the key
// is another user's).
func (s *Service) EnsureAPIKey(ctx context.Context, userID, key string) error {
	return s.ensureKey(ctx, key, &keyRecord{User: userID})
}

// EnsureAdminKey makes key an admin key, if it is not yet: it runs the server
// and reads nobody's data. It is the org's to revoke. Errors: Invalid (not the
// form of a key), NotFound (no such org), Conflict (the key is somebody's).
func (s *Service) EnsureAdminKey(ctx context.Context, orgID, key string) error {
	return s.ensureKey(ctx, key, &keyRecord{Role: api.RoleAdmin, Org: orgID})
}

// ensureKey makes key what k says, as long as there is the row of its owner. It
// fills in the rest of k.
func (s *Service) ensureKey(ctx context.Context, key string, k *keyRecord) error {
	if !isKey(key, keyPrefix) {
		return fault.New(fault.Invalid, "an API key must be 1ck_ and 32 bytes in base64url without padding")
	}
	name := layout.APIKey(hash(key))
	k.Prefix = key[:shownOfKey]
	return storeFault(store.Retry(ctx, func() error {
		var owner struct{ ID string }
		rev, err := s.get(ctx, k.ownerRow(), &owner)
		if err != nil {
			return err
		}
		var there keyRecord
		switch _, err := s.get(ctx, name, &there); {
		case errors.Is(err, fault.NotFound):
			return s.register(ctx, name, k, rev)
		case err != nil:
			return err
		case there.owner() != k.owner() || there.Role != k.Role:
			return fault.New(fault.Conflict, "this API key belongs to another user; make a new one")
		}
		return nil
	}))
}

// register commits the record of a key and its index entry, as long as its
// owner's row is as it was read.
func (s *Service) register(ctx context.Context, name string, k *keyRecord, owner store.Revision) error {
	var b store.Batch
	b.RequireRevision(k.ownerRow(), owner)
	if err := s.addKeyRows(&b, name, k); err != nil {
		return err
	}
	_, err := s.store.Commit(ctx, &b)
	return err
}

// addKeyRows adds to b the record of a new key and its index entry. It fills in
// the rest of k.
func (s *Service) addKeyRows(b *store.Batch, name string, k *keyRecord) (err error) {
	if k.ID == "" {
		if k.ID, err = newID(); err != nil {
			return err
		}
	}
	k.Created = s.now().UTC()
	b.RequireAbsent(name)
	b.Put(layout.APIKeyOf(k.owner(), k.ID), []byte(strings.TrimPrefix(name, layout.APIKey(""))))
	return put(b, name, k)
}

// isKey reports whether text has the form of a key with that prefix. There is
// one text per key: the last character may not hold bits that mean nothing.
func isKey(text, prefix string) bool {
	body, ok := strings.CutPrefix(text, prefix)
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
