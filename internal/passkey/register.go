package passkey

import (
	"context"
	stdjson "encoding/json"
	"errors"
	"unicode/utf8"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/google/uuid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/token"
)

// The kinds of challenges. One is no use for the other.
const (
	kindRegister = "passkeyregister"
	kindLogin    = "passkeylogin"
)

var (
	errRegister = fault.New(fault.Invalid, "the passkey was not registered: its answer does not fit the challenge; begin again")
	errMany     = fault.New(fault.Conflict, "you have %d passkeys; delete one that you do not use", MaxPasskeys)
	errTaken    = fault.New(fault.Conflict, "this passkey is registered already; use it to sign in")
	errName     = fault.New(fault.Invalid, "name may have 100 characters of UTF-8")
	errNone     = fault.New(fault.NotFound, "you have no such passkey; list yours to see which there are")
)

// self is p's own account, as the trail is to call what is done to it.
func self(p access.Principal, as string) access.Resource {
	return access.Resource{OrgID: p.OrgID, OwnerID: p.ID, Type: "user", ID: p.ID, As: as}
}

// BeginRegister answers a challenge for a new passkey of p's. Errors: Forbidden
// (p is no person, or the credential is limited), Conflict (MaxPasskeys).
func (s *Service) BeginRegister(ctx context.Context, p access.Principal) (api.PasskeyChallenge, error) {
	if err := s.Gate.Check(ctx, p, access.ProfileWrite, self(p, "passkey.begin")); err != nil {
		return api.PasskeyChallenge{}, err
	}
	a, err := s.account(ctx, p)
	if err != nil {
		return api.PasskeyChallenge{}, err
	}
	if len(a.rows) >= MaxPasskeys {
		return api.PasskeyChallenge{}, errMany
	}
	options, session, err := s.web.BeginRegistration(a, webauthn.WithExclusions(webauthn.Credentials(a.WebAuthnCredentials()).CredentialDescriptors()))
	if err != nil {
		return api.PasskeyChallenge{}, fault.Wrap(fault.Internal, err, "a challenge could not be made")
	}
	return s.challenge(ctx, kindRegister, p.ID, options, session)
}

// challenge keeps session and answers options.
func (s *Service) challenge(ctx context.Context, kind, subject string, options any, session *webauthn.SessionData) (out api.PasskeyChallenge, err error) {
	data, err1 := stdjson.Marshal(session)
	raw, err2 := stdjson.Marshal(options)
	if err := errors.Join(err1, err2); err != nil {
		return out, fault.Wrap(fault.Internal, err, "a challenge does not encode")
	}
	out.Options = raw
	out.ChallengeID, err = s.Challenges.PutChallenge(ctx, token.Challenge{Kind: kind, Subject: subject, Data: data})
	if err != nil {
		return api.PasskeyChallenge{}, err
	}
	return out, nil
}

// session takes a challenge; it is gone, whatever comes of it.
func (s *Service) session(ctx context.Context, kind, id string) (subject string, session webauthn.SessionData, err error) {
	c, err := s.Challenges.TakeChallenge(ctx, kind, id)
	if err != nil {
		return "", session, err
	}
	if err := stdjson.Unmarshal(c.Data, &session); err != nil {
		return "", session, fault.Wrap(fault.Damaged, err, "what is stored of a challenge is damaged; begin again")
	}
	return c.Subject, session, nil
}

// account reads p and all of his passkeys.
func (s *Service) account(ctx context.Context, p access.Principal) (account, error) {
	_, email, err := s.People.Recipient(ctx, p.OrgID, access.User, p.ID)
	if err != nil {
		return account{}, err
	}
	rows, err := s.rows(ctx, p.ID)
	return account{p.ID, email, rows}, err
}

