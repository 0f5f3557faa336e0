package api

import "time"

// Org is the body of GET /v1/org: the caller's org.
type Org struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Plan      string    `json:"plan"` // free, pro, business or enterprise
	CreatedAt time.Time `json:"created_at"`
}

// Member is a user of the caller's org.
type Member struct {
	ID          string    `json:"id"`
	Email       string    `json:"email"`
	DisplayName string    `json:"display_name"`
	Role        string    `json:"role"`        // owner, admin or member
	AuthMethod  string    `json:"auth_method"` // see Profile
	CreatedAt   time.Time `json:"created_at"`
}

// Members is the body of GET /v1/org/members, oldest first.
type Members struct {
	Members []Member `json:"members"`
}

// UpdateMember is the body of PATCH /v1/org/members/{user}, which answers a Member.
type UpdateMember struct {
	Role string `json:"role"` // owner, admin or member; an org keeps one owner
}

// CreateInvitation is the body of POST /v1/org/invitations.
type CreateInvitation struct {
	Email     string     `json:"email"`
	Role      string     `json:"role,omitempty"`      // "member" when absent
	ExpiresAt *time.Time `json:"expires_at,omitzero"` // within 30 days; 7 days from now when absent
}

// Invitation lets who has its text join the org by SignUp, once, with this
// email.
type Invitation struct {
	ID        string    `json:"id"`
	Email     string    `json:"email"`
	Role      string    `json:"role"`
	InvitedBy string    `json:"invited_by"` // UUID of a user
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// InvitationCreated is the answer to CreateInvitation. The text cannot be had
// again; the server sends no mail, pass it on.
type InvitationCreated struct {
	Invitation Invitation `json:"invitation"`
	Text       string     `json:"text"` // "1inv_...", for SignUp
}

// Invitations is the body of GET /v1/org/invitations: those that can still be
// used, oldest first.
type Invitations struct {
	Invitations []Invitation `json:"invitations"`
}
