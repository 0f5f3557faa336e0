package identity

import (
	"context"
	"slices"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Org is a customer. It is kept as JSON under layout.Org. The row changes with
// every change of a member's role, so that two such changes meet.
type Org struct {
	ID      string      `json:"id"` // UUID
	Name    string      `json:"name"`
	Plan    access.Plan `json:"plan"`
	Created time.Time   `json:"created"`

	// Until is when Plan ends and After follows; zero: never.
	Until time.Time   `json:"until,omitzero"`
	After access.Plan `json:"after,omitzero"`
}

// planAt is the plan that counts at a time, and when it ends; zero: never.
func (o Org) planAt(now time.Time) (access.Plan, time.Time) {
	if passed(o.Until, now) {
		return o.After, time.Time{}
	}
	return o.Plan, o.Until
}

// CreateOrg makes an org. The name has 1 to 200 characters. Errors: Invalid.
func (s *Service) CreateOrg(ctx context.Context, name string, plan access.Plan) (Org, error) {
	o, err := s.newOrg(name, plan)
	if err != nil {
		return Org{}, err
	}
	if err := s.insert(ctx, layout.Org(o.ID), o, &store.Batch{}); err != nil {
		return Org{}, storeFault(err)
	}
	return o, nil
}

func (s *Service) newOrg(name string, plan access.Plan) (Org, error) {
	if !isText(name, 200) {
		return Org{}, fault.New(fault.Invalid, "the name of an org must be 1 to 200 characters of UTF-8, without control characters")
	}
	if err := checkPlan(plan); err != nil {
		return Org{}, err
	}
	id, err := newID()
	return Org{ID: id, Name: name, Plan: plan, Created: s.now().UTC()}, err
}

func checkPlan(plan access.Plan) error {
	if !slices.Contains([]access.Plan{access.Free, access.Pro, access.Business, access.Enterprise}, plan) {
		return fault.New(fault.Invalid, "the plan must be free, pro, business or enterprise")
	}
	return nil
}

// Plan returns the plan of an org that counts now, and when it ends (zero:
// never), to those who have decided already that it may be seen. Errors: NotFound.
func (s *Service) Plan(ctx context.Context, orgID string) (access.Plan, time.Time, error) {
	var o Org
	if _, err := s.get(ctx, layout.Org(orgID), &o); err != nil {
		return "", time.Time{}, err
	}
	plan, until := o.planAt(s.now())
	return plan, until, nil
}

// SetPlan puts an org on a plan until a time, when the one before it comes back;
// zero: for good. p is an operator. Errors: Forbidden, Invalid, NotFound.
func (s *Service) SetPlan(ctx context.Context, p access.Principal, orgID string, plan access.Plan, until time.Time) error {
	if !isID(orgID) {
		orgID = "" // it may be a key that was sent by mistake
	}
	if err := s.gate.Check(ctx, p, access.Operate, access.Resource{OrgID: orgID, Type: "org", ID: orgID, As: "org.set_plan"}); err != nil {
		return err
	}
	if err := checkPlan(plan); err != nil {
		return err
	}
	return storeFault(store.Retry(ctx, func() error {
		var o Org
		rev, err := s.get(ctx, layout.Org(orgID), &o)
		if err != nil {
			return err
		}
		before, ends := o.planAt(s.now())
		if !ends.IsZero() {
			before = o.After
		}
		o.Plan, o.Until, o.After = plan, until.UTC(), before
		if until.IsZero() {
			o.Until, o.After = time.Time{}, ""
		}
		var b store.Batch
		return s.putOrg(ctx, &b, o, rev)
	}))
}

// OwnOrg returns the org of p, a user.
func (s *Service) OwnOrg(ctx context.Context, p access.Principal) (api.Org, error) {
	if err := s.gate.Check(ctx, p, access.ProfileRead, self(p, "org.read")); err != nil {
		return api.Org{}, err
	}
	var o Org
	_, err := s.get(ctx, layout.Org(p.OrgID), &o)
	plan, _ := o.planAt(s.now())
	return api.Org{ID: o.ID, Name: o.Name, Plan: string(plan), CreatedAt: o.Created}, err
}

// putOrg commits b with the row of o, as long as it is at rev.
func (s *Service) putOrg(ctx context.Context, b *store.Batch, o Org, rev store.Revision) error {
	b.RequireRevision(layout.Org(o.ID), rev)
	if err := put(b, layout.Org(o.ID), o); err != nil {
		return err
	}
	_, err := s.store.Commit(ctx, b)
	return err
}
