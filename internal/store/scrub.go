package store

import "context"

// Scrubber is a Store that leaves, in files, bytes that were overwritten or
// deleted, until it happens to write these files anew, and can do that now.
type Scrubber interface {
	// Scrub takes what was overwritten or deleted before its first call, the one
	// with an empty state, out of all files of the store. It works for some seconds
	// at a time: pass the state that it returns to the next call; "" says that all is
	// done. A state stays good after a restart. While one goroutine scrubs, all
	// other calls may be made.
	//
	// fault.Unavailable: a reader still needs the old bytes; try again with the
	// same state.
	Scrub(ctx context.Context, state string) (next string, err error)
}
