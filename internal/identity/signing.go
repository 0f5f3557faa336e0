package identity

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
)

// A signing secret is signingPrefix and 32 random bytes in base64url without
// padding; the bytes of that text are the key of the HMAC.
const (
	signingPrefix = "sig_"
	signingKind   = "signing" // of its sealed row; the owner is the org
	typeSigning   = "signing_key"
	maxSigning    = 10 // secrets of an org at once
	maxUserID     = 36 // bytes
	maxSigners    = 1024
)

// signingList is the signing secrets that an org has, oldest first, as JSON
// under layout.Signing.
type signingList struct {
	Keys []signingKey `json:"keys"`
}

type signingKey struct {
	ID      string    `json:"id"` // UUID
	Created time.Time `json:"created"`
}

func (k signingKey) name(org string) sealed.Name {
	return sealed.Name{Kind: signingKind, Owner: org, ID: k.ID}
}

func (k signingKey) wire() api.SigningKey { return api.SigningKey{ID: k.ID, CreatedAt: k.Created} }

// signing is the secrets of orgs as they were opened last. Each use reads the
// revision of the org's list first, so a secret that was deleted is of no use
// from then on, on every server.
type signing struct {
	mu   sync.Mutex
	orgs map[string]signer // by ID; at most maxSigners
}

// signer is the secrets of an org at one revision of its list.
type signer struct {
	rev     store.Revision
	secrets []secret // as the list; the last one signs
}

type secret []byte

func (secret) String() string   { return "[redacted]" }
func (secret) GoString() string { return "[redacted]" }

func (x secret) sign(userID string) string {
	mac := hmac.New(sha256.New, x)
	mac.Write([]byte(userID))
	return hex.EncodeToString(mac.Sum(nil))
}

// verifies reports whether one of the secrets signed userID. It tries them all
// and compares in constant time, so that its time tells nothing about them.
func (x signer) verifies(userID, signature string) bool {
	found := false
	for _, secret := range x.secrets {
		if hmac.Equal([]byte(secret.sign(userID)), []byte(signature)) {
			found = true
		}
	}
	return found
}

// signer returns the org's secrets; none when it has none. Errors: Unavailable
// (of the KMS), Damaged.
func (s *Service) signer(ctx context.Context, org string) (signer, error) {
	rec, err := s.store.Get(ctx, layout.Signing(org))
	if errors.Is(err, store.ErrNotFound) {
		return signer{}, nil
	} else if err != nil {
		return signer{}, storeFault(err)
	}
	s.signing.mu.Lock()
	known := s.signing.orgs[org]
	s.signing.mu.Unlock()
	if known.rev == rec.Revision {
		return known, nil
	}
	list, err := decode[signingList](rec.Value)
	if err != nil {
		return signer{}, err
	}
	x := signer{rev: rec.Revision}
	for _, k := range list.Keys {
		text, err := s.box.Get(ctx, k.name(org))
		if errors.Is(err, fault.NotFound) { // deleted since the list was read
			continue
		} else if err != nil {
			return signer{}, err
		}
		x.secrets = append(x.secrets, text)
	}
	s.signing.keep(org, x)
	return x, nil
}

func (g *signing) keep(org string, x signer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.orgs == nil || len(g.orgs) >= maxSigners {
		g.orgs = map[string]signer{}
	}
	g.orgs[org] = x
}

