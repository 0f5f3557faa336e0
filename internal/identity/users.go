package identity

import (
	"cmp"
	"context"
	"errors"
	"net/mail"
	"strings"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// User is a person of an org. It is kept as JSON under layout.User.
type User struct {
	ID          string      `json:"id"`            // UUID
	Org         string      `json:"org"`           // ID of the org
	Email       string      `json:"email"`         // lower-cased, see user
	Role        access.Role `json:"role,omitzero"` // rows from before there were roles have none: see user
	DisplayName string      `json:"display_name,omitzero"`
	Marketing   bool        `json:"marketing,omitzero"`
	HasPassword bool        `json:"has_password,omitzero"` // there is a row under layout.Password
	Created     time.Time   `json:"created"`

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
// ran their org, and so they are its owners; their emails are as they were given.
// Errors: NotFound.
func (s *Service) user(ctx context.Context, id string) (User, store.Revision, error) {
	var u User
	rev, err := s.get(ctx, layout.User(id), &u)
	u.Role, u.Email = cmp.Or(u.Role, access.Owner), strings.ToLower(u.Email)
	return u, rev, err
}

// CreateUser makes a user of the org: its owner if it has none yet, a member
// otherwise. The email is an address of at most 254 bytes that no user has, in
// whatever case. Errors: Invalid, NotFound (no such org), Conflict (the email
// is taken).
func (s *Service) CreateUser(ctx context.Context, org, email string) (User, error) {
	email, err := parseEmail(email)
	if err != nil {
		return User{}, err
	}
	u, err := s.newUser(org, email)
	if err != nil {
		return User{}, err
	}
	err = store.Retry(ctx, func() (err error) {
		var o Org
		var b store.Batch
		rev, err := s.get(ctx, layout.Org(org), &o)
		if err != nil {
			return err
		}
		if u.Role, err = s.firstRole(ctx, org); err != nil {
			return err
		}
		b.RequireRevision(layout.Org(org), rev)
		return s.addUser(ctx, &b, u)
	})
	if err != nil {
		return User{}, storeFault(err)
	}
	return u, nil
}

// EnsureUser returns the user of the org with this email, whom it makes if need
// be. Errors: as of CreateUser; Conflict when the user is another org's.
func (s *Service) EnsureUser(ctx context.Context, org, email string) (User, error) {
	u, err := s.byEmail(ctx, org, email)
	if errors.Is(err, fault.NotFound) {
		return s.CreateUser(ctx, org, email)
	}
	return u, err
}

var (
	errNoUser = fault.New(fault.NotFound, "there is no such user in your org; check the ID or the email")
	errTaken  = fault.New(fault.Conflict, "this email has an account already; sign in, or use another")
)

// newUser is a user that is not stored yet, without a role.
func (s *Service) newUser(org, email string) (User, error) {
	id, err := newID()
	return User{ID: id, Org: org, Email: email, Created: s.now().UTC()}, err
}

// firstRole is what one more user of the org becomes who has no invitation.
func (s *Service) firstRole(ctx context.Context, org string) (access.Role, error) {
	if err := s.index(ctx); err != nil {
		return "", err
	}
	there, err := s.store.Scan(ctx, store.Prefix(layout.OrgUser(org, "")), store.ScanOptions{Limit: 1})
	if err != nil || len(there) > 0 {
		return access.Member, err
	}
	return access.Owner, nil
}

// addUser commits b with a new user, as long as nobody has the email. Errors:
// those of the store; errTaken.
func (s *Service) addUser(ctx context.Context, b *store.Batch, u User) error {
	switch _, err := s.idOf(ctx, u.Email); {
	case err == nil:
		return errTaken
	case !errors.Is(err, fault.NotFound):
		return err
	}
	b.RequireAbsent(layout.UserEmail(u.Email))
	b.Put(layout.UserEmail(u.Email), []byte(u.ID))
	b.Put(layout.OrgUser(u.Org, u.ID), []byte(u.Role))
	return s.insert(ctx, layout.User(u.ID), u, b)
}

// putUser adds u to b, as long as its row is at rev.
func putUser(b *store.Batch, u User, rev store.Revision) error {
	b.RequireRevision(layout.User(u.ID), rev)
	b.Put(layout.OrgUser(u.Org, u.ID), []byte(u.Role))
	return put(b, layout.User(u.ID), u)
}

// changeUser lets change edit a user, and add to the batch that stores it; it
// may run more than once.
func (s *Service) changeUser(ctx context.Context, id string, change func(*User, *store.Batch) error) (u User, err error) {
	err = store.Retry(ctx, func() error {
		var rev store.Revision
		if u, rev, err = s.user(ctx, id); err != nil {
			return err
		}
		var b store.Batch
		if err := change(&u, &b); err != nil {
			return err
		}
		if err := putUser(&b, u, rev); err != nil {
			return err
		}
		_, err := s.store.Commit(ctx, &b)
		return err
	})
	return u, storeFault(err)
}

// parseEmail returns an email in the form that it is compared in.
func parseEmail(email string) (string, error) {
	a, err := mail.ParseAddress(email)
	if err != nil || a.Address != email || len(email) > 254 {
		return "", fault.New(fault.Invalid, "email must be an address such as name@example.com, of at most 254 bytes")
	}
	return strings.ToLower(email), nil
}
