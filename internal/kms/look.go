package kms

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Other processes on the same store change keys, too, and tell nobody. So a key
// in the cache is worth what its row says: it is used when the row was looked at
// in the last lookAge, else after another look; and what was done with it is
// answered when that look is answerAge old at most, else after another: a process
// that was stopped in between does not know what happened meanwhile. A look is one
// Get; where the store does not answer, keys are of no use once the time is over.
//
// What is committed needs none of this: every commit by which something comes
// under a KEK requires its row (see commitDEKs).
const (
	lookAge   = time.Second
	answerAge = 1500 * time.Millisecond
)

// A look may itself take longer than answerAge, and is then too old when it is
// there: so many are tried before the answer is errSlow.
const looks = 3

var errSlow = fault.New(fault.Unavailable, "the key store is too slow to say that keys still stand; try again")

// seen is when the row of a key was last looked at.
type seen struct{ at atomic.Pointer[time.Time] }

func (s *seen) note(at time.Time) { s.at.Store(&at) }

// age is by the clock that runs on, or by that of the day, whichever says more:
// the first stands still while a machine sleeps, the second can be set back.
func (s *seen) age() time.Duration {
	at, now := *s.at.Load(), time.Now()
	return max(now.Sub(at), now.Round(0).Sub(at.Round(0)))
}

// lookAtDEK notes that the row of a DEK is still there, or drops the DEK. What
// else may change of a row leaves its DEK as it is.
func (s *Service) lookAtDEK(ctx context.Context, d *slot[*dek]) error {
	began := time.Now()
	_, err := s.store.Get(ctx, layout.DEK(d.id))
	switch {
	case err == nil:
		d.seen.note(began)
		return nil
	case errors.Is(err, store.ErrNotFound):
		s.deks.drop(d.id)
		return errNoDEK
	}
	return asFault(err)
}

// stands reports whether what was done with k may be answered. If not, it is to
// be done again with s.kek.
func (s *Service) stands(ctx context.Context, k *slot[*kek]) (bool, error) {
	for n := 0; k.seen.age() > answerAge; n++ {
		if n == looks {
			return false, errSlow
		}
		if same, err := s.lookAtKEK(ctx, k); !same {
			return false, err
		}
	}
	return true, nil
}

// lookAtKEK notes that the row of a KEK is still the one that k was read from, or
// drops k.
func (s *Service) lookAtKEK(ctx context.Context, k *slot[*kek]) (same bool, err error) {
	began := time.Now()
	rec, err := s.store.Get(ctx, layout.KEK(k.id))
	switch {
	case err == nil && rec.Revision == k.key.rev:
		k.seen.note(began)
		return true, nil
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return false, asFault(err)
	}
	s.keks.drop(k.id)
	return false, nil
}
