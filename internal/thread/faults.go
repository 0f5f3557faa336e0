package thread

import (
	"fmt"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

var (
	errNoKey     = fault.New(fault.Damaged, "the thread has no key; nothing is stored or read without one")
	errOldKEK    = fault.New(fault.Unavailable, "the KMS did not answer with a DEK under the newest version of its KEK; try again, and if that does not help restore the KMS from its newest backup")
	errNotPlain  = fault.New(fault.Unopenable, "no row of a thread that is not encrypted")
	errLag       = fmt.Errorf("a DEK under an older version of the KEK: %w", store.ErrConflict)
	errNoMessage = fault.New(fault.NotFound, "there is no such message in this thread; check the ID")
)

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
	}
	switch fault.Of(err).Code {
	case fault.Conflict, fault.TooLarge:
		return err
	case fault.NotFound, fault.Damaged, fault.Unopenable:
		return fault.Wrap(fault.Damaged, err, "the thread's key is not in the KMS; restore the KMS from a backup")
	}
	return fault.Wrap(fault.Unavailable, err, "the KMS is away; nothing was stored or read, try again")
}

// unanswered reports whether an answer of the KMS says nothing of the row that was
// to be opened.
func unanswered(err error) bool {
	switch fault.Of(err).Code {
	case fault.Unavailable, fault.Timeout, fault.Internal:
		return true
	}
	return false
}

// openFault names the failure to open a message.
func openFault(err error, messageID string) error {
	if unanswered(err) {
		return kmsFault(err, 1, 1)
	}
	return fault.Wrap(fault.Damaged, err, "message %s does not open: what is stored is not what was written; restore it from a backup", messageID)
}
