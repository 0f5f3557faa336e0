package pgstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// kind says what a failure of a statement means for it.
type kind int

const (
	final     kind = iota // an error; nothing happened
	answered              // an error in our own words
	conflict              // a precondition did not hold
	again                 // a deadlock or a serialization failure: nothing happened, and the next time may do
	refused               // the database does not let us in, or is not the one that we trust
	elsewhere             // this connection is of no use, nothing happened
	unknown               // the answer was lost: it may have happened, and may still
	damaged               // the database found its bytes damaged
)

// kindOf sorts what pgconn returned.
func kindOf(err error) kind {
	if _, ok := errors.AsType[*fault.Error](err); ok || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) {
		return answered
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		if pgconn.SafeToRetry(err) {
			return elsewhere
		}
		return unknown
	}
	switch code := pg.Code; code {
	case "23505", "22012": // unique violation, division by zero
		return conflict
	case "40001", "40P01": // serialization failure, deadlock
		return again
	case "40003": // statement completion unknown
		return unknown
	case "25006", "22P02", // read only, of a write and of takesWrites: a standby, or a primary no more
		"26000", "42P05": // no such prepared statement, or one too many
		return elsewhere
	case "XX001", "XX002": // data, index corrupted
		return damaged
	default:
		switch {
		case pg.SeverityUnlocalized == "ERROR" && code[:2] != "08" && code[:2] != "57":
			return final
		case code == "57014": // cancelled, or over a timeout of the server's
			return final
		}
		return unknown // FATAL, PANIC: the connection is gone
	}
}

// kindOfConnect sorts what a try to get a connection returned.
func kindOfConnect(err error) kind {
	_, ours := errors.AsType[*fault.Error](err) // of checkSession
	_, cert := errors.AsType[*tls.CertificateVerificationError](err)
	if ours || cert || slices.Contains(refusals, code(err)) {
		return refused
	}
	return elsewhere
}

// refusals are the SQLSTATEs that another try does not mend: user and password,
// no such database, no right to connect.
var refusals = []string{"28000", "28P01", "3D000", "42501"}

// failure is what went wrong, for the log: in words that hold nothing of what is
// stored, and no password. It does not unwrap to what pgx said.
type failure struct {
	text string
	one  bool // statement failed: the database answers, and others may not fail
}

func (f *failure) Error() string { return f.text }

// describe puts what pgx or the system said into words that are safe to log. The
// database's own messages are left out: they may quote rows.
func describe(doing string, err error) *failure {
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) {
		doing += ", connecting"
	}
	return &failure{text: doing + ": " + cause(err)}
}

func cause(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		if pg.Code == "25006" || pg.Code == "22P02" {
			return errTakesNoWrites.text
		}
		return "the database answered SQLSTATE " + pg.Code
	}
	if own, ok := errors.AsType[*failure](err); ok {
		return own.text
	}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f.Message
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Error()
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns.Error()
	}
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return cert.Error()
	}
	for _, known := range []error{context.Canceled, context.DeadlineExceeded, io.ErrUnexpectedEOF, io.EOF, pgconn.ErrConnClosed} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return fmt.Sprintf("a failure of type %T", err)
}

// ended is ctx.Err(), but does not wait for a timer to run once its deadline is
// over.
func ended(ctx context.Context) error {
	if d, ok := ctx.Deadline(); ok && ctx.Err() == nil && !time.Now().Before(d) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// named is the error that a caller gets for a failure of kind k. ctx is the
// caller's.
func named(ctx context.Context, doing string, k kind, err error) error {
	if k == conflict {
		return store.ErrConflict
	}
	if err := ended(ctx); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f
	}
	what := describe(doing, err)
	switch k {
	case refused:
		return fault.Wrap(fault.Unavailable, what, "the database refuses the connection (%s); correct its URL or the role", cause(err))
	case damaged:
		return fmt.Errorf("%w: %w", store.ErrDamaged, what)
	case elsewhere, again:
		if text := cause(err); text == errTakesNoWrites.text {
			return fault.Wrap(fault.Unavailable, what, "%s; nothing was changed; try again", text)
		}
		if code(err) == "53300" {
			return fault.Wrap(fault.Unavailable, what, "the database takes no more connections: raise its max_connections or the role's limit, or lower pool_max_conns of the servers; nothing was changed; try again")
		}
		return fault.Wrap(fault.Unavailable, what, "the database cannot be reached; nothing was changed; try again")
	case unknown:
		return fault.Wrap(fault.Unavailable, what, "the database did not answer; look whether the request took effect, then try again")
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && strings.HasPrefix(pg.Code, "53") || pg != nil && pg.Code == "57014" {
		what.one = true
		return fault.Wrap(fault.Unavailable, what, "the database has no room or time for this now; nothing was changed; try again")
	}
	return what
}
