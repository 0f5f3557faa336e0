package store

import "context"

// Snapshotter is a Store that can show itself as it stood at one moment.
type Snapshotter interface {
	// Snapshot returns a view of this moment. The store's Close waits for its Close.
	Snapshot(ctx context.Context) (Snapshot, error)
}

// Snapshot is a store as it stood at one moment: each commit is in it whole or not
// at all. While it is open the engine keeps what was overwritten since, so it is not
// to be kept long. One goroutine at a time may use it.
type Snapshot interface {
	Scanner
	// Close lets go of the moment. A second Close does nothing.
	Close() error
}
