package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// The answers that do not depend on the request.
var (
	errNoSecret  = fault.New(fault.NotFound, "there is no secret at this path; check the path, it is case-sensitive")
	errNoVersion = fault.New(fault.NotFound, "the secret has no such version; list its versions to see which there are")
	errDeleted   = fault.New(fault.Gone, "this secret was deleted; write a new value to the path to use it again")
	errDisabled  = fault.New(fault.Gone, "this version is disabled; read another version or write a new value")
	errReadOut   = fault.New(fault.Gone, "this version was read as often as its max_access_count allows; write a new value")
)

// errTorn is a cause of damaged: see Service.torn.
var errTorn = errors.New("rows do not fit together")

// What a KMS can answer wrong. Left unanswered says nothing about a row.
var (
	errAnswers    = fault.New(fault.Unavailable, "the key process did not answer with one result for one item")
	errOldKEK     = fault.New(fault.Unavailable, "the key process works with an older version of the KEK than it made; try again, and if that does not help restore it from its newest backup")
	errLag        = fmt.Errorf("an envelope under an older version of the KEK: %w", store.ErrConflict)
	errNoEnvelope = errors.New("the key process answered with something that is no envelope")
)

// damaged is the one answer to a row that does not parse or does not open,
// whatever the cause.
func damaged(cause error) error {
	return fault.Wrap(fault.Damaged, cause, "what is stored here is damaged and does not open; write a new value or restore a backup")
}

// givenUp reports whether err means that somebody did not wait, or is away.
func givenUp(err error) bool {
	return errors.Is(err, fault.Unavailable) || errors.Is(err, store.ErrClosed) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// readFault names a failed read of the store.
func readFault(err error) error {
	switch {
	case errors.Is(err, store.ErrDamaged):
		return damaged(err)
	case givenUp(err):
		return fault.Wrap(fault.Unavailable, err, "the store did not answer; try again")
	}
	return fault.Of(err)
}

// commitFault names a failed commit. ErrConflict passes: it is for retry.
func commitFault(err error) error {
	const unknown = "the store failed and it is not known whether the change was made; read before you try again"
	switch {
	case errors.Is(err, store.ErrConflict):
		return err
	case givenUp(err):
		return fault.Wrap(fault.Unavailable, err, unknown)
	}
	return fault.Wrap(fault.Internal, err, unknown)
}

// sealFault names a failed CreateKEK or Seal. Nothing was stored.
func sealFault(err error) error {
	if givenUp(err) {
		return fault.Wrap(fault.Unavailable, err, "the key process is not reachable, nothing was stored; try again")
	}
	return fault.Wrap(fault.Internal, err, "the key process could not seal, nothing was stored; the log has the request ID")
}

// openFault names a failed Open. A KMS that is away says nothing about the row.
func openFault(err error) error {
	if givenUp(err) {
		return fault.Wrap(fault.Unavailable, err, "the key process is not reachable; try again")
	}
	return damaged(err)
}

// commit applies b.
func (s *Service) commit(ctx context.Context, b *store.Batch) error {
	if _, err := s.store.Commit(ctx, b); err != nil {
		return commitFault(err)
	}
	return nil
}

// maxLags is how many envelopes under an older version of the KEK one write
// waits out, each lagPause longer than the one before: 2.1 seconds in all. A key
// process that missed a rotation by another learns of it within 1.5; one that was
// restored from a backup of before it does not.
const (
	maxLags  = 8
	lagPause = 75 * time.Millisecond
)

// retry runs try until its commit meets no other.
func (s *Service) retry(ctx context.Context, try func() error) error {
	lags := 0
	err := store.Retry(ctx, func() error {
		err := try()
		if errors.Is(err, errLag) {
			if lags++; lags == maxLags {
				return errOldKEK
			}
			select {
			case <-time.After(time.Duration(lags) * lagPause):
			case <-ctx.Done():
			}
		}
		return err
	})
	if err != nil && err == ctx.Err() {
		return fault.Wrap(fault.Unavailable, err, "too many writes met; nothing was changed; try again")
	}
	return err
}
