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
	"context"
	"errors"
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
)

// Config is what a Service stands on.
type Config struct {
	Store    store.Store
	Gate     access.Gate
	Recorder access.Recorder
	Box      *sealed.Box      // for secrets that must be had again
	Patterns Patterns         // see there
	Now      func() time.Time // nil: time.Now
}

// Service is the register of who is who. It may be used by many goroutines,
// and many servers may share one store: nothing is remembered between calls.
type Service struct {
	store    store.Store
	gate     access.Gate
	recorder access.Recorder
	box      *sealed.Box
	patterns Patterns
	signing  signing
	now      func() time.Time
}

// New returns a Service. It reads nothing yet.
func New(c Config) *Service {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Service{store: c.Store, gate: c.Gate, recorder: c.Recorder, box: c.Box, patterns: c.Patterns, now: c.Now}
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
	ID      string    `json:"id"`  // UUID
	Org     string    `json:"org"` // ID of the org
	Email   string    `json:"email"`
	Created time.Time `json:"created"`
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
