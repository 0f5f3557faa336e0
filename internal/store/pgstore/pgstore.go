// Package pgstore is the engine on the PostgreSQL wire, for many machines over
// one database.
//
// Records lie in one table (sql.go). A commit is one round trip: a pipeline of
// statements, one for each key and in their order, which are one implicit
// transaction. Each locks its key, there or not, until the end, and fails when a
// precondition does not hold; so commits are serializable on READ COMMITTED
// (ADR 0030). A scan is one statement, and Gets that meet are one together (gets.go);
// each sees one moment.
//
// What surely did nothing is tried again here: a deadlock, a serialization
// failure, a connection that cannot be had, a server that has become a standby;
// and every read. A commit whose answer was lost is not: its error says that the
// outcome is not known.
//
// No read is answered by a standby, not even if a pooler leads there unnoticed: each asks
// whether its transaction could write.
//
// It trusts the database with everything that the store's user may see, and to
// keep what it acknowledged: synchronous_commit must be on, and is asked of each
// connection. The URL's password and the database's own messages, which may quote
// rows, are in no error.
package pgstore

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyfold/keyfold/internal/store"
)

// Options are what a URL does not say. There is nothing yet but for tests.
type Options struct {
	patience, callTimeout time.Duration           // 0: the constants of these names
	wrap                  func(net.Conn) net.Conn // nil, or what to put around each connection
}

// Store is open on one database. It may be used by any number of goroutines.
type Store struct {
	pool    *pgxpool.Pool
	opt     Options
	retries atomic.Int64 // of deadlocks and serialization failures
	unnamed atomic.Bool  // prepared statements turned out not to work
	gets    gets
	isOpen  context.Context // of the statements of Gets; Close ends it
	end     context.CancelFunc

	mu     sync.RWMutex // held for reading by every call
	closed bool
}

var _ store.Store = (*Store)(nil)

// Open connects to the database that url names, one of them that takes writes if
// there are several hosts, and brings its schema up to date. The URL is libpq's
// (postgres://, with sslmode and so on, and pool_max_conns).
//
// Errors: fault.Invalid for a URL, a setting or a schema that will not do, with
// what to do about it; fault.Unavailable when no server can be reached.
func Open(ctx context.Context, url string, opt Options) (*Store, error) {
	return connect(ctx, url, opt, migrate)
}

// OpenAsIs is Open, but it makes no table and leaves the schema as it is. Where Open
// would make the tables it fails with fs.ErrNotExist.
func OpenAsIs(ctx context.Context, url string, opt Options) (*Store, error) {
	there := false
	s, err := connect(ctx, url, opt, func(ctx context.Context, conn *pgconn.PgConn) (err error) {
		there, err = hasSchema(ctx, conn)
		return err
	})
	if err == nil && !there {
		return nil, errors.Join(fmt.Errorf("there are no tables of Keyfold in the database: %w", fs.ErrNotExist), s.Close())
	}
	return s, err
}

// connect opens the pool, once first has looked at the schema.
func connect(ctx context.Context, url string, opt Options, first func(context.Context, *pgconn.PgConn) error) (*Store, error) {
	opt.patience, opt.callTimeout = cmp.Or(opt.patience, patience), cmp.Or(opt.callTimeout, callTimeout)
	config, err := configure(url, opt)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, describe("opening the database", err)
	}
	s := &Store{pool: pool, opt: opt}
	s.isOpen, s.end = context.WithCancel(context.Background())
	if err := s.call(ctx, "opening the database", false, first); err != nil {
		s.Close()
		return nil, err
	}
	pool.Reset() // the connection that made the tables has no prepared statements of them
	return s, nil
}

// afterAll is greater than every key.
var afterAll = strings.Repeat("\xff", store.MaxKey+1)

