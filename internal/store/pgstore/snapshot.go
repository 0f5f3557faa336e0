package pgstore

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyfold/keyfold/internal/store"
)

var _ store.Snapshotter = (*Store)(nil)

// Snapshot is [store.Snapshotter].Snapshot. It has a connection of its own, and until
// its Close the database keeps what is overwritten or deleted anywhere in it.
func (s *Store) Snapshot(ctx context.Context) (store.Snapshot, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.closed {
		return nil, store.ErrClosed
	}
	var n *snapshot
	err := s.keep(ctx, func(ctx context.Context, c *pgxpool.Conn) error {
		if err := exec(ctx, c.Conn().PgConn(), &stSnapshot); err != nil {
			return err
		}
		_, err := one(send(ctx, c.Conn().PgConn(), &stSchema))
		n = &snapshot{conn: c}
		return err
	})
	if err != nil {
		return nil, err
	}
	return n, nil
}

// keep gets a connection, which stays with the caller unless begin fails, again and
// again for as long as there is patience.
func (s *Store) keep(ctx context.Context, begin func(context.Context, *pgxpool.Conn) error) error {
	for end := time.Now().Add(s.opt.patience); ; {
		c, err := s.acquire(ctx)
		k := kindOfConnect(err)
		if err == nil {
			if err = begin(ctx, c); err == nil {
				return nil
			}
			k = kindOf(err)
			_ = c.Conn().Close(ctx) // it may be in a transaction
			c.Release()
		}
		if k == refused || k == final || k == answered || ctx.Err() != nil || time.Now().After(end) {
			return named(ctx, "looking at one moment", k, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// snapshot is a transaction that only reads.
type snapshot struct {
	mu   sync.Mutex
	conn *pgxpool.Conn // nil: closed
}

// Scan is [store.Store].Scan, always of the same moment.
func (n *snapshot) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conn == nil {
		return nil, store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	running, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	st, values := scanOf(r, opt)
	out, err := records(send(running, n.conn.Conn().PgConn(), st, values...))
	if err != nil {
		return nil, named(ctx, "reading records of one moment", kindOf(err), err)
	}
	return out, nil
}

// Close lets go of the moment. A second Close does nothing.
func (n *snapshot) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conn == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if err := exec(ctx, n.conn.Conn().PgConn(), &stRollback); err != nil {
		_ = n.conn.Conn().Close(ctx) // the end of its connection ends it too
	}
	n.conn.Release()
	n.conn = nil
	return nil
}
