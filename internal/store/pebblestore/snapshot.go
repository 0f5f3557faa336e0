package pebblestore

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keyfold/keyfold/internal/store"
)

// Snapshot is the store as it stood at one moment: each commit is in it whole
// or not at all. While it is open, the engine keeps what has been overwritten
// since. One goroutine at a time may use it.
type Snapshot struct {
	s  *Store
	at *pebble.Snapshot // nil: closed
}

var _ store.Snapshotter = (*Store)(nil)

// Snapshot is [store.Snapshotter].Snapshot.
func (s *Store) Snapshot(ctx context.Context) (view store.Snapshot, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	n := &Snapshot{s: s}
	defer func() {
		if n.at == nil {
			s.life.RUnlock()
		}
	}()
	defer s.caught(&err)
	n.at = s.db.NewSnapshot()
	s.snapshots.Add(1)
	return n, nil
}

// Scan is [store.Store].Scan, always of the same moment.
func (n *Snapshot) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) (recs []store.Record, err error) {
	switch {
	case n.at == nil:
		return nil, store.ErrClosed
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case n.s.failed() != nil:
		return nil, n.s.failed()
	}
	defer n.s.caught(&err)
	return scan(ctx, n.at, r, opt)
}

// Close lets go of the moment. A second Close does nothing.
func (n *Snapshot) Close() (err error) {
	if n.at == nil {
		return nil
	}
	at := n.at
	n.at = nil
	defer n.s.leave(&err)
	defer n.s.snapshots.Add(-1)
	return at.Close()
}

// caught makes a panic of the engine the error of the call.
func (s *Store) caught(err *error) {
	if r := recover(); r != nil {
		*err = s.fail(fmt.Errorf("panic: %v", r))
	}
}
