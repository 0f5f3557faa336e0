package identity

import (
	"context"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

// self is the resource of what p does with his own account, and how the trail
// is to call it.
func self(p access.Principal, name string) access.Resource {
	return access.Resource{OrgID: p.OrgID, OwnerID: p.ID, Type: "user", ID: p.ID, As: name}
}

// event is what happened to u's account before there was a principal. Of nobody's
// account it is in the operator's trail; what was sent in place of an email
// may be a password, and is nowhere.
func (f From) event(u User, action string, outcome access.Outcome) access.Event {
	e := access.Event{
		ActorType: "anonymous", Action: action, Outcome: outcome,
		Details: map[string]string{}, Addr: f.Addr, RequestID: f.RequestID,
	}
	if u.ID != "" {
		e.OrgID, e.ActorType, e.ActorID, e.ResourceType, e.ResourceID = u.Org, string(access.User), u.ID, "user", u.ID
	}
	return e
}

// from is where p's request came from.
func from(p access.Principal) From { return From{p.Addr, p.RequestID} }

// logout is the end of the session that p came with.
func logout(p access.Principal) access.Event {
	return access.Event{
		OrgID: p.OrgID, ActorType: string(p.Kind), ActorID: p.ID, Action: "auth.logout", ResourceType: string(p.Kind), ResourceID: p.ID,
		Outcome: access.Allowed, Details: map[string]string{"credential_id": p.Credential}, Addr: p.Addr, RequestID: p.RequestID,
	}
}

// record appends e to the trail. What cannot be recorded is not done.
func (s *Service) record(ctx context.Context, e access.Event) error {
	if err := s.recorder.Record(ctx, e); err != nil {
		return fault.Wrap(fault.Unavailable, err, "the audit trail cannot be written, and nothing is done without it; try again")
	}
	return nil
}
