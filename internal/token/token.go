// Package token issues and verifies the short-lived texts that stand for a
// sign-in: access tokens, which are JWTs signed with Ed25519, refresh tokens,
// and one-time texts of sign-ins that are under way.
package token

import (
	"context"
	"log/slog"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
)

// MaxTTL is the longest that an access token may live.
const MaxTTL = 24 * time.Hour

// Config is what a Service stands on.
type Config struct {
	Store store.Store
	Box   *sealed.Box
	Now   func() time.Time // nil: time.Now
	Log   *slog.Logger     // nil: slog.Default()
}

// Service issues and verifies. It may be used by many goroutines, and many
// servers may share one store.
type Service struct{ Config }

// New returns a Service. It reads nothing yet, and holds nothing to close.
func New(c Config) *Service { return &Service{c} }

// Claims is what an access token says.
type Claims struct {
	Kind   access.Kind // User or Agent
	ID     string      // of the user or agent
	OrgID  string
	Scopes []string // path globs; of a user empty is no limit, of an agent no access
	Vaults []string // IDs; empty: any

	// JTI names the token; Issue makes it.
	JTI string
	// IssuedAt is exact to the nanosecond. A sign-in gives the time before it
	// read the account's row, so that a token does not outlive a change of
	// password in between. Zero: now.
	IssuedAt time.Time
	Expires  time.Time // whole seconds; at most MaxTTL after IssuedAt
}

var errSkeleton = fault.New(fault.Unavailable, "not there yet")

// Issue signs c and returns the token with the time at which it ends. Errors:
// TooLarge (more scopes and vaults than MaxText holds; the caller gives fewer),
// Unavailable.
func (s *Service) Issue(ctx context.Context, c Claims) (text string, expires time.Time, err error) {
	return "", time.Time{}, errSkeleton
}

// Verify returns what the token says if it is ours, alive and not revoked. The
// slices are shared: they must not be changed. Errors: Unauthenticated, one for
// every cause; Unavailable, Damaged.
func (s *Service) Verify(ctx context.Context, text string) (Claims, error) {
	return Claims{}, errSkeleton
}

// Revoke makes the token dead on all servers when it returns; c is as Verify
// returned it.
func (s *Service) Revoke(ctx context.Context, c Claims) error { return errSkeleton }

// Rotate makes a new signing key, unless one waits to be used already.
func (s *Service) Rotate(ctx context.Context) error { return errSkeleton }

// JWKS returns all keys that verify tokens now or soon.
func (s *Service) JWKS(ctx context.Context) (api.JWKS, error) { return api.JWKS{}, errSkeleton }

// PublicKey returns the key that signs now.
func (s *Service) PublicKey(ctx context.Context) (api.PublicKey, error) {
	return api.PublicKey{}, errSkeleton
}

// Session is what a refresh token stands for.
type Session struct {
	UserID string
	Since  time.Time // the sign-in that it began with
}

// IssueRefresh begins a session and returns its first refresh token, "1rt_" and
// 43 characters. since is as Claims.IssuedAt.
func (s *Service) IssueRefresh(ctx context.Context, userID string, since time.Time) (text string, err error) {
	return "", errSkeleton
}

// Redeem takes a refresh token for the next one. Errors: Unauthenticated. When
// the token was used before, its session is ended, and session says whose it
// was though err is not nil.
func (s *Service) Redeem(ctx context.Context, text string) (session Session, next string, err error) {
	return Session{}, "", errSkeleton
}

// RevokeRefresh ends the session of a refresh token, if there is one.
func (s *Service) RevokeRefresh(ctx context.Context, text string) error { return errSkeleton }

// RevokeAll ends all sessions of a user.
func (s *Service) RevokeAll(ctx context.Context, userID string) error { return errSkeleton }

// Challenge is something half done that the holder of a text may finish, such
// as a sign-in that waits for its second factor. It holds nothing secret.
type Challenge struct {
	Kind    string    `json:"kind"`          // one lower-case word: "mfa", "passkey", "device"
	Subject string    `json:"subject"`       // whom it is about; may be empty
	Data    []byte    `json:"data,omitzero"` // the kind's own, at most MaxData bytes
	Expires time.Time `json:"expires"`       // zero, when it is put: in ChallengeTTL
}

// ChallengeTTL is how long a challenge lives if nobody says otherwise.
const ChallengeTTL = 5 * time.Minute

// PutChallenge stores c and returns its text, "1ot_" and 43 characters.
func (s *Service) PutChallenge(ctx context.Context, c Challenge) (text string, err error) {
	return "", errSkeleton
}

// PutChallengeAs is PutChallenge under a text of the caller's, such as a code
// that a person types. Errors: Conflict (a live one of this kind has the text).
func (s *Service) PutChallengeAs(ctx context.Context, text string, c Challenge) error {
	return errSkeleton
}

// LookChallenge returns a live challenge and leaves it. Errors:
// Unauthenticated (none of this kind).
func (s *Service) LookChallenge(ctx context.Context, kind, text string) (Challenge, error) {
	return Challenge{}, errSkeleton
}

// TakeChallenge returns a live challenge once: of many calls one gets it.
// Errors: Unauthenticated.
func (s *Service) TakeChallenge(ctx context.Context, kind, text string) (Challenge, error) {
	return Challenge{}, errSkeleton
}

// ChangeChallenge lets change edit Subject and Data of a live challenge, in one
// step against every other change; change may run more than once, and its error
// is returned and changes nothing. Errors: Unauthenticated.
func (s *Service) ChangeChallenge(ctx context.Context, kind, text string, change func(*Challenge) error) error {
	return errSkeleton
}
