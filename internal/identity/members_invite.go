package identity

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// An invitation's text is "1inv_" and 32 random bytes in base64url without
// padding. It is stored as its SHA-256 only, which is its name in an index.
const invitationPrefix = "1inv_"

// Bounds of invitations.
const (
	invitationTTL    = 7 * 24 * time.Hour // if nobody says otherwise
	maxInvitationTTL = 30 * 24 * time.Hour
	maxInvitations   = 1000 // of an org at once, or some more when they are made at the same moment
)

// invitation is kept as JSON under layout.Invitation.
type invitation struct {
	ID      string      `json:"id"`
	Org     string      `json:"org"`
	Email   string      `json:"email"` // as parseEmail returns it; nobody else can use it
	Role    access.Role `json:"role"`
	By      string      `json:"by"`   // ID of the user who made it
	Hash    string      `json:"hash"` // of its text
	Created time.Time   `json:"created"`
	Expires time.Time   `json:"expires"`

	rev, orgRev store.Revision // as they were read
}

// place is the value under layout.InvitationText.
type place struct {
	Org string `json:"org"`
	ID  string `json:"id"`
}

func (inv invitation) delete(b *store.Batch) {
	b.Delete(layout.Invitation(inv.Org, inv.ID))
	b.Delete(layout.InvitationText(inv.Hash))
}

func (inv invitation) wire() api.Invitation {
	return api.Invitation{ID: inv.ID, Email: inv.Email, Role: string(inv.Role), InvitedBy: inv.By, CreatedAt: inv.Created, ExpiresAt: inv.Expires}
}

// errInvitation is the answer to whoever has no invitation of his own.
var errInvitation = fault.New(fault.Invalid, "the invitation is not a live one for this email; ask for a new one")

// invitation returns a live invitation by its text: for this email, and by
// somebody who could make it today. Errors: errInvitation for all else.
func (s *Service) invitation(ctx context.Context, text, email string) (inv invitation, err error) {
	var at place
	if _, err = s.get(ctx, layout.InvitationText(hash(text)), &at); err == nil {
		inv.rev, err = s.get(ctx, layout.Invitation(at.Org, at.ID), &inv)
	}
	var by User
	if err == nil {
		inv.orgRev, err = s.get(ctx, layout.Org(at.Org), new(Org))
	}
	if err == nil {
		by, _, err = s.user(ctx, inv.By)
	}
	switch {
	case errors.Is(err, fault.NotFound):
		return inv, errInvitation
	case err != nil:
		return inv, err
	case inv.Email != email || passed(inv.Expires, s.now()), by.Org != inv.Org || !mayMake(by.Role, inv.Role):
		return inv, errInvitation
	}
	return inv, nil
}

// Invite makes an invitation into p's org. An email that has an account in
// another org is not told from one that has none. Errors: Forbidden, Invalid,
// Conflict (a member already, or too many).
func (s *Service) Invite(ctx context.Context, p access.Principal, req api.CreateInvitation) (out api.InvitationCreated, err error) {
	inv := invitation{Org: p.OrgID, Role: access.Role(cmp.Or(req.Role, string(access.Member))), By: p.ID, Created: s.now().UTC()}
	if err := checkRole(inv.Role); err != nil {
		return out, err
	}
	if inv.ID, err = newID(); err != nil {
		return out, err
	}
	r := access.Resource{OrgID: p.OrgID, Type: "invitation", ID: inv.ID, As: "member.invite_" + string(inv.Role)}
	if err := s.gate.Check(ctx, p, access.MemberWrite, r); err != nil {
		return out, err
	}
	if err := s.fill(ctx, p, r, &inv, req); err != nil {
		return out, err
	}
	if err := s.sweepInvitations(ctx, p.OrgID); err != nil {
		return out, err
	}
	raw := make([]byte, keyBytes)
	rand.Read(raw) // never fails: see crypto/rand
	out.Text = invitationPrefix + base64.RawURLEncoding.EncodeToString(raw)
	inv.Hash, out.Invitation = hash(out.Text), inv.wire()
	idem.Secret(ctx, out)
	err = store.Retry(ctx, func() error { // its answer is sealed, and a rewrap may begin
		var b store.Batch
		if err := put(&b, layout.InvitationText(inv.Hash), place{inv.Org, inv.ID}); err != nil {
			return err
		}
		return s.insert(ctx, layout.Invitation(inv.Org, inv.ID), inv, &b)
	})
	if err != nil {
		return api.InvitationCreated{}, storeFault(err)
	}
	return out, nil
}

