package device

import (
	"context"
	"errors"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/token"
)

// Look shows who asks under a user code. Errors: Forbidden (p is no person),
// TooMany (after codes that are not there), NotFound.
func (s *Service) Look(ctx context.Context, p access.Principal, text string) (api.DeviceRequest, error) {
	if err := s.Gate.Check(ctx, p, access.ProfileRead, self(p)); err != nil {
		return api.DeviceRequest{}, err
	}
	var out api.DeviceRequest
	err := s.guess(p, text, func(code string) error {
		c, err := s.Challenges.LookChallenge(ctx, kind, code)
		if err != nil {
			return err
		}
		var d pending
		if err := json.Unmarshal(c.Data, &d); err != nil || d.decided() {
			return errNoCode
		}
		out = api.DeviceRequest{UserCode: show(code), ClientID: d.ClientID, CreatedAt: d.Created, ExpiresAt: c.Expires}
		if d.Addr.IsValid() {
			out.IPAddress = d.Addr.String()
		}
		return nil
	})
	return out, err
}

// Approve gives the device that shows the user code a session of p's. Errors as
// for Look; Forbidden also when p's credential is limited, which the session
// would not be.
func (s *Service) Approve(ctx context.Context, p access.Principal, text string) error {
	if err := s.Gate.Check(ctx, p, access.ProfileWrite, self(p)); err != nil {
		return err
	}
	at, err := s.People.Proved(ctx, p)
	if err != nil {
		return err
	}
	return s.decide(ctx, p, text, "device.approve", func(d *pending) { d.User, d.Org, d.Approved = p.ID, p.OrgID, at.UTC() })
}

// Deny refuses the device that shows the user code. Errors as for Approve.
func (s *Service) Deny(ctx context.Context, p access.Principal, text string) error {
	if err := s.Gate.Check(ctx, p, access.ProfileWrite, self(p)); err != nil {
		return err
	}
	return s.decide(ctx, p, text, "device.deny", func(d *pending) { d.Denied = true })
}

func (s *Service) decide(ctx context.Context, p access.Principal, text, action string, set func(*pending)) error {
	return s.guess(p, text, func(code string) error {
		var found pending
		c, err := s.Challenges.LookChallenge(ctx, kind, code)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(c.Data, &found); err != nil || found.decided() {
			return errNoCode
		}
		if err := s.record(ctx, p, action, found); err != nil {
			return err
		}
		return s.Challenges.ChangeChallenge(ctx, kind, code, func(c *token.Challenge) error {
			var d pending
			if err := json.Unmarshal(c.Data, &d); err != nil || d.Device != found.Device || d.decided() {
				return errNoCode
			}
			set(&d)
			return encode(c, d)
		})
	})
}

// guess calls with, unless p has guessed too much of late. with's
// Unauthenticated and NotFound count as a wrong guess.
func (s *Service) guess(p access.Principal, text string, with func(code string) error) error {
	key := "device:" + p.ID
	if wait := s.Guesses.Wait(key); wait > 0 {
		return fault.New(fault.TooMany, "too many codes that are not there; look at the device and try again later").WithRetryAfter(wait)
	}
	code, ok := parseUserCode(text)
	if !ok {
		return errNoCode
	}
	err := with(code)
	if errors.Is(err, fault.Unauthenticated) || errors.Is(err, fault.NotFound) {
		return errNoCode
	}
	s.Guesses.Undo(key)
	return err
}

// self is what the gate decides about: p's own account.
func self(p access.Principal) access.Resource {
	return access.Resource{OrgID: p.OrgID, OwnerID: p.ID, Type: "user", ID: p.ID}
}

func (s *Service) record(ctx context.Context, p access.Principal, action string, d pending) error {
	e := access.Event{
		OrgID: p.OrgID, ActorType: string(p.Kind), ActorID: p.ID, Action: action, ResourceType: "user", ResourceID: p.ID, Outcome: access.Allowed,
		Details: map[string]string{"client_id": d.ClientID}, Addr: p.Addr, RequestID: p.RequestID,
	}
	if d.Addr.IsValid() {
		e.Details["device_address"] = d.Addr.String()
	}
	if err := s.Recorder.Record(ctx, e); err != nil {
		return fault.Wrap(fault.Unavailable, err, "this could not be recorded and so it was not done; try again")
	}
	return nil
}
