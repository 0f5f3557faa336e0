package thread

import (
	"context"
	"errors"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

var (
	errNoKey     = fault.New(fault.Damaged, "the thread has no key; nothing is stored or read without one")
	errNoMessage = fault.New(fault.NotFound, "there is no such message in this thread; check the ID")
)

// storeFault names an error of the store. It lets a fault pass, and nil.
func storeFault(err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok || err == nil {
		return err
	}
	switch {
	case errors.Is(err, store.ErrDamaged):
		return fault.Wrap(fault.Damaged, err, "the store is damaged; restore it from a backup")
	case errors.Is(err, store.ErrLimit):
		return fault.Wrap(fault.TooLarge, err, "this is more than the store takes at once; send less")
	case errors.Is(err, store.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fault.Wrap(fault.Unavailable, err, "the request was not finished; look whether it took effect, then try again")
	}
	return fault.Wrap(fault.Internal, err, "the store failed; look whether the request took effect before you try again")
}

// kmsFault names an error of a KMS call that should have answered want
// results, or of one item of it. A key that the KMS does not have or cannot
// unwrap is Damaged; a key that is worn out and an item that is too large are
// the caller's to hear of; everything else may pass and is Unavailable.
func kmsFault(err error, got, want int) error {
	switch {
	case err == nil && got == want:
		return nil
	case err == nil:
		return fault.New(fault.Unavailable, "the KMS left questions unanswered; try again")
	case errors.Is(err, fault.Conflict), errors.Is(err, fault.TooLarge):
		return err
	case errors.Is(err, fault.NotFound), errors.Is(err, fault.Damaged), errors.Is(err, fault.Unopenable):
		return fault.Wrap(fault.Damaged, err, "the thread's key is not in the KMS; restore the KMS from a backup")
	}
	return fault.Wrap(fault.Unavailable, err, "the KMS is away; nothing was stored or read, try again")
}

// openFault names the failure to open a message.
func openFault(err error, messageID string) error {
	switch fault.Of(err).Code {
	case fault.Unavailable, fault.Timeout, fault.Internal:
		return kmsFault(err, 1, 1)
	}
	return fault.Wrap(fault.Damaged, err, "message %s does not open: what is stored is not what was written; restore it from a backup", messageID)
}