// Scan is [store.Store].Scan.
func (s *Store) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) (out []store.Record, err error) {
	st, values := scanOf(r, opt)
	err = s.enter(ctx, "reading records", false, func(ctx context.Context, conn *pgconn.PgConn) (err error) {
		out, err = records(send(ctx, conn, st, values...))
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// scanOf is the statement of a scan, and its values.
func scanOf(r store.Range, opt store.ScanOptions) (st *statement, values [][]byte) {
	end := r.End
	if end == "" {
		end = afterAll
	}
	st, values = &stUp, [][]byte{[]byte(r.Start), []byte(end), number(uint64(opt.Max()))}
	switch {
	case opt.MaxBytes > 0 && opt.Reverse:
		st = &stDownBytes
	case opt.MaxBytes > 0:
		st = &stUpBytes
	case opt.Reverse:
		st = &stDown
	}
	if opt.MaxBytes > 0 {
		values = append(values, number(uint64(opt.MaxBytes)))
	}
	return st, values
}

func records(r *pgconn.ResultReader) (out []store.Record, err error) {
	for r.NextRow() {
		v := r.Values()
		out = append(out, store.Record{Key: string(v[0]), Value: append([]byte{}, v[1]...), Revision: revision(v[2])})
	}
	_, err = r.Close()
	return out, err
}

func revision(b []byte) store.Revision { return store.Revision(binary.BigEndian.Uint64(b)) }

// Shared reports that other processes may have the database open, too; see [store.Shared].
func (s *Store) Shared() bool { return true }

// Commit is [store.Store].Commit.
func (s *Store) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	if err := b.Validate(); err != nil {
		return 0, err
	}
	byKey, impossible := changes(b)
	if len(b.Writes) == 0 || impossible != nil {
		return 0, s.check(ctx, byKey, impossible)
	}
	rev := store.NewRevision()
	err := s.enter(ctx, "committing", true, func(ctx context.Context, conn *pgconn.PgConn) error {
		p := pipeline{named: sessionOf(conn).named}
		queue(&p, byKey, rev)
		return p.commit(ctx, conn)
	})
	if err != nil {
		return 0, err
	}
	return rev, nil
}

// check looks whether preconditions hold, all at one moment.
func (s *Store) check(ctx context.Context, byKey map[string]change, impossible error) error {
	return s.enter(ctx, "checking", false, func(ctx context.Context, conn *pgconn.PgConn) error {
		if impossible != nil || len(byKey) == 0 {
			return impossible
		}
		keys, found := slices.Collect(maps.Keys(byKey)), make(map[string]store.Revision, len(byKey))
		r := send(ctx, conn, &stRevisions, byteaArray(keys))
		for r.NextRow() {
			found[string(r.Values()[0])] = revision(r.Values()[1])
		}
		if _, err := r.Close(); err != nil {
			return err
		}
		for k, c := range byKey {
			if found[k] != *c.required {
				return store.ErrConflict
			}
		}
		return nil
	})
}

// Close is [store.Store].Close.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	s.closed = true
	s.end()
	s.pool.Close()
	return nil
}

// enter is call of an open store.
func (s *Store) enter(ctx context.Context, doing string, writes bool, do func(context.Context, *pgconn.PgConn) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return store.ErrClosed
	}
	return s.call(ctx, doing, writes, do)
}

// call runs do on a connection, again and again where that is safe. Once do runs,
// the end of ctx does not cut it short, but its deadline does: what was sent has
// then an answer, and the connection stays good.
func (s *Store) call(ctx context.Context, doing string, writes bool, do func(context.Context, *pgconn.PgConn) error) error {
	began := time.Now()
	limit := began.Add(s.opt.callTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(limit) {
		limit = d
	}
	running, cancel := context.WithDeadline(context.WithoutCancel(ctx), limit)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, err := s.try(ctx, running, do)
		if err == nil || k == answered {
			return err
		}
		retry := k == again || (k == elsewhere || k == unknown && !writes) && time.Since(began) < s.opt.patience
		if !retry || time.Until(limit) < wait {
			return named(ctx, doing, k, err)
		}
		if k == again {
			s.retries.Add(1)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(wait) + 1):
		}
	}
}

// try runs do once.
func (s *Store) try(ctx, running context.Context, do func(context.Context, *pgconn.PgConn) error) (kind, error) {
	c, err := s.acquire(ctx)
	if err != nil {
		return kindOfConnect(err), err
	}
	defer c.Release()
	conn := c.Conn().PgConn()
	if !s.unnamed.Load() {
		prepare(running, conn)
	}
	err = do(running, conn)
	if err == nil {
		return final, nil
	}
	if c := code(err); c == "26000" || c == "42P05" { // no such prepared statement, or one too many
		s.unnamed.Store(true) // there is a pooler that checkSession did not see
	}
	k := kindOf(err)
	if k == answered {
		return k, err
	}
	if k == elsewhere {
		conn.Close(running)
	}
	if k == elsewhere || k == unknown && running.Err() == nil {
		s.pool.Reset() // what is idle has probably lost its server too
	}
	return k, err
}

func (s *Store) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.patience)
	defer cancel()
	return s.pool.Acquire(ctx)
}
