package keyfoldtest

import (
	"fmt"

	"github.com/keyfold/keyfold/internal/access"
)

// User is a person with an API key.
type User struct {
	ID     string
	OrgID  string
	Email  string
	APIKey string // "1ck_...", for Authorization: Bearer
}

// NewOrg makes an org on a plan ("free", "pro", "business" or "enterprise")
// and returns its first user.
func (s *Server) NewOrg(plan string) User {
	s.t.Helper()
	org, err := s.node.Identity.CreateOrg(s.t.Context(), "Org on "+plan, access.Plan(plan))
	if err != nil {
		s.t.Fatalf("keyfoldtest: %v", err)
	}
	return s.NewUser(org.ID)
}

// NewUser makes one more user of an org.
func (s *Server) NewUser(orgID string) User {
	s.t.Helper()
	ctx := s.t.Context()
	*s.users++
	u, err := s.node.Identity.CreateUser(ctx, orgID, fmt.Sprintf("user%d@example.com", *s.users))
	if err != nil {
		s.t.Fatalf("keyfoldtest: %v", err)
	}
	key, err := s.node.Identity.CreateAPIKey(ctx, u.ID)
	if err != nil {
		s.t.Fatalf("keyfoldtest: %v", err)
	}
	return User{ID: u.ID, OrgID: u.Org, Email: u.Email, APIKey: key}
}

// NewAdminKey makes an admin key: it runs the server and reads nobody's data.
func (s *Server) NewAdminKey() string {
	s.t.Helper()
	key, err := s.node.Identity.CreateAdminKey(s.t.Context(), s.Owner.OrgID)
	if err != nil {
		s.t.Fatalf("keyfoldtest: %v", err)
	}
	return key
}
