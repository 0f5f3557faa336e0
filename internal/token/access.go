package token

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// errToken is the answer to every access token that is not ours and alive.
var errToken = fault.New(fault.Unauthenticated, "the token is not a live one; sign in again")

var method = jwt.SigningMethodEdDSA

// newParser returns the parser of access tokens. The algorithm is ours to say
// and not the token's: WithValidMethods admits one, and its keys are of one type.
func newParser(now func() time.Time) *jwt.Parser {
	return jwt.NewParser(jwt.WithValidMethods([]string{method.Alg()}), jwt.WithStrictDecoding(),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(Leeway), jwt.WithTimeFunc(now))
}

// Issue signs c and returns the token with the time at which it ends. Errors:
// TooLarge (more scopes and vaults than MaxText holds: the caller gives fewer),
// Unavailable, Damaged.
func (s *Service) Issue(ctx context.Context, c Claims) (text string, expires time.Time, err error) {
	now := s.now()
	if c.IssuedAt.IsZero() {
		c.IssuedAt = now
	}
	c.Expires = c.Expires.Truncate(time.Second)
	if !c.sensible() || !c.alive(now) || c.Expires.Sub(now) > MaxTTL {
		return "", time.Time{}, fault.New(fault.Internal, "a token of nobody, or without a sensible end, was asked for; nothing was issued")
	}
	all, err := s.current(ctx)
	if err != nil {
		return "", time.Time{}, err
	}
	k := all.signer(now)
	w := newWire(c)
	t := jwt.NewWithClaims(method, &w)
	t.Header["kid"] = k.ID
	if text, err = t.SignedString(k.private()); err != nil {
		return "", time.Time{}, fault.Wrap(fault.Internal, err, "a token could not be signed")
	}
	if len(text) > MaxText {
		return "", time.Time{}, fault.New(fault.TooLarge, "the scopes and vaults are more than a token holds; give fewer, such as one glob for many paths")
	}
	return text, c.Expires, nil
}

// Verify returns what the token says if it is ours, alive and not revoked. The
// slices are shared with other callers, who only read them. Every call asks the
// store whether the token is revoked; the signature of a token that was verified
// before is not looked at again, as long as its key verifies. Errors: Unauthenticated, one and the same for
// every cause; Unavailable, Damaged.
func (s *Service) Verify(ctx context.Context, text string) (Claims, error) {
	if len(text) > MaxText || strings.ContainsAny(text, "\r\n") { // which the decoder of base64 passes over
		return Claims{}, errToken
	}
	sum := sha256.Sum256([]byte(text))
	v := s.cache.get(sum)
	if v == nil {
		c, kid, err := s.parse(ctx, text)
		if err != nil {
			return Claims{}, err
		}
		v = &verified{Claims: c, kid: kid, revoked: layout.Revoked(c.JTI), size: entryBytes + len(text)}
		s.cache.put(sum, v)
	}
	if err := s.reread(ctx); err != nil {
		return Claims{}, err
	}
	if _, err := s.known(v.kid); err != nil {
		return Claims{}, err
	}
	if !v.alive(s.now()) {
		return Claims{}, errToken
	}
	switch _, err := s.store.Get(ctx, v.revoked); {
	case isAbsent(err):
		return v.Claims, nil
	case err != nil:
		return Claims{}, store.Fault(err)
	}
	return Claims{}, errToken
}

// parse checks signature and times, and says whose key signed. Errors are those
// of Verify.
func (s *Service) parse(ctx context.Context, text string) (c Claims, kid string, err error) {
	var w wire
	_, err = s.parser.ParseWithClaims(text, &w, func(t *jwt.Token) (any, error) {
		var ok bool
		if kid, ok = t.Header["kid"].(string); !ok || t.Header["typ"] != "JWT" || len(t.Header) != 3 {
			return nil, errToken
		}
		return s.verifier(ctx, kid)
	})
	if err != nil {
		if f, ok := errors.AsType[*fault.Error](err); ok {
			return c, kid, f
		}
		return c, kid, errToken // the cause may quote the token
	}
	c, ok := w.claims()
	if !ok {
		return c, kid, errToken
	}
	return c, kid, nil
}

// verifier returns the key of this ID, after reading the keys again if they do
// not hold it.
func (s *Service) verifier(ctx context.Context, id string) (ed25519.PublicKey, error) {
	if k, err := s.known(id); err == nil {
		return k, nil
	}
	if err := s.reread(ctx); err != nil {
		return nil, err
	}
	return s.known(id)
}

// Revoke makes a token dead on all servers by the time it returns, and ends its
// session: no refresh token of that works any more. c is as Verify returned it.
func (s *Service) Revoke(ctx context.Context, c Claims) error {
	if c.JTI == "" || c.Expires.IsZero() {
		return fault.New(fault.Internal, "a token without a name cannot be revoked; nothing was changed")
	}
	var b store.Batch
	key := layout.Revoked(c.JTI)
	b.Put(key, nil)
	if c.Session != "" {
		b.Delete(layout.Refresh(c.Session))
		b.Delete(layout.RefreshOf(c.ID, c.Session))
	}
	ends(&b, c.Expires.Add(Leeway), key, "")
	return store.Fault(s.commit(ctx, &b))
}
