package identity

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/token"
)

// mfaKind is the kind of a challenge: a password was right, and a code is
// missing. Its subject is the user's ID, its data a halfSignIn.
const mfaKind = "mfa"

// halfSignIn is what a challenge keeps of the first half.
type halfSignIn struct {
	Began time.Time `json:"began"`
}

var errChallenge = fault.New(fault.Unauthenticated, "this sign-in is over, or took too long; sign in with the password again")

// challenge stops a sign-in half way.
func (s *Service) challenge(ctx context.Context, u User, began time.Time) (api.SignedIn, error) {
	data, err := json.Marshal(halfSignIn{u.after(began)})
	if err != nil {
		return api.SignedIn{}, fault.Wrap(fault.Internal, err, "a sign-in does not encode")
	}
	text, err := s.sessions.PutChallenge(ctx, token.Challenge{Kind: mfaKind, Subject: u.ID, Data: data})
	if err != nil {
		return api.SignedIn{}, err
	}
	return api.SignedIn{
		Token:       api.Token{TokenType: "Bearer", ExpiresIn: int(token.ChallengeTTL / time.Second)},
		MFARequired: true, MFAToken: text,
	}, nil
}

// VerifyMFA ends what SignIn began, with a code of the user's app or a recovery
// code. A wrong code leaves the challenge, a right one uses it up. Errors:
// Invalid, Unauthenticated, TooMany, Unavailable.
func (s *Service) VerifyMFA(ctx context.Context, from From, req api.VerifyMFA) (api.Token, error) {
	if req.MFAToken == "" || req.Code == "" {
		return api.Token{}, fault.New(fault.Invalid, "mfa_token and code are required")
	}
	began := s.now()
	u, err := s.halfSignedIn(ctx, req.MFAToken)
	if errors.Is(err, fault.Unauthenticated) {
		return api.Token{}, s.failed(ctx, from, u, MethodTOTP, errChallenge)
	}
	if err != nil {
		return api.Token{}, err
	}
	method, err := s.useCode(ctx, from, u.ID, req.Code, func(f *secondFactor, _ *store.Batch) error {
		if !f.Confirmed {
			return errChallenge
		}
		return nil
	})
	if errors.Is(err, fault.NotFound) { // removed meanwhile
		return api.Token{}, errChallenge
	}
	if err != nil {
		return api.Token{}, err
	}
	if _, err := s.sessions.TakeChallenge(ctx, mfaKind, req.MFAToken); errors.Is(err, fault.Unauthenticated) {
		return api.Token{}, s.failed(ctx, from, u, MethodTOTP, errChallenge)
	} else if err != nil {
		return api.Token{}, err
	}
	return s.begin(ctx, from, u, began, method)
}

// halfSignedIn returns the user of a live challenge. Errors: Unauthenticated,
// also when his sessions were ended since.
func (s *Service) halfSignedIn(ctx context.Context, text string) (User, error) {
	c, err := s.sessions.LookChallenge(ctx, mfaKind, text)
	if err != nil {
		return User{}, err
	}
	half, err := decode[halfSignIn](c.Data)
	if err != nil {
		return User{}, err
	}
	u, _, err := s.user(ctx, c.Subject)
	if errors.Is(err, fault.NotFound) || err == nil && !u.admits(half.Began, "") {
		return u, errChallenge
	}
	return u, err
}

// useCode uses a code of a user's second factor up, in one step with what then
// makes of it; then may run more than once. It returns the method that this was.
// Guesses are slowed down. Errors: errCode, errNoTOTP, TooMany, then's.
func (s *Service) useCode(ctx context.Context, from From, userID, code string, then func(*secondFactor, *store.Batch) error) (method string, err error) {
	if err := idem.Look(ctx); err != nil { // or the code, which is used up, would be a wrong guess
		return "", err
	}
	try, err := s.attempt("mfa:"+userID, from.Addr)
	if err != nil {
		return "", err
	}
	err = store.Retry(ctx, func() error {
		f, rev, err := s.secondFactor(ctx, userID)
		if err != nil {
			return err
		}
		if method, err = s.match(ctx, userID, &f, plainCode(code)); err != nil {
			return err
		}
		var b store.Batch
		if err := then(&f, &b); err != nil {
			return err
		}
		return s.putFactor(ctx, &b, userID, f, rev)
	})
	switch {
	case err == nil:
		try.succeeded()
	case err == errCode:
		u, _, err := s.user(ctx, userID)
		if err != nil {
			return "", err
		}
		return "", s.failed(ctx, from, u, MethodTOTP, errCode)
	default:
		try.undo()
	}
	return method, storeFault(err)
}

// match takes a code from f. Errors: errCode; Unavailable (of the KMS).
func (s *Service) match(ctx context.Context, userID string, f *secondFactor, code string) (method string, err error) {
	if len(code) != totpDigits {
		i := slices.Index(f.Recovery, hash(code))
		if i < 0 {
			return "", errCode
		}
		f.Recovery = slices.Delete(f.Recovery, i, i+1)
		return MethodRecovery, nil
	}
	secret, err := s.box.Get(ctx, totpName(userID))
	if err != nil {
		return "", err
	}
	defer clear(secret)
	step, ok := matchTOTP(secret, code, s.now(), f.Step)
	if !ok {
		return "", errCode
	}
	f.Step = step
	return MethodTOTP, nil
}