func (s *Service) rows(ctx context.Context, user string) (rows []row, err error) {
	recs, err := s.Store.Scan(ctx, store.Prefix(layout.Passkey(user, "")), store.ScanOptions{})
	if err != nil {
		return nil, store.Fault(err)
	}
	for _, rec := range recs {
		r, err := decode(rec.Value)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// FinishRegister stores the passkey that answered the challenge. Errors:
// Invalid (the answer does not fit, or the challenge is over), Conflict (the
// credential is registered, or MaxPasskeys).
func (s *Service) FinishRegister(ctx context.Context, p access.Principal, req api.FinishPasskey) (api.Passkey, error) {
	if err := s.Gate.Check(ctx, p, access.ProfileWrite, self(p, "passkey.register")); err != nil {
		return api.Passkey{}, err
	}
	if utf8.RuneCountInString(req.Name) > 100 || !utf8.ValidString(req.Name) {
		return api.Passkey{}, errName
	}
	subject, session, err := s.session(ctx, kindRegister, req.ChallengeID)
	if errors.Is(err, fault.Unauthenticated) || err == nil && subject != p.ID {
		return api.Passkey{}, errRegister
	}
	if err != nil {
		return api.Passkey{}, err
	}
	c, err := s.created(p.ID, session, req.Credential)
	if err != nil {
		return api.Passkey{}, fault.Wrap(fault.Invalid, cause(err), "%s", errRegister.Message)
	}
	r := row{
		ID: uuid.Must(uuid.NewV7()).String(), User: p.ID, Org: p.OrgID, Name: req.Name, Created: s.Now().UTC(),
		Credential: c.ID, PublicKey: c.PublicKey, Eligible: c.Flags.BackupEligible, Counter: c.Authenticator.SignCount,
	}
	if r.Name == "" {
		r.Name = "passkey"
	}
	idem.Answer(ctx, r.wire())
	if err := s.insert(ctx, r); err != nil {
		return api.Passkey{}, err
	}
	return r.wire(), nil
}

// created checks the answer to a challenge.
func (s *Service) created(user string, session webauthn.SessionData, credential []byte) (*webauthn.Credential, error) {
	parsed, err := protocol.ParseCredentialCreationResponseBytes(credential)
	if err != nil {
		return nil, err
	}
	return s.web.CreateCredential(account{id: user}, session, parsed)
}

func (s *Service) insert(ctx context.Context, r row) error {
	rows, err := s.rows(ctx, r.User)
	if err != nil {
		return err
	}
	if len(rows) >= MaxPasskeys {
		return errMany
	}
	b := new(store.Batch)
	b.RequireAbsent(layout.PasskeyOf(hashCredential(r.Credential)))
	if err := put(b, r); err != nil {
		return err
	}
	b.Put(layout.PasskeyOf(hashCredential(r.Credential)), []byte(layout.Passkey(r.User, r.ID)))
	if _, err := s.Store.Commit(ctx, b); errors.Is(err, store.ErrConflict) {
		return errTaken
	} else if err != nil {
		return store.Fault(err)
	}
	return nil
}

// List returns p's passkeys, oldest first.
func (s *Service) List(ctx context.Context, p access.Principal) (api.Passkeys, error) {
	if err := s.Gate.Check(ctx, p, access.ProfileRead, self(p, "passkey.list")); err != nil {
		return api.Passkeys{}, err
	}
	rows, err := s.rows(ctx, p.ID)
	if err != nil {
		return api.Passkeys{}, err
	}
	out := api.Passkeys{Passkeys: make([]api.Passkey, 0, len(rows))}
	for _, r := range rows {
		out.Passkeys = append(out.Passkeys, r.wire())
	}
	return out, nil
}

// Delete removes a passkey of p's; it signs nobody in from then on. Errors:
// NotFound (p has none of this ID).
func (s *Service) Delete(ctx context.Context, p access.Principal, id string) error {
	if err := s.Gate.Check(ctx, p, access.ProfileWrite, self(p, "passkey.delete")); err != nil {
		return err
	}
	if uuid.Validate(id) != nil {
		return errNone
	}
	return store.Fault(store.Retry(ctx, func() error {
		rec, err := s.Store.Get(ctx, layout.Passkey(p.ID, id))
		if errors.Is(err, store.ErrNotFound) {
			return errNone
		}
		if err != nil {
			return err
		}
		b := new(store.Batch)
		b.RequireRevision(rec.Key, rec.Revision)
		b.Delete(rec.Key)
		if r, err := decode(rec.Value); err == nil { // a damaged one goes, too
			b.Delete(layout.PasskeyOf(hashCredential(r.Credential)))
		}
		_, err = s.Store.Commit(ctx, b)
		return err
	}))
}
