package pgstore

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/keyfold/keyfold/internal/fault"
)

const (
	// connectTimeout bounds one try to connect to one host, unless the URL says
	// connect_timeout.
	connectTimeout = 5 * time.Second
	// patience is how long a call looks for a database that takes it: what failed
	// and surely did nothing is tried again so long, and every read.
	patience = 10 * time.Second
	// callTimeout bounds a call, whatever the caller's context says.
	callTimeout = 30 * time.Second
	// silence is how long a connection may have bytes, or a probe, that the other
	// machine has not acknowledged, before it counts as broken.
	silence = 10 * time.Second
)

// configure reads the URL.
func configure(url string, opt Options) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(url)
	// The text of err may hold the password. A '#' in it ends a URL, so that parts of
	// it would be taken for host and port.
	if err != nil || !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://") || strings.Contains(url, "#") {
		return nil, fault.New(fault.Invalid, "the database's URL cannot be read; write postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full, and percent-encode what is special in the password")
	}
	if !strings.Contains(url, "pool_max_conns") {
		c.MaxConns = int32(min(max(4*runtime.GOMAXPROCS(0), 16), 32))
	}
	cc := c.ConnConfig
	if cc.ConnectTimeout == 0 {
		cc.ConnectTimeout = connectTimeout
	}
	dialer := &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
		Control:         limitSilence,
	}
	cc.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err == nil && opt.wrap != nil {
			conn = opt.wrap(conn)
		}
		return conn, err
	}
	cc.ValidateConnect = checkSession
	cc.OnNotice = noteDoubt
	c.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error { neverCancel(&cc.Config); return nil }
	return c, nil
}

// neverCancel makes the one connection that c is for send no cancel request. pgx sends
// one over a second connection when it gives up the first, as at the end of a call's
// time. Met by a commit that waits for the synchronous standby, it ends that wait: others
// would read what is lost if the standby is promoted (ADR 0030).
func neverCancel(c *pgconn.Config) {
	var open atomic.Bool
	dial := c.DialFunc
	c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if open.Load() {
			return nil, errNoCancel
		}
		return dial(ctx, network, address)
	}
	c.AfterConnect = func(context.Context, *pgconn.PgConn) error { open.Store(true); return nil }
}

var errNoCancel = errors.New("statements are never cancelled")

// session is what we know of a connection.
type session struct {
	direct  bool        // it leads to one process of the database: no pooler between
	asked   bool        // to prepare statements
	named   bool        // they are there
	doubted atomic.Bool // the database warned that it did not do all that was asked
}

func sessionOf(conn *pgconn.PgConn) *session {
	s, ok := conn.CustomData()["keyfold"].(*session)
	if !ok {
		s = new(session)
		conn.CustomData()["keyfold"] = s
	}
	return s
}

// checkSession refuses a connection to a server that takes no writes, or that
// acknowledges a commit before it is on stable storage. It is asked of every new
// connection, and so of every host that the URL names.
func checkSession(ctx context.Context, conn *pgconn.PgConn) error {
	row, err := one(send(ctx, conn, &stSession))
	if err != nil {
		return err
	}
	if row == nil || string(row[0]) != "off" {
		return errTakesNoWrites
	}
	if sync := string(row[1]); sync != "on" && sync != "remote_apply" {
		return errNotSynchronous
	}
	// A pooler tells its clients a process ID that it made up.
	sessionOf(conn).direct = string(row[2]) == strconv.FormatUint(uint64(conn.PID()), 10)
	return nil
}

var errTakesNoWrites = &failure{text: "the server takes no writes: it is a standby, or default_transaction_read_only is on"}

var errNotSynchronous = fault.New(fault.Invalid, "synchronous_commit is not on for this role and database, so that a crash could undo what was answered; "+
	"run: ALTER ROLE name SET synchronous_commit = on")

// noteDoubt notes a warning. During a commit there is one that matters: the wait
// for the synchronous standby was cut short, and what is answered as committed may
// be lost with this server.
func noteDoubt(conn *pgconn.PgConn, n *pgconn.Notice) {
	if n.SeverityUnlocalized == "WARNING" {
		sessionOf(conn).doubted.Store(true)
	}
}

// prepare gives conn the statements by name, in one round trip, if it is direct.
// It is tried once. That it fails is no error: statements need no names.
func prepare(ctx context.Context, conn *pgconn.PgConn) {
	s := sessionOf(conn)
	if !s.direct || s.asked {
		return
	}
	s.asked = true
	p := conn.StartPipeline(ctx)
	p.SendQueryParams(stPlans.sql, nil, nil, nil, nil)
	for _, st := range prepared {
		p.SendPrepare(st.name, st.sql, st.types)
	}
	err := p.Sync()
	for range len(prepared) + 1 {
		var answer any
		if err == nil {
			answer, err = p.GetResults()
		}
		if r, ok := answer.(*pgconn.ResultReader); ok {
			_, err = r.Close()
		}
	}
	s.named = p.Close() == nil && err == nil
}

var binaryForm = []int16{1}

// send sends one statement.
func send(ctx context.Context, conn *pgconn.PgConn, st *statement, values ...[]byte) *pgconn.ResultReader {
	if st.name == "" {
		return conn.ExecParams(ctx, st.sql, values, st.types, binaryForm, nil)
	}
	if sessionOf(conn).named {
		return conn.ExecPrepared(ctx, st.name, values, binaryForm, binaryForm)
	}
	return conn.ExecParams(ctx, st.sql, values, st.types, binaryForm, binaryForm)
}

// pipeline is the statements of one commit, which go out together and are one
// implicit transaction.
//
// Where statements have no names, one that follows another of the same text uses
// its plan. PgBouncer keeps one connection of the database until the transaction
// ends, so that works through it as well.
type pipeline struct {
	batch pgconn.Batch
	named bool
	last  *statement
}

func (p *pipeline) add(st *statement, values ...[]byte) {
	switch {
	case p.named:
		p.batch.ExecPrepared(st.name, values, binaryForm, binaryForm)
	case st == p.last:
		p.batch.ExecPrepared("", values, binaryForm, binaryForm)
	default:
		p.batch.ExecParams(st.sql, values, st.types, binaryForm, binaryForm)
	}
	p.last = st
}

// commit sends what was added and waits for the end of the transaction.
func (p *pipeline) commit(ctx context.Context, conn *pgconn.PgConn) error {
	s := sessionOf(conn)
	s.doubted.Store(false)
	if err := conn.ExecBatch(ctx, &p.batch).Close(); err != nil {
		return err
	}
	if s.doubted.Load() {
		return errDoubt
	}
	return nil
}

var errDoubt = &failure{text: "the database warned while it committed: perhaps its standby does not have it"}

// one returns the row of a result, nil when there is none.
func one(r *pgconn.ResultReader) ([][]byte, error) {
	var row [][]byte
	for r.NextRow() {
		row = nil
		for _, v := range r.Values() {
			row = append(row, append([]byte{}, v...))
		}
	}
	_, err := r.Close()
	return row, err
}
