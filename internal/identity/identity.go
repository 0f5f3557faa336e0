// Package identity owns orgs, their users and agents, and what they show to get
// in: passwords and second factors, API keys, the signing secrets of orgs. It
// says who a bearer credential is.
//
// An API key is a prefix, such as "1ck_", and the base64url form, without
// padding, of 32 random bytes; an invitation's text and a recovery code are
// random, too. They are stored as their SHA-256 only, which is also their name
// in the store: a slow hash slows the guessing of passwords, and nobody
// guesses 256 random bits; looking the hash up tells nothing by its time about
// any stored key. Passwords are hashed by package password. The secrets of
// second factors and of orgs are sealed by the KMS. A text that was made here is
// returned once, and no credential is in an error, an event or a log line.
//
// Users prove themselves, and get sessions: an access token that is dead once
// its user is no more, or his NotBefore is after it, and a refresh token. What
// answers a sign-in does the same work, and says the same, whether there is
// such a user or not.
//
// It trusts the store: whoever can write to it can add a key. Everything
// answered without error is on stable storage; each change is one commit, so a
// crash leaves nothing half done but remains of those who were removed, which
// nobody can use.
package identity

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/password"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/token"
)

// Config is what a Service stands on.
type Config struct {
	Store     store.Store
	Gate      access.Gate
	Recorder  access.Recorder
	Box       *sealed.Box      // for secrets that must be had again
	Tokens    Tokens           // see there
	Sessions  Sessions         // see there
	Patterns  Patterns         // see there
	Backoff   Backoff          // see there
	Passwords *password.Hasher // nil: one with the default parameters

	SignUp      SignUp           // "": closed
	DefaultPlan access.Plan      // of an org that signs up; "": enterprise
	Now         func() time.Time // nil: time.Now
}

// Tokens makes and reads access tokens; a *token.Service does.
type Tokens interface {
	Issue(context.Context, token.Claims) (text string, expires time.Time, err error)
	Verify(context.Context, string) (token.Claims, error)
}

// Sessions keeps what outlives one access token; a *token.Service does.
type Sessions interface {
	Revoke(context.Context, token.Claims) error
	IssueRefresh(ctx context.Context, userID string, since time.Time) (text string, err error)
	Redeem(ctx context.Context, text string) (session token.Session, next string, err error)
	RevokeRefresh(ctx context.Context, text string) error
	RevokeAll(ctx context.Context, userID string) error
	PutChallenge(context.Context, token.Challenge) (text string, err error)
	LookChallenge(ctx context.Context, kind, text string) (token.Challenge, error)
	TakeChallenge(ctx context.Context, kind, text string) (token.Challenge, error)
}

// Backoff slows down those who guess; a *throttle.Backoff does.
type Backoff interface {
	// Wait returns 0 and counts a failed attempt for key, or returns how long
	// there may be none.
	Wait(key string) time.Duration
	Succeeded(key string) // forgets key's failures
	Undo(key string)      // takes back the latest attempt
}

// SignUp says who may make an account.
type SignUp string

// The ways to sign up.
const (
	SignUpOpen    SignUp = "open"    // anybody, to an org of their own; or with an invitation
	SignUpInvited SignUp = "invited" // with an invitation
	SignUpClosed  SignUp = "closed"  // nobody
)

// From is where a request came from that has no principal yet.
type From struct {
	Addr      netip.Addr // zero: not known
	RequestID string
}

// Service is the register of who is who. It may be used by many goroutines,
// and many servers may share one store: nothing of what the store says is remembered
// between calls but the keys that sign, and that older rows have been entered in the indexes.
type Service struct {
	store     store.Store
	gate      access.Gate
	recorder  access.Recorder
	box       *sealed.Box
	tokens    Tokens
	sessions  Sessions
	patterns  Patterns
	backoff   Backoff
	passwords *password.Hasher
	signing   signing
	signUp    SignUp
	plan      access.Plan
	now       func() time.Time
	indexed   atomic.Bool  // see index
	known     *store.Known // which rows a credential took to be authenticated
}

// New returns a Service. It reads nothing yet.
func New(c Config) *Service {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Passwords == nil {
		c.Passwords = password.New(password.Params{})
	}
	return &Service{
		store: c.Store, known: store.NewKnown(c.Store), gate: c.Gate, recorder: c.Recorder, box: c.Box, tokens: c.Tokens, sessions: c.Sessions,
		patterns: c.Patterns, backoff: c.Backoff, passwords: c.Passwords,
		signUp: cmp.Or(c.SignUp, SignUpClosed), plan: cmp.Or(c.DefaultPlan, access.Enterprise), now: c.Now,
	}
}

// put adds the record of v under key to b.
func put(b *store.Batch, key string, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return fault.New(fault.Internal, "the record does not encode")
	}
	b.Put(key, value)
	return nil
}

// insert commits b with a new record of v under key. Its errors are the store's.
func (s *Service) insert(ctx context.Context, key string, v any, b *store.Batch) error {
	b.RequireAbsent(key)
	if err := put(b, key, v); err != nil {
		return err
	}
	_, err := s.store.Commit(ctx, b)
	return err
}

// get reads the record under key into v.
func (s *Service) get(ctx context.Context, key string, v any) (store.Revision, error) {
	rec, err := s.store.Get(ctx, key)
	if err != nil {
		return 0, storeFault(err)
	}
	if err := json.Unmarshal(rec.Value, v); err != nil {
		return 0, fault.New(fault.Damaged, "a record of an org, user or key is damaged; restore the store from a backup")
	}
	return rec.Revision, nil
}

// storeFault names an error of the store. It lets a fault pass, and nil.
func storeFault(err error) error {
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrLimit) { // of a key that no ID of ours makes
		return fault.New(fault.NotFound, "there is no such org, user or key; check the ID")
	}
	return store.Fault(err)
}

func newID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fault.Wrap(fault.Internal, err, "no ID could be made")
	}
	return id.String(), nil
}

// isText reports whether s is UTF-8 of 1 to limit characters without control characters.
func isText(s string, limit int) bool {
	n := utf8.RuneCountInString(s)
	return utf8.ValidString(s) && 1 <= n && n <= limit && !strings.ContainsFunc(s, unicode.IsControl)
}
