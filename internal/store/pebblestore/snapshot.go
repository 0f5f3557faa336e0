package pebblestore

import (
	"context"
	"errors"

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

// Snapshot returns a view of this moment. The caller closes it before the store.
func (s *Store) Snapshot(ctx context.Context) (n *Snapshot, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave(&err)
	return &Snapshot{s, s.db.NewSnapshot()}, nil
}

// Scan is [store.Store].Scan, always of the same moment.
func (n *Snapshot) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) (recs []store.Record, err error) {
	if n.at == nil {
		return nil, store.ErrClosed
	}
	if err := n.s.enter(ctx); err != nil {
		return nil, err
	}
	defer n.s.leave(&err)
	return scan(ctx, n.at, r, opt)
}

// Close lets go of the moment. A second Close does nothing.
func (n *Snapshot) Close() (err error) {
	if n.at == nil {
		return nil
	}
	if err := n.s.enter(context.Background()); errors.Is(err, store.ErrClosed) {
		return nil // and the store's Close complained
	} else if err != nil {
		return err
	}
	defer n.s.leave(&err)
	at := n.at
	n.at = nil
	return at.Close()
}
