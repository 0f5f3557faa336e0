package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// errCredential is the answer to every credential that is not a live one.
var errCredential = fault.New(fault.Unauthenticated, "the credential is not a live one; sign in again, or use a live API key: 1ck_... as the Bearer, ocv_... at /v1/auth/agent-token")

// Authenticate says who bearer is: an API key or an access token, with all that
// its user or agent and its org are at this moment. Whatever is malformed,
// unknown, expired, revoked or of somebody who is no more is one and the same
// Unauthenticated; a key that is unknown costs no more than one read. A
// frontend or backend key is an access.OrgKey: see EndUser. Other errors:
// Unavailable, Damaged.
func (s *Service) Authenticate(ctx context.Context, bearer string) (access.Principal, error) {
	p, err := s.authenticate(ctx, bearer)
	if isNotLive(err) {
		err = errCredential
	}
	if err != nil {
		return access.Principal{}, err
	}
	return p, nil
}

// isNotLive reports whether err says that there is no such credential, or no more.
func isNotLive(err error) bool {
	return errors.Is(err, fault.NotFound) || errors.Is(err, fault.Unauthenticated)
}

func (s *Service) authenticate(ctx context.Context, bearer string) (p access.Principal, err error) {
	credential := sha256.Sum256([]byte(bearer))
	name := string(credential[:])
	ctx, known := s.known.Ahead(ctx, name)
	var own string // key of the credential's own row
	switch {
	case isKey(bearer, keyPrefix):
		own = layout.APIKey(hex.EncodeToString(credential[:]))
		p, err = s.byKey(ctx, bearer)
	case strings.Count(bearer, ".") == 2:
		p, err = s.byToken(ctx, bearer)
		own = layout.Revoked(p.Credential)
	default:
		return p, errCredential
	}
	if err == nil {
		var o Org
		_, err = s.get(ctx, layout.Org(p.OrgID), &o)
		p.Plan, _ = o.planAt(s.now())
	}
	switch rows := rowsOf(p, own); {
	case isNotLive(err):
		s.known.Remember(name) // no keys: what is no credential any more has nothing read ahead, see httpx.Row.Ahead
	case err == nil && !slices.Equal(rows, known):
		s.known.Remember(name, rows...)
	}
	return p, err
}

// rowsOf returns the keys of the rows that say whether p's credential is live: its own, that of who p is, and his org's.
func rowsOf(p access.Principal, own string) []string {
	keys := []string{own, layout.Org(p.OrgID)}
	switch p.Kind {
	case access.Agent:
		keys = append(keys, layout.Agent(p.OrgID, p.ID))
	case access.User:
		keys = append(keys, layout.User(p.ID))
	}
	return keys
}

// byKey is authenticate of an API key, without the org's plan.
func (s *Service) byKey(ctx context.Context, key string) (access.Principal, error) {
	k, rev, err := s.liveKey(ctx, key)
	if err != nil {
		return access.Principal{}, err
	}
	p := access.Principal{OrgID: k.Org, Credential: k.ID}
	switch k.Role {
	case "":
		u, _, err := s.user(ctx, k.User)
		if err != nil {
			return p, err
		}
		p.Kind, p.ID, p.OrgID, p.Role, p.Ceiling = access.User, u.ID, u.Org, u.Role, userCeiling(k.Scopes)
	case api.RoleAdmin:
		p.Kind, p.ID = access.Operator, k.ID
	case api.RoleFrontend, api.RoleBackend:
		p.Kind, p.ID, p.Role = access.OrgKey, k.ID, access.Role(k.Role)
	default:
		return p, errCredential
	}
	s.touchKey(ctx, key, k, rev)
	return p, nil
}

// liveKey returns the record of an API key that has not expired.
func (s *Service) liveKey(ctx context.Context, key string) (k keyRecord, rev store.Revision, err error) {
	if rev, err = s.get(ctx, layout.APIKey(hash(key)), &k); err == nil && k.expired(s.now()) {
		err = errCredential
	}
	return k, rev, err
}

// byToken is authenticate of an access token, without the org's plan.
func (s *Service) byToken(ctx context.Context, text string) (access.Principal, error) {
	c, err := s.tokens.Verify(ctx, text)
	if err != nil {
		return access.Principal{}, err
	}
	p := access.Principal{Kind: c.Kind, ID: c.ID, OrgID: c.OrgID, Credential: c.JTI}
	switch c.Kind {
	case access.User:
		u, _, err := s.user(ctx, c.ID)
		if err != nil {
			return p, err
		}
		if u.Org != c.OrgID || !u.admits(c.IssuedAt, c.JTI) {
			return p, errCredential
		}
		p.Role, p.Ceiling = u.Role, userCeiling(c.Scopes)
	case access.Agent:
		a, rev, err := s.agent(ctx, c.OrgID, c.ID)
		if err != nil {
			return p, err
		}
		if now := s.now(); !a.lives(now) || passed(a.KeyExpires, now) || !a.admits(c.IssuedAt) {
			return p, errCredential
		}
		p.Ceiling = &access.Ceiling{Scopes: c.Scopes, Vaults: c.Vaults, Intents: a.Intents}
		s.touchAgent(ctx, c.OrgID, a, rev)
	default:
		return p, errCredential
	}
	return p, nil
}

// userCeiling is the ceiling of a user's credential with these scopes.
func userCeiling(scopes []string) *access.Ceiling {
	if len(scopes) == 0 {
		return nil
	}
	return &access.Ceiling{Scopes: scopes}
}

// fresh is how late the time of a last use may be.
const fresh = 10 * time.Minute

// touch notes at most once in fresh that the row under name was used. A note
// that fails is made at another use; one that meets a change of the row, such
// as its deletion, is not made.
func (s *Service) touch(ctx context.Context, name string, rev store.Revision, row any, b *store.Batch) {
	b.RequireRevision(name, rev)
	if put(b, name, row) == nil {
		s.store.Commit(ctx, b)
	}
}

// used reports whether the last use was long enough ago to be noted anew.
func (s *Service) used(last time.Time) bool { return s.now().Sub(last) >= fresh }

func (s *Service) touchKey(ctx context.Context, key string, k keyRecord, rev store.Revision) {
	if !s.used(k.Used) {
		return
	}
	k.Used, k.Prefix = s.now().UTC(), key[:shownOfKey]
	var b store.Batch
	b.Put(layout.APIKeyOf(k.owner(), k.ID), []byte(hash(key)))
	s.touch(ctx, layout.APIKey(hash(key)), rev, k, &b)
}

func (s *Service) touchAgent(ctx context.Context, org string, a agent, rev store.Revision) {
	if s.used(a.Used) {
		a.Used = s.now().UTC()
		s.touch(ctx, layout.Agent(org, a.ID), rev, a, new(store.Batch))
	}
}
