package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

func TestErrorsOfTheStoreAreNamed(t *testing.T) {
	for err, want := range map[error]fault.Code{
		store.ErrConflict:        fault.Conflict,
		store.ErrDamaged:         fault.Damaged,
		store.ErrLimit:           fault.TooLarge,
		store.ErrClosed:          fault.Unavailable,
		context.Canceled:         fault.Unavailable,
		context.DeadlineExceeded: fault.Unavailable,
		errors.New("disk"):       fault.Internal,
	} {
		for _, err := range []error{err, fmt.Errorf("around: %w", err)} {
			got := store.Fault(err)
			if !errors.Is(got, want) || !errors.Is(got, err) || got.Error() == err.Error() {
				t.Errorf("Fault(%v) = %v, want %s with its cause", err, got, want)
			}
		}
	}
	named := fault.Wrap(fault.Gone, store.ErrClosed, "said so")
	if got := store.Fault(named); got != error(named) {
		t.Errorf("a fault became %v", got)
	}
	if got := store.Fault(nil); got != nil {
		t.Errorf("nothing became %v", got)
	}
}
