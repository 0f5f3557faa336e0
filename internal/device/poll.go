package device

import (
	"context"
	"crypto/subtle"
	"errors"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/token"
)

// Code begins a sign-in; from is the device. Errors: Invalid, Unavailable.
func (s *Service) Code(ctx context.Context, req api.RequestDeviceCode, from identity.From) (api.DeviceCode, error) {
	if n := utf8.RuneCountInString(req.ClientID); n < 1 || n > 100 || !utf8.ValidString(req.ClientID) || !isPrintable(req.ClientID) {
		return api.DeviceCode{}, fault.New(fault.Invalid, "client_id must be 1 to 100 printable characters, such as keyfold-cli")
	}
	now := s.Now().UTC()
	for {
		code := newCode()
		user := userCode(code)
		if user == "" {
			continue
		}
		data, err := json.Marshal(pending{Device: hash(code), ClientID: req.ClientID, Addr: from.Addr, Created: now, Interval: Interval})
		if err != nil {
			return api.DeviceCode{}, fault.Wrap(fault.Internal, err, "a device code does not encode")
		}
		err = s.Challenges.PutChallengeAs(ctx, user, token.Challenge{Kind: kind, Data: data, Expires: now.Add(CodeTTL)})
		if errors.Is(err, fault.Conflict) { // another device has this user code
			continue
		}
		if err != nil {
			return api.DeviceCode{}, err
		}
		uri := s.PublicURL + "/device"
		return api.DeviceCode{
			DeviceCode: code, UserCode: show(user), VerificationURI: uri, VerificationURIComplete: uri + "?user_code=" + show(user),
			ExpiresIn: int(CodeTTL / time.Second), Interval: Interval,
		}, nil
	}
}

func isPrintable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// Token answers a poll: the session, once, or a fault.Invalid whose type is one
// of the api.Device words. from is the device.
func (s *Service) Token(ctx context.Context, req api.RequestDeviceToken, from identity.From) (api.DeviceToken, error) {
	if req.GrantType != api.DeviceGrant {
		return api.DeviceToken{}, errGrant
	}
	if len(req.DeviceCode) != codeLen {
		return api.DeviceToken{}, errExpired
	}
	p, err := s.poll(ctx, req.DeviceCode)
	if err != nil {
		return api.DeviceToken{}, err
	}
	if !p.decided() {
		return api.DeviceToken{}, errPending
	}
	if p, err = s.take(ctx, req.DeviceCode); err != nil {
		return api.DeviceToken{}, err
	}
	if p.Denied {
		return api.DeviceToken{}, errDenied
	}
	return s.signIn(ctx, p, from)
}

// poll notes a poll and returns how things stand, or errSlow.
func (s *Service) poll(ctx context.Context, code string) (p pending, err error) {
	slow := false
	err = s.Challenges.ChangeChallenge(ctx, kind, userCode(code), func(c *token.Challenge) (err error) {
		if p, err = decode(*c, code); err != nil || p.decided() {
			return err
		}
		now := s.Now().UTC()
		if slow = now.Before(p.Polled.Add(time.Duration(p.Interval) * time.Second)); slow {
			p.Interval += Interval
		}
		p.Polled = now
		return encode(c, p)
	})
	if err == nil && slow && !p.decided() {
		err = errSlow
	}
	return p, expired(err)
}

// take removes what was decided; of many polls one gets it.
func (s *Service) take(ctx context.Context, code string) (pending, error) {
	c, err := s.Challenges.TakeChallenge(ctx, kind, userCode(code))
	if err != nil {
		return pending{}, expired(err)
	}
	return decode(c, code)
}

// expired gives what is not there its name here.
func expired(err error) error {
	if errors.Is(err, fault.Unauthenticated) {
		return errExpired
	}
	return err
}

// decode reads a challenge, which must be this device code's: two may have one
// user code, one after the other.
func decode(c token.Challenge, code string) (p pending, err error) {
	if err := json.Unmarshal(c.Data, &p); err != nil {
		return p, fault.Wrap(fault.Damaged, err, "what is stored of this sign-in is damaged; begin again")
	}
	if subtle.ConstantTimeCompare([]byte(p.Device), []byte(hash(code))) != 1 {
		return pending{}, errExpired
	}
	return p, nil
}

func encode(c *token.Challenge, p pending) (err error) {
	if c.Data, err = json.Marshal(p); err != nil {
		return fault.Wrap(fault.Internal, err, "a sign-in does not encode")
	}
	return nil
}

// signIn gives the device a session of who approved, if he is still there.
func (s *Service) signIn(ctx context.Context, p pending, from identity.From) (api.DeviceToken, error) {
	_, email, err := s.People.Recipient(ctx, p.Org, access.User, p.User)
	if errors.Is(err, fault.NotFound) {
		return api.DeviceToken{}, errExpired
	}
	if err != nil {
		return api.DeviceToken{}, err
	}
	t, err := s.People.SignedIn(ctx, from, p.User, identity.MethodDevice, p.Approved)
	if err != nil {
		return api.DeviceToken{}, expired(err)
	}
	return api.DeviceToken{Token: t, Email: email, UserID: p.User, OrgID: p.Org}, nil
}