// Sign returns the signature with which a frontend key of p's org names the end
// user. p is a backend key. An org that has no signing secret gets one. Errors:
// Invalid, Unauthenticated, Forbidden, Unavailable.
func (s *Service) Sign(ctx context.Context, p access.Principal, req api.Sign) (api.Signed, error) {
	if p.Kind != access.OrgKey || p.Role != access.Backend {
		err := fault.New(fault.Forbidden, "signatures are for backend keys; make one with the role backend")
		return api.Signed{}, s.refuse(ctx, p, "thread.sign", access.Refused, err)
	}
	if err := checkUserID(req.UserID); err != nil {
		return api.Signed{}, err
	}
	x, err := s.signer(ctx, p.OrgID)
	if err == nil && len(x.secrets) == 0 {
		if _, err = s.addSecret(ctx, p.OrgID, true); err == nil {
			x, err = s.signer(ctx, p.OrgID)
		}
	}
	if err == nil && len(x.secrets) == 0 {
		err = fault.New(fault.Conflict, "the org's signing secrets were deleted meanwhile; try again")
	}
	if err != nil {
		return api.Signed{}, err
	}
	return api.Signed{UserID: req.UserID, Signature: x.secrets[len(x.secrets)-1].sign(req.UserID)}, nil
}

func checkUserID(id string) error {
	if id == "" || len(id) > maxUserID || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl) {
		return fault.New(fault.Invalid, "a user ID has 1 to %d bytes of UTF-8, without control characters", maxUserID)
	}
	return nil
}

// EndUser returns the end user for whom a frontend or backend key calls: userID
// and signature as the headers name him, author as the query or body does, each
// "" when absent. A frontend key needs a signature of userID under a live secret
// of its org. A backend key may send one; without one it names whom it likes, in
// either place. Errors: Unauthenticated (no or a wrong signature), Forbidden
// (two users named), Invalid (none named, or no user ID), Unavailable.
func (s *Service) EndUser(ctx context.Context, key access.Principal, userID, signature, author string) (access.Principal, error) {
	if key.Kind != access.OrgKey || key.Role != access.Frontend && key.Role != access.Backend {
		return access.Principal{}, fault.New(fault.Forbidden, "only a frontend or backend key speaks for end users")
	}
	if key.Role == access.Frontend || signature != "" {
		x, err := s.signer(ctx, key.OrgID)
		if err != nil {
			return access.Principal{}, err
		}
		if checkUserID(userID) != nil || !x.verifies(userID, signature) {
			return access.Principal{}, s.refuse(ctx, key, "auth.failure", access.Failed, unsigned(key.Role))
		}
	}
	switch {
	case userID != "" && author != "" && userID != author:
		return access.Principal{}, s.refuse(ctx, key, "auth.failure", access.Refused, errTwoUsers)
	case userID == "" && author == "":
		return access.Principal{}, fault.New(fault.Invalid, "author is required: name the user by X-User-ID or author")
	case userID == "":
		userID = author
	}
	if err := checkUserID(userID); err != nil {
		return access.Principal{}, err
	}
	p := key
	p.Kind, p.ID = access.EndUser, userID
	return p, nil
}

// unsigned is the fault of a signature that is none of the user's.
func unsigned(role access.Role) error {
	if role == access.Backend {
		return errWrongSignature
	}
	return errSignature
}

var (
	errWrongSignature = fault.New(fault.Unauthenticated, "X-User-Signature is no signature of X-User-ID under a live signing secret; sign the ID at POST /v1/_sign, or leave the signature out: a backend key needs none")

	errSignature = fault.New(fault.Unauthenticated, "a frontend key needs X-User-ID and X-User-Signature; have your backend sign the ID at POST /v1/_sign")
	errTwoUsers  = fault.New(fault.Forbidden, "author is another user than X-User-ID; leave one of them out")
)

// refuse records a refusal, and returns it.
func (s *Service) refuse(ctx context.Context, p access.Principal, action string, how access.Outcome, refusal error) error {
	if p.ID == "" || p.OrgID == "" {
		return errCredential
	}
	err := s.record(ctx, access.Event{
		OrgID: p.OrgID, ActorType: string(p.Kind), ActorID: p.ID, Action: action, ResourceType: typeSigning,
		Outcome: how, Details: map[string]string{}, Addr: p.Addr, RequestID: p.RequestID,
	})
	return cmp.Or(err, refusal)
}

