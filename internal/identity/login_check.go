package identity

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/password"
	"github.com/keyfold/keyfold/internal/store"
)

var errSignIn = fault.New(fault.Unauthenticated, "the email or the password is wrong; check both and try again")

// checkPassword returns the user with this email if the password is his. There
// is one error for an email that nobody has, a user without a password and a
// wrong one, and as much work: the same reads, one hash, one record. Attempts
// are slowed down by the email, whether anybody has it or not, and by the
// address, before anything is read.
func (s *Service) checkPassword(ctx context.Context, from From, email, given string) (User, error) {
	try, err := s.attempt("password:"+email, from.Addr)
	if err != nil {
		return User{}, err
	}
	u, hash, err := s.account(ctx, email)
	var ok, stale bool
	if err == nil {
		ok, stale, err = s.passwords.Verify(ctx, string(hash.Value), given)
	}
	if err != nil {
		try.undo()
		return User{}, hashFault(err)
	}
	if !ok {
		return User{}, s.failed(ctx, from, u, MethodPassword, errSignIn)
	}
	try.succeeded()
	if stale {
		s.rehash(idem.Apart(ctx), hash, given)
	}
	return u, nil
}

// account reads what there is of an email: the zero User and no hash if nobody
// has it.
func (s *Service) account(ctx context.Context, email string) (u User, hash store.Record, err error) {
	id, err := s.idOf(ctx, email)
	if err != nil && !errors.Is(err, fault.NotFound) {
		return u, hash, err
	}
	if u, _, err = s.user(ctx, id); err != nil && !errors.Is(err, fault.NotFound) {
		return u, hash, err
	}
	hash, err = s.store.Get(ctx, layout.Password(id))
	if errors.Is(err, store.ErrNotFound) {
		return u, store.Record{}, nil
	}
	return u, hash, storeFault(err)
}

// failed records a failed sign-in and returns answer.
func (s *Service) failed(ctx context.Context, from From, u User, method string, answer error) error {
	e := from.event(u, "auth.failure", access.Failed)
	e.Details["method"] = method
	if err := s.record(ctx, e); err != nil {
		return err
	}
	return answer
}

// rehash replaces a stale hash. One that fails is replaced at the next sign-in.
func (s *Service) rehash(ctx context.Context, old store.Record, given string) {
	text, err := s.passwords.Hash(ctx, given)
	if err != nil {
		return
	}
	var b store.Batch
	b.RequireRevision(old.Key, old.Revision)
	b.Put(old.Key, []byte(text))
	s.store.Commit(ctx, &b)
}

// hashFault names an error of a hash.
func hashFault(err error) error {
	switch {
	case errors.Is(err, password.ErrBusy):
		return fault.New(fault.Unavailable, "too many sign-ins at once; try again in a second").WithRetryAfter(time.Second)
	case errors.Is(err, password.ErrDamaged):
		return fault.New(fault.Damaged, "the record of a password is damaged; restore the store from a backup")
	}
	return storeFault(err)
}

// attempt is one guess at a secret of an account's, which counts as failed
// until somebody says otherwise.
type attempt struct {
	backoff       Backoff
	account, addr string
}

// attempt counts a guess, or says how long to wait for the next. It is the same
// for accounts that there are and that there are not.
func (s *Service) attempt(account string, addr netip.Addr) (attempt, error) {
	a := attempt{s.backoff, account, addrKey(addr)}
	if a.addr != "" {
		if wait := s.backoff.Wait(a.addr); wait > 0 {
			return a, tooMany(wait)
		}
	}
	if wait := s.backoff.Wait(account); wait > 0 {
		a.undoAddr()
		return a, tooMany(wait)
	}
	return a, nil
}

func tooMany(wait time.Duration) error {
	return fault.New(fault.TooMany, "too many sign-ins failed; wait before the next").WithRetryAfter(wait)
}

// addrKey names an address: of IPv6 the network, since one customer has all of
// its addresses. "" is of no address.
func addrKey(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	bits := 32
	if addr = addr.Unmap().WithZone(""); addr.Is6() {
		bits = 64
	}
	return "addr:" + netip.PrefixFrom(addr, bits).Masked().String()
}

// succeeded forgets the failures of the account. Those of the address stay, or
// it could clear itself with an account of its own.
func (a attempt) succeeded() {
	a.backoff.Succeeded(a.account)
	a.undoAddr()
}

// undo takes the attempt back: nothing was decided.
func (a attempt) undo() {
	a.backoff.Undo(a.account)
	a.undoAddr()
}

func (a attempt) undoAddr() {
	if a.addr != "" {
		a.backoff.Undo(a.addr)
	}
}
