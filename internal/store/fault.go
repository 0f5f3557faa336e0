package store

import (
	"context"
	"errors"

	"github.com/keyfold/keyfold/internal/fault"
)

// Fault names an error of a Store, or of Retry, where the caller of it has
// nothing more exact to say; ErrNotFound needs such words. It lets a fault pass,
// and nil. After a failed Commit it is not always known whether it took effect,
// and the messages say so.
func Fault(err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok || err == nil {
		return err
	}
	switch {
	case errors.Is(err, ErrConflict):
		return fault.Wrap(fault.Conflict, err, "somebody else changed this at the same time; try again")
	case errors.Is(err, ErrDamaged):
		return fault.Wrap(fault.Damaged, err, "the store is damaged; restore it from a backup")
	case errors.Is(err, ErrLimit):
		return fault.Wrap(fault.TooLarge, err, "this is more than the store takes at once; send less")
	case errors.Is(err, ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fault.Wrap(fault.Unavailable, err, "the request was not finished; look whether it took effect, then try again")
	}
	return fault.Wrap(fault.Internal, err, "the store failed; look whether the request took effect before you try again")
}
