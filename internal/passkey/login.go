package passkey

import (
	"context"
	"errors"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// errLogin is the one answer to a sign-in that fails.
var errLogin = fault.New(fault.Unauthenticated, "the passkey does not sign you in; begin again, or sign in another way")

// BeginLogin answers a challenge that any passkey may sign: whose it is shows
// in the answer to it.
func (s *Service) BeginLogin(ctx context.Context) (api.PasskeyChallenge, error) {
	options, session, err := s.web.BeginDiscoverableLogin()
	if err != nil {
		return api.PasskeyChallenge{}, fault.Wrap(fault.Internal, err, "a challenge could not be made")
	}
	return s.challenge(ctx, kindLogin, "", options, session)
}

// FinishLogin begins a session of the user whose passkey signed the challenge.
// Errors: Unauthenticated, one for every cause; Unavailable.
func (s *Service) FinishLogin(ctx context.Context, from identity.From, req api.FinishPasskey) (api.Token, error) {
	_, session, err := s.session(ctx, kindLogin, req.ChallengeID)
	if errors.Is(err, fault.Unauthenticated) {
		return api.Token{}, s.refuse(ctx, from, row{}, "challenge")
	}
	if err != nil {
		return api.Token{}, err
	}
	answer, err := protocol.ParseCredentialRequestResponseBytes(req.Credential)
	if err != nil {
		return api.Token{}, s.refuse(ctx, from, row{}, "form")
	}
	r, reason, err := s.use(ctx, session, answer)
	if err != nil {
		return api.Token{}, err
	}
	if reason != "" {
		return api.Token{}, s.refuse(ctx, from, r, reason)
	}
	t, err := s.People.SignedIn(ctx, from, r.User, identity.MethodPasskey, time.Time{})
	if errors.Is(err, fault.Unauthenticated) {
		return api.Token{}, s.refuse(ctx, from, r, "user")
	}
	return t, err
}

// use checks an answer against its passkey and notes the use, in one step
// against every other use. A reason says why it signs nobody in.
func (s *Service) use(ctx context.Context, session webauthn.SessionData, answer *protocol.ParsedCredentialAssertionData) (r row, reason string, err error) {
	err = store.Retry(ctx, func() error {
		var rev store.Revision
		if r, rev, err = s.find(ctx, answer.RawID); errors.Is(err, fault.NotFound) {
			reason = "unknown"
			return nil
		} else if err != nil {
			return err
		}
		var c *webauthn.Credential
		c, reason = s.check(r, session, answer)
		if reason != "" {
			return nil
		}
		if c.Authenticator.CloneWarning {
			r.Cloned, reason = true, "counter"
		} else {
			now := s.Now().UTC()
			r.Counter, r.LastUsed = c.Authenticator.SignCount, &now
		}
		b := new(store.Batch)
		b.RequireRevision(layout.Passkey(r.User, r.ID), rev)
		if err := put(b, r); err != nil {
			return err
		}
		_, err := s.Store.Commit(ctx, b)
		return err
	})
	return r, reason, store.Fault(err)
}

// find reads the passkey of a credential. NotFound: there is none.
func (s *Service) find(ctx context.Context, credential []byte) (row, store.Revision, error) {
	index, err := s.Store.Get(ctx, layout.PasskeyOf(hashCredential(credential)))
	var rec store.Record
	if err == nil {
		rec, err = s.Store.Get(ctx, string(index.Value))
	}
	if errors.Is(err, store.ErrNotFound) {
		return row{}, 0, errNone
	}
	if err != nil {
		return row{}, 0, err
	}
	r, err := decode(rec.Value)
	return r, rec.Revision, err
}

// check is the ceremony.
func (s *Service) check(r row, session webauthn.SessionData, answer *protocol.ParsedCredentialAssertionData) (c *webauthn.Credential, reason string) {
	if r.Cloned {
		return nil, "cloned"
	}
	_, c, err := s.web.ValidatePasskeyLogin(func(_, _ []byte) (webauthn.User, error) {
		return account{id: r.User, rows: []row{r}}, nil // whose handle must be the answer's
	}, session, answer)
	if err != nil {
		return nil, "answer"
	}
	return c, ""
}

// refuse records a failed sign-in and returns errLogin. r is the zero row when
// no passkey is known.
func (s *Service) refuse(ctx context.Context, from identity.From, r row, reason string) error {
	e := access.Event{
		ActorType: "anonymous", Action: "auth.failure", Outcome: access.Failed, Addr: from.Addr, RequestID: from.RequestID,
		Details: map[string]string{"method": identity.MethodPasskey, "reason": reason},
	}
	if r.ID != "" {
		e.OrgID, e.ActorType, e.ActorID, e.ResourceType, e.ResourceID = r.Org, string(access.User), r.User, "user", r.User
		e.Details["passkey_id"] = r.ID
	}
	if err := s.Recorder.Record(ctx, e); err != nil {
		return fault.Wrap(fault.Unavailable, err, "this could not be recorded and so it was not done; try again")
	}
	return errLogin
}