// fill checks what req says of an invitation.
func (s *Service) fill(ctx context.Context, p access.Principal, r access.Resource, inv *invitation, req api.CreateInvitation) (err error) {
	if inv.Email, err = parseEmail(req.Email); err != nil {
		return err
	}
	inv.Expires = inv.Created.Add(invitationTTL)
	if t := req.ExpiresAt; t != nil {
		if !t.After(inv.Created) || t.After(inv.Created.Add(maxInvitationTTL)) {
			return fault.New(fault.Invalid, "expires_at must be in the future, and within 30 days")
		}
		inv.Expires = t.UTC()
	}
	if !mayMake(p.Role, inv.Role) {
		return s.refuseMember(ctx, p, r)
	}
	switch _, err := s.byEmail(ctx, p.OrgID, inv.Email); {
	case err == nil:
		return fault.New(fault.Conflict, "this email is a member of your org already")
	case !errors.Is(err, fault.NotFound):
		return err
	}
	return nil
}

// sweepInvitations deletes those that have expired, and says when there is no
// room for one more.
func (s *Service) sweepInvitations(ctx context.Context, org string) error {
	all, err := s.invitations(ctx, org)
	if err != nil {
		return err
	}
	var b store.Batch
	live := 0
	for _, inv := range all {
		if passed(inv.Expires, s.now()) {
			inv.delete(&b)
		} else {
			live++
		}
	}
	if live >= maxInvitations {
		return fault.New(fault.Conflict, "there are %d invitations already; delete those that nobody will use", live)
	}
	_, err = s.store.Commit(idem.Apart(ctx), &b)
	return storeFault(err)
}

// invitations returns all rows, also of those that have expired.
func (s *Service) invitations(ctx context.Context, org string) (all []invitation, err error) {
	for rec, err := range store.All(ctx, s.store, store.Prefix(layout.Invitation(org, ""))) {
		if err != nil {
			return nil, storeFault(err)
		}
		inv, err := decode[invitation](rec.Value)
		if err != nil {
			return nil, err
		}
		all = append(all, inv)
	}
	return all, nil
}

// Invitations lists those of p's org that can still be used. Errors: Forbidden.
func (s *Service) Invitations(ctx context.Context, p access.Principal) (api.Invitations, error) {
	out := api.Invitations{Invitations: []api.Invitation{}}
	if err := s.gate.Check(ctx, p, access.MemberWrite, access.Resource{OrgID: p.OrgID, Type: "org", ID: p.OrgID, As: "invitation.read"}); err != nil {
		return out, err
	}
	all, err := s.invitations(ctx, p.OrgID)
	for _, inv := range all {
		if !passed(inv.Expires, s.now()) {
			out.Invitations = append(out.Invitations, inv.wire())
		}
	}
	return out, err
}

// Uninvite deletes an invitation of p's org. Errors: Forbidden, NotFound.
func (s *Service) Uninvite(ctx context.Context, p access.Principal, id string) error {
	r := access.Resource{OrgID: p.OrgID, Type: "invitation", As: "member.uninvite"}
	if isID(id) { // else it may be a key that was sent by mistake
		r.ID = id
	}
	if err := s.gate.Check(ctx, p, access.MemberWrite, r); err != nil {
		return err
	}
	if r.ID == "" {
		return errNoInvitation
	}
	var inv invitation
	if _, err := s.get(ctx, layout.Invitation(p.OrgID, id), &inv); errors.Is(err, fault.NotFound) {
		return errNoInvitation
	} else if err != nil {
		return err
	}
	var b store.Batch
	inv.delete(&b)
	_, err := s.store.Commit(ctx, &b)
	return storeFault(err)
}

var errNoInvitation = fault.New(fault.NotFound, "there is no such invitation in your org; it may have been used")