// AddSigningKey makes a signing secret of p's org and returns it: it signs from
// now on, and those before it are still taken. Errors: Forbidden, Conflict (too
// many), Unavailable.
func (s *Service) AddSigningKey(ctx context.Context, p access.Principal) (api.SigningKeyCreated, error) {
	if err := s.gate.Check(ctx, p, access.OrgKeyWrite, access.Resource{OrgID: p.OrgID, Type: typeSigning, As: "signing_key.create"}); err != nil {
		return api.SigningKeyCreated{}, err
	}
	return s.addSecret(ctx, p.OrgID, false)
}

// addSecret makes a signing secret of the org or, if first is set, none when
// there is one.
func (s *Service) addSecret(ctx context.Context, org string, first bool) (out api.SigningKeyCreated, err error) {
	text := newKey(signingPrefix)
	err = s.editSigning(ctx, org, func(list *signingList, b *store.Batch) error {
		if first && len(list.Keys) > 0 {
			return nil
		}
		if len(list.Keys) >= maxSigning {
			return fault.New(fault.Conflict, "there are %d signing secrets already; delete one that is not used", maxSigning)
		}
		id, err := newID()
		if err != nil {
			return err
		}
		k := signingKey{ID: id, Created: s.now().UTC()}
		list.Keys = append(list.Keys, k)
		out = api.SigningKeyCreated{SigningKey: k.wire(), Secret: text}
		if !first {
			idem.Secret(ctx, out)
		}
		return s.box.Put(ctx, b, k.name(org), []byte(text))
	})
	if err != nil {
		return api.SigningKeyCreated{}, err
	}
	return out, nil
}

// editSigning lets edit change an org's list and the batch that stores it,
// which is done again when somebody else was faster.
func (s *Service) editSigning(ctx context.Context, org string, edit func(*signingList, *store.Batch) error) error {
	row := layout.Signing(org)
	return storeFault(store.Retry(ctx, func() error {
		var list signingList
		rev, err := s.get(ctx, row, &list)
		if err != nil && !errors.Is(err, fault.NotFound) {
			return err
		}
		var b store.Batch
		b.RequireRevision(row, rev)
		if err := edit(&list, &b); err != nil {
			return err
		}
		if len(b.Writes) == 0 {
			return nil
		}
		if err := put(&b, row, list); err != nil {
			return err
		}
		_, err = s.store.Commit(ctx, &b)
		return err
	}))
}

// SigningKeys lists the signing secrets of p's org, without the secrets.
func (s *Service) SigningKeys(ctx context.Context, p access.Principal) (api.SigningKeys, error) {
	out := api.SigningKeys{SigningKeys: []api.SigningKey{}}
	if err := s.gate.Check(ctx, p, access.OrgKeyRead, access.Resource{OrgID: p.OrgID, Type: typeSigning}); err != nil {
		return out, err
	}
	var list signingList
	if _, err := s.get(ctx, layout.Signing(p.OrgID), &list); err != nil && !errors.Is(err, fault.NotFound) {
		return out, err
	}
	for _, k := range list.Keys {
		out.SigningKeys = append(out.SigningKeys, k.wire())
	}
	return out, nil
}

// DeleteSigningKey ends a signing secret of p's org: what it signed is refused
// when this returns. Errors: Forbidden, NotFound.
func (s *Service) DeleteSigningKey(ctx context.Context, p access.Principal, id string) error {
	r := access.Resource{OrgID: p.OrgID, Type: typeSigning, As: "signing_key.delete"}
	if isID(id) {
		r.ID = id
	}
	if err := s.gate.Check(ctx, p, access.OrgKeyWrite, r); err != nil {
		return err
	}
	return s.editSigning(ctx, p.OrgID, func(list *signingList, b *store.Batch) error {
		for i, k := range list.Keys {
			if k.ID == id {
				list.Keys = append(list.Keys[:i], list.Keys[i+1:]...)
				s.box.Delete(b, k.name(p.OrgID))
				return nil
			}
		}
		return fault.New(fault.NotFound, "there is no such signing secret here; look at the list of them")
	})
}
