// Package guard is the gate that the domain packages ask: it fetches the rules,
// has package access decide, and has the decision recorded before it answers.
//
// It decides nothing of its own and holds no state; rules are read anew for
// each question, so that a changed policy counts from the next one on. What
// cannot be decided or recorded is refused: nothing is done that the trail
// does not have. Message traffic is decided and not recorded, unless it is
// refused. A question that the creator's right or a role settles costs no read
// of the store, every other at most one Get.
package guard

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

// Rules knows the policies.
type Rules interface {
	// Rules returns the policies of one principal on one vault; none when there
	// are none. What it cannot read it must not leave out.
	Rules(ctx context.Context, vaultID string, kind access.Kind, principalID string) ([]access.Rule, error)
}

// Config is what a Gate stands on.
type Config struct {
	Rules    Rules
	Recorder access.Recorder
	Noter    Noter            // nil: Recorder is asked, and waited for
	Now      func() time.Time // nil: time.Now
}

// Noter appends an event to the trail and does not wait until it is on stable
// storage.
type Noter interface {
	Note(e access.Event) error
}

// Gate is an access.Gate. It may be used by many goroutines.
type Gate struct{ Config }

// New returns a Gate.
func New(c Config) *Gate {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Gate{c}
}

// Check decides whether p may do a on r and records the decision. When that
// fails the error is fault.Unavailable, or what the rules could not be read
// for, and nothing may be done.
func (g *Gate) Check(ctx context.Context, p access.Principal, a access.Action, r access.Resource) error {
	rules, err := g.rules(ctx, p, a, r)
	if err != nil {
		return err
	}
	decision := access.Allow(p, a, r, rules, g.Now())
	if decision == nil && isTraffic(a) {
		return nil
	}
	if err := g.Recorder.Record(ctx, event(p, a, r, decision)); errors.Is(err, fault.Invalid) { // the caller named something that is too long
		return err
	} else if err != nil {
		return fault.Wrap(fault.Unavailable, err, "the audit trail cannot be written, and nothing is done without it; try again")
	}
	return decision
}

// Done records that what Check allowed has taken effect, and what came of it. The
// decision is on stable storage; this event follows, a moment later.
func (g *Gate) Done(ctx context.Context, p access.Principal, a access.Action, r access.Resource) error {
	e := event(p, a, r, nil)
	e.Outcome = access.Done
	note := func(e access.Event) error { return g.Recorder.Record(ctx, e) }
	if g.Noter != nil {
		note = g.Noter.Note
	}
	if err := note(e); err != nil {
		return fault.Wrap(fault.Unavailable, err, "it was done, and the audit trail cannot be written; look before you try again")
	}
	return nil
}

// Filter decides for many paths of one vault by rules that are read, and whose
// conditions are judged, once. It records nothing.
func (g *Gate) Filter(ctx context.Context, p access.Principal, a access.Action, r access.Resource) (func(path string) bool, error) {
	rules, err := g.rules(ctx, p, a, r)
	if err != nil {
		return nil, err
	}
	now := g.Now()
	rules = access.Counting(p, rules, now)
	return func(path string) bool {
		r.Path = path
		return access.Allow(p, a, r, rules, now) == nil
	}, nil
}

// rules returns those that the decision needs: none where it does not hang on
// them, since rules only ever add to what is allowed without any.
func (g *Gate) rules(ctx context.Context, p access.Principal, a access.Action, r access.Resource) ([]access.Rule, error) {
	bare := access.Allow(p, a, r, nil, time.Time{})
	if r.VaultID == "" || !errors.Is(bare, fault.Forbidden) {
		return nil, nil
	}
	rules, err := g.Rules.Rules(ctx, r.VaultID, p.Kind, p.ID)
	if err != nil {
		return nil, fault.Wrap(fault.Of(err).Code, err, "the policies cannot be read, and nothing is done without them; try again")
	}
	return rules, nil
}

// isTraffic reports whether a is too frequent and too little to be listed.
func isTraffic(a access.Action) bool {
	return a == access.MessageAppend || a == access.MessageRead || a == access.MessageWrite || a == access.ThreadRead
}

// event is the record of a decision. It is in the trail of p's org, whosever r
// is: what somebody tries elsewhere is not for those there to read. What an
// operator does is in the operator's trail.
func event(p access.Principal, a access.Action, r access.Resource, decision error) access.Event {
	e := access.Event{
		OrgID: p.OrgID, ActorType: string(p.Kind), ActorID: p.ID,
		Action: r.As, ResourceType: r.Type, ResourceID: r.ID,
		Outcome: access.Allowed, Details: map[string]string{}, Addr: p.Addr, RequestID: p.RequestID,
	}
	if p.Kind == access.Operator {
		e.OrgID = ""
	}
	if e.ActorType == "" {
		e.ActorType = "anonymous"
	}
	if e.Action == "" {
		e.Action = string(a)
	}
	maps.Copy(e.Details, r.Details)
	for name, value := range map[string]string{"vault_id": r.VaultID, "path": r.Path, "credential_id": p.Credential} {
		if value != "" {
			e.Details[name] = value
		}
	}
	if decision != nil {
		e.Outcome = access.Refused
		e.Details["reason"] = decision.Error()
	}
	return e
}
