package identity

import (
	"context"
	"errors"
	"slices"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func checkRole(r access.Role) error {
	if !slices.Contains([]access.Role{access.Owner, access.Admin, access.Member}, r) {
		return fault.New(fault.Invalid, "role must be owner, admin or member")
	}
	return nil
}

// mayMake reports whether who has the role may give another, or take it:
// owners every one, admins that of a member.
func mayMake(who, role access.Role) bool {
	return who == access.Owner || who == access.Admin && role == access.Member
}

func (u User) authMethod() string {
	if u.HasPassword {
		return "password"
	}
	return "api_key"
}

func (u User) wire() api.Member {
	return api.Member{ID: u.ID, Email: u.Email, DisplayName: u.DisplayName, Role: string(u.Role), AuthMethod: u.authMethod(), CreatedAt: u.Created}
}

// Members lists the users of p's org, oldest first. Errors: Forbidden.
func (s *Service) Members(ctx context.Context, p access.Principal) (api.Members, error) {
	out := api.Members{Members: []api.Member{}}
	if err := s.gate.Check(ctx, p, access.MemberRead, access.Resource{OrgID: p.OrgID, Type: "org", ID: p.OrgID}); err != nil {
		return out, err
	}
	if err := s.index(ctx); err != nil {
		return out, err
	}
	prefix := layout.OrgUser(p.OrgID, "")
	for rec, err := range store.All(ctx, s.store, store.Prefix(prefix)) {
		if err != nil {
			return out, storeFault(err)
		}
		u, _, err := s.user(ctx, rec.Key[len(prefix):])
		if errors.Is(err, fault.NotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return out, err
		}
		out.Members = append(out.Members, u.wire())
	}
	return out, nil
}

// SetRole gives a member of p's org another role. An org keeps one owner.
// Errors: Forbidden, Invalid, NotFound, Conflict (the last owner).
func (s *Service) SetRole(ctx context.Context, p access.Principal, id string, role access.Role) (api.Member, error) {
	if err := checkRole(role); err != nil {
		return api.Member{}, err
	}
	if !isID(id) {
		id = "" // it may be a key that was sent by mistake
	}
	r := access.Resource{OrgID: p.OrgID, Type: "user", ID: id, As: "member.make_" + string(role)}
	if err := s.gate.Check(ctx, p, access.MemberWrite, r); err != nil {
		return api.Member{}, err
	}
	u, err := s.changeMember(ctx, p, r, id, func(u *User, rev store.Revision, b *store.Batch) (access.Role, error) {
		u.Role = role
		idem.Answer(ctx, u.wire())
		return role, putUser(b, *u, rev)
	})
	return u.wire(), err
}

// RemoveMember removes a user from p's org, with password, second factor,
// sessions and API keys; what he made stays. Errors: Forbidden, NotFound,
// Conflict (the last owner).
func (s *Service) RemoveMember(ctx context.Context, p access.Principal, id string) error {
	if !isID(id) {
		id = "" // it may be a key that was sent by mistake
	}
	r := access.Resource{OrgID: p.OrgID, Type: "user", ID: id, As: "member.remove"}
	if err := s.gate.Check(ctx, p, access.MemberWrite, r); err != nil {
		return err
	}
	idem.Rest(ctx, func(ctx context.Context) error { return s.dropRemains(ctx, id) })
	if _, err := s.changeMember(ctx, p, r, id, func(u *User, rev store.Revision, b *store.Batch) (access.Role, error) {
		b.RequireRevision(layout.User(u.ID), rev)
		return "", s.removal(ctx, *u, b)
	}); err != nil {
		return err
	}
	return s.dropRemains(ctx, id)
}

// dropRemains deletes what is left of a user who is no more: with his row all his
// credentials died.
func (s *Service) dropRemains(ctx context.Context, userID string) error {
	if _, _, err := s.user(ctx, userID); !errors.Is(err, fault.NotFound) {
		return err
	}
	if err := s.sessions.RevokeAll(ctx, userID); err != nil {
		return err
	}
	return s.dropKeys(ctx, userID)
}

// removal adds to b the end of all rows of u but those of API keys.
func (s *Service) removal(ctx context.Context, u User, b *store.Batch) error {
	id, err := s.idOf(ctx, u.Email)
	if err == nil && id == u.ID { // an older user may have no entry
		b.Delete(layout.UserEmail(u.Email))
	} else if err != nil && !errors.Is(err, fault.NotFound) {
		return err
	}
	b.Delete(layout.User(u.ID))
	b.Delete(layout.OrgUser(u.Org, u.ID))
	b.Delete(layout.Password(u.ID))
	b.Delete(layout.TOTP(u.ID))
	s.box.Delete(b, totpName(u.ID))
	return nil
}

// changeMember lets change edit a member, or add the removal of his rows to the
// batch, and return the role that he has then. All changes of an org's roles
// write the org's row, so that of two that meet one begins again: no two owners
// can demote each other.
func (s *Service) changeMember(ctx context.Context, p access.Principal, r access.Resource, id string, change func(*User, store.Revision, *store.Batch) (access.Role, error)) (u User, err error) {
	if !isID(id) {
		return u, errNoUser
	}
	if err := s.index(ctx); err != nil {
		return u, err
	}
	err = store.Retry(ctx, func() error {
		var o Org
		var rev store.Revision
		orgRev, err := s.get(ctx, layout.Org(p.OrgID), &o)
		if err != nil {
			return err
		}
		me, _, err := s.user(ctx, p.ID)
		if err != nil {
			return err
		}
		if u, rev, err = s.user(ctx, id); errors.Is(err, fault.NotFound) || err == nil && u.Org != p.OrgID {
			return errNoUser
		} else if err != nil {
			return err
		}
		var b store.Batch
		before := u.Role
		after, err := change(&u, rev, &b)
		if err != nil {
			return err
		}
		if !mayMake(me.Role, before) || after != "" && !mayMake(me.Role, after) {
			return s.refuseMember(ctx, p, r)
		}
		if before == access.Owner && after != access.Owner {
			if err := s.keepsOwner(ctx, p.OrgID, id); err != nil {
				return err
			}
		}
		return s.putOrg(ctx, &b, o, orgRev)
	})
	return u, storeFault(err)
}

// keepsOwner reports when nobody but the user with this ID owns the org.
func (s *Service) keepsOwner(ctx context.Context, org, but string) error {
	for rec, err := range store.All(ctx, s.store, store.Prefix(layout.OrgUser(org, ""))) {
		if err != nil {
			return err
		}
		if string(rec.Value) == string(access.Owner) && rec.Key != layout.OrgUser(org, but) {
			return nil
		}
	}
	return fault.New(fault.Conflict, "an org keeps one owner; make another member its owner first")
}

// refuseMember records that p may not do to members what the gate let pass, and
// says so.
func (s *Service) refuseMember(ctx context.Context, p access.Principal, r access.Resource) error {
	err := s.record(ctx, access.Event{
		OrgID: p.OrgID, ActorType: string(p.Kind), ActorID: p.ID, Action: r.As, ResourceType: r.Type, ResourceID: r.ID,
		Outcome: access.Refused, Details: map[string]string{"reason": "only an owner makes and unmakes owners and admins"}, Addr: p.Addr, RequestID: p.RequestID,
	})
	if err != nil {
		return err
	}
	return fault.New(fault.Forbidden, "only an owner makes and unmakes owners and admins; ask an owner of your org")
}

// dropKeys deletes the API keys of a user who is no more. Those of an org are none of
// his, should that be its ID; one whose row is damaged, of which nobody knows whose it is,
// stays, opens nothing, and is the error.
func (s *Service) dropKeys(ctx context.Context, userID string) (damaged error) {
	for rec, err := range store.All(ctx, s.store, store.Prefix(layout.APIKeyOf(userID, ""))) {
		if err != nil {
			return storeFault(err)
		}
		var k keyRecord
		key := layout.APIKey(string(rec.Value))
		if _, err := s.get(ctx, key, &k); err == nil && k.User != userID {
			continue
		} else if errors.Is(err, fault.Damaged) {
			damaged = err
			continue
		} else if err != nil && !errors.Is(err, fault.NotFound) {
			return err
		}
		var b store.Batch
		b.Delete(rec.Key)
		b.Delete(key)
		if _, err := s.store.Commit(ctx, &b); err != nil {
			return storeFault(err)
		}
	}
	return damaged
}
