package pgstore

import (
	"context"
	"net"
	"runtime"
	"strings"
	"time"

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
	// callTimeout bounds a statement and its answer, whatever the caller's context
	// says.
	callTimeout = 30 * time.Second
	// silence is how long a connection may have bytes unacknowledged by the other
	// machine, or a probe, before it counts as broken.
	silence = 10 * time.Second
)

// configure reads the URL.
func configure(url string) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(url)
	if err != nil { // its text may hold the password
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
	cc.DialFunc = dialer.DialContext
	cc.ValidateConnect = checkSession
	return c, nil
}

// checkSession refuses a connection to a server that takes no writes, or that
// acknowledges a commit before it is on stable storage. It is asked of every new
// connection, and so of every host that the URL names.
func checkSession(ctx context.Context, conn *pgconn.PgConn) error {
	row, err := one(conn.ExecParams(ctx, sqlSession, nil, nil, nil, nil))
	if err != nil {
		return err
	}
	if row == nil || string(row[0]) != "off" {
		return &failure{"the server takes no writes: it is a standby, or default_transaction_read_only is on"}
	}
	if sync := string(row[1]); sync != "on" && sync != "remote_apply" {
		return errNotSynchronous
	}
	return nil
}

var errNotSynchronous = fault.New(fault.Invalid, "synchronous_commit is not on for this role and database, so that a crash could undo what was answered; "+
	"run: ALTER ROLE name SET synchronous_commit = on")

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
