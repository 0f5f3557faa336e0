package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// engineLogger takes what Pebble has to say. Its chatter goes to the log at
// debug level, errors of its background work at error level. Pebble tries such
// work again; meanwhile reads go on, and commits until the memory for them is
// full: then they wait.
//
// Fatalf is Pebble's way to say that it cannot go on: its log cannot be
// written, or the manifest. Its own logger would call os.Exit(1). Ours records
// the failure, tells Options.OnFailure, and panics, because Pebble's state is
// undefined if Fatalf returns. In a call of the store the panic ends as the
// error of that call; in a goroutine of Pebble it ends the process. Nothing that
// was acknowledged is lost by that: the next Open is the ordinary recovery.
type engineLogger struct{ s *Store }

var _ pebble.Logger = engineLogger{}

// Infof is the chatter.
func (l engineLogger) Infof(format string, args ...any) {
	if l.s.logger.Enabled(context.Background(), slog.LevelDebug) {
		l.s.logger.Debug("pebble: " + fmt.Sprintf(format, args...))
	}
}

// Errorf reports what Pebble will try again, and damage that it met.
func (l engineLogger) Errorf(format string, args ...any) {
	l.s.logger.Error("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf does not return.
func (l engineLogger) Fatalf(format string, args ...any) {
	panic(l.s.fail(fmt.Errorf(format, args...)))
}

// fail ends the store, for the first cause that comes, and returns the error
// that all calls answer from now on. A write that failed once must not be tried
// again: after a failed sync the system may call pages clean that never reached
// the disk, and a later sync would then succeed without them.
func (s *Store) fail(cause error) error {
	err := error(fault.Wrap(fault.Unavailable, cause,
		"the store has stopped, because its disk or its engine failed; see the log, and start the server again"))
	if !s.failure.CompareAndSwap(nil, &err) {
		return s.failed()
	}
	s.logger.Error("store: stopped", "cause", cause.Error(), "stack", string(debug.Stack()))
	if s.onFail != nil {
		s.onFail(err)
	}
	return err
}

// failed returns why the store cannot go on, or nil.
func (s *Store) failed() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// readError names an error of a read.
func readError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pebble.ErrNotFound):
		return store.ErrNotFound
	case pebble.IsCorruptionError(err):
		return damaged(err)
	}
	return fault.Wrap(fault.Unavailable, err, "the store could not read from its disk; try again, and see the log")
}

// damaged marks err as store.ErrDamaged and fault.Damaged.
func damaged(err error) error {
	return fault.Wrap(fault.Damaged, fmt.Errorf("%w: %w", store.ErrDamaged, err),
		"what is stored here is damaged on the disk; the operator has to restore it from a backup")
}
