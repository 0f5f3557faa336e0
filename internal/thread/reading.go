package thread

import (
	"context"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
)

// A page of large messages is in the memory three times while it is read: sealed,
// opened and as the answer. So no more than maxReading are read at a time, and who
// waits longer than readingWait, because they are slow ones or the KMS is away, is
// told so.
const (
	maxReading  = 16
	readingWait = 2 * time.Second
)

var errManyReading = fault.New(fault.Unavailable, "many pages are being read at this moment; try again, or ask for smaller pages")

// reading bounds how many pages are read at a time.
type reading chan struct{}

// begin waits for a place, which is free again when done is called.
func (r reading) begin(ctx context.Context) (done func(), err error) {
	free := func() { <-r }
	select {
	case r <- struct{}{}:
		return free, nil
	default:
	}
	late := time.NewTimer(readingWait)
	defer late.Stop()
	select {
	case r <- struct{}{}:
		return free, nil
	case <-late.C:
		return nil, errManyReading
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
