// Package identity owns orgs, their users and the users' API keys, and says
// who a bearer credential is.
//
// An API key is "1ck_" and the base64url form, without padding, of 32 random
// bytes. It is stored as its SHA-256 only, which is also its name in the store:
// a slow hash such as Argon2 slows the guessing of passwords, and nobody
// guesses 256 random bits; looking the hash up tells nothing by its time about
// any stored key. The text of a key is returned once, by CreateAPIKey, and is
// in no error and no log line.
//
// It trusts the store: whoever can write to it can add a key. Everything
// answered without error is on stable storage; each change is one record, so a
// crash leaves nothing half done.
package identity

import (
	"cmp"
	"context"
	"errors"
	"net/mail"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/password"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/token"
)

// Config is what a Service stands on.
type Config struct {
	Store    store.Store
	Gate     access.Gate
	Recorder access.Recorder
	Box      *sealed.Box // for secrets that must be had again
	Tokens   interface {
		Issue(context.Context, token.Claims) (text string, expires time.Time, err error)
		Verify(context.Context, string) (token.Claims, error)
	}
	Sessions  Sessions         // see there
	Patterns  Patterns         // see there
	Backoff   Backoff          // see there
	Passwords *password.Hasher // nil: one with the default parameters

	SignUp      SignUp           // "": closed
	DefaultPlan access.Plan      // of an org that signs up; "": enterprise
	Now         func() time.Time // nil: time.Now
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
// and many servers may share one store: nothing is remembered between calls
// but that the store's older rows have been entered in the indexes.
type Service struct {
	store    store.Store
	gate     access.Gate
	recorder access.Recorder
	box      *sealed.Box
	tokens   interface {
		Issue(context.Context, token.Claims) (text string, expires time.Time, err error)
		Verify(context.Context, string) (token.Claims, error)
	}
	sessions  Sessions
	patterns  Patterns
	backoff   Backoff
	passwords *password.Hasher
	signing   signing
	signUp    SignUp
	plan      access.Plan
	now       func() time.Time
	indexed   atomic.Bool // see index
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
		store: c.Store, gate: c.Gate, recorder: c.Recorder, box: c.Box, tokens: c.Tokens, sessions: c.Sessions,
		patterns: c.Patterns, backoff: c.Backoff, passwords: c.Passwords,
		signUp: cmp.Or(c.SignUp, SignUpClosed), plan: cmp.Or(c.DefaultPlan, access.Enterprise), now: c.Now,
	}
}

// Org is a customer. It is kept as JSON under layout.Org.
type Org struct {
	ID      string      `json:"id"` // UUID
	Name    string      `json:"name"`
	Plan    access.Plan `json:"plan"`
	Created time.Time   `json:"created"`
}

// User is a person of an org. It is kept as JSON under layout.User.
type User struct {
	ID          string      `json:"id"`            // UUID
	Org         string      `json:"org"`           // ID of the org
	Email       string      `json:"email"`         // as it was given; lower-cased it is the user's alone, see index
	Role        access.Role `json:"role,omitzero"` // rows from before there were roles have none: see user
	DisplayName string      `json:"display_name,omitzero"`
	Marketing   bool        `json:"marketing,omitzero"`
	Created     time.Time   `json:"created"`
	HasPassword bool        `json:"has_password,omitzero"` // there is a row under layout.Password

	// Sessions that did not begin after NotBefore are over, but for the one
	// whose access token has the ID Spared.
	NotBefore time.Time `json:"not_before,omitzero"`
	Spared    string    `json:"spared,omitzero"`
}

// admits reports whether a session still counts that began at the time issued;
// tokenID is its access token's, "" when it is not known.
func (u User) admits(issued time.Time, tokenID string) bool {
	return issued.After(u.NotBefore) || tokenID != "" && tokenID == u.Spared
}

// user reads a user. Rows from before there were roles are those of people who
// ran their org, and so they are its owners. Errors: NotFound.
func (s *Service) user(ctx context.Context, id string) (User, store.Revision, error) {
	var u User
	rev, err := s.get(ctx, layout.User(id), &u)
	u.Role = cmp.Or(u.Role, access.Owner)
	return u, rev, err
}

// CreateOrg makes an org. The name has 1 to 200 characters. Errors: Invalid.
func (s *Service) CreateOrg(ctx context.Context, name string, plan access.Plan) (Org, error) {
	if !isText(name, 200) {
		return Org{}, fault.New(fault.Invalid, "the name of an org must be 1 to 200 characters of UTF-8, without control characters")
	}
	if !slices.Contains([]access.Plan{access.Free, access.Pro, access.Business, access.Enterprise}, plan) {
		return Org{}, fault.New(fault.Invalid, "the plan must be free, pro, business or enterprise")
	}
	id, err := newID()
	if err != nil {
		return Org{}, err
	}
	o := Org{ID: id, Name: name, Plan: plan, Created: s.now().UTC()}
	if err := s.insert(ctx, layout.Org(o.ID), o, &store.Batch{}); err != nil {
		return Org{}, storeFault(err)
	}
	return o, nil
}

// CreateUser makes a user of the org. The email is an address of at most 254
// bytes; two users may have the same. Errors: Invalid, NotFound (no such org).
func (s *Service) CreateUser(ctx context.Context, org, email string) (User, error) {
	if a, err := mail.ParseAddress(email); err != nil || a.Address != email || len(email) > 254 {
		return User{}, fault.New(fault.Invalid, "email must be an address such as name@example.com, of at most 254 bytes")
	}
	var o Org
	rev, err := s.get(ctx, layout.Org(org), &o)
	if err != nil {
		return User{}, err
	}
	id, err := newID()
	if err != nil {
		return User{}, err
	}
	u := User{ID: id, Org: o.ID, Email: email, Created: s.now().UTC()}
	var b store.Batch
	b.RequireRevision(layout.Org(o.ID), rev)
	if err := s.insert(ctx, layout.User(u.ID), u, &b); err != nil {
		return User{}, storeFault(err)
	}
	return u, nil
}

// insert commits b with a new record of v under key. Its errors are the store's.
func (s *Service) insert(ctx context.Context, key string, v any, b *store.Batch) error {
	value, err := json.Marshal(v)
	if err != nil {
		return fault.New(fault.Internal, "the record does not encode")
	}
	b.RequireAbsent(key)
	b.Put(key, value)
	_, err = s.store.Commit(ctx, b)
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
