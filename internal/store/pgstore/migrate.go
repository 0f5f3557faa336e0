package pgstore

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyfold/keyfold/internal/fault"
)

// migrate brings the schema to the version of this binary. Of processes that do
// so at once one works and the others wait for its row lock. Where nothing is to
// be done it only reads, so that a role without the right to make tables will do.
func migrate(ctx context.Context, conn *pgconn.PgConn) error {
	version, err := schemaVersion(ctx, conn, &stSchema)
	if noSchema(err) {
		if err = makeSchema(ctx, conn); err == nil {
			version, err = schemaVersion(ctx, conn, &stSchema)
		}
	}
	if err != nil || version == len(migrations) {
		return err
	}
	if err := exec(ctx, conn, &stBegin); err != nil {
		return err
	}
	if err := migrateLocked(ctx, conn); err != nil {
		return errors.Join(err, exec(ctx, conn, &stRollback))
	}
	return exec(ctx, conn, &stCommit)
}

// hasSchema reports whether migrate was here. It changes nothing.
func hasSchema(ctx context.Context, conn *pgconn.PgConn) (bool, error) {
	version, err := schemaVersion(ctx, conn, &stSchema)
	if noSchema(err) {
		return false, nil
	}
	return version > 0, err
}

// noSchema reports whether err says that there is no such table, or one without its row yet.
func noSchema(err error) bool { return code(err) == "42P01" || err == errNoVersion }

// makeSchema makes the row that holds the version. Two that make one table at
// once may fail although both say IF NOT EXISTS, hence the tries.
func makeSchema(ctx context.Context, conn *pgconn.PgConn) (err error) {
	for range 20 {
		if err = exec(ctx, conn, &stSchemaMake); err == nil {
			return exec(ctx, conn, &stSchemaRow)
		}
		if c := code(err); c != "23505" && c != "42P07" && c != "42710" && c != "40001" && c != "XX000" {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return err
}

// migrateLocked runs the steps that are missing, in a transaction.
func migrateLocked(ctx context.Context, conn *pgconn.PgConn) error {
	version, err := schemaVersion(ctx, conn, &stSchemaLock)
	if err != nil {
		return err
	}
	for ; version < len(migrations); version++ {
		if err := exec(ctx, conn, &migrations[version]); err != nil {
			return err
		}
	}
	return exec(ctx, conn, &stSchemaSet, number(uint64(version)))
}

var errNoVersion = &failure{text: "keyfold_schema has no row: another process is making it, or it was deleted"}

// schemaVersion reads the version, and refuses one of a newer binary.
func schemaVersion(ctx context.Context, conn *pgconn.PgConn, st *statement) (int, error) {
	row, err := one(send(ctx, conn, st))
	if err == nil && row == nil {
		err = errNoVersion
	}
	if err != nil {
		return 0, err
	}
	version, err := strconv.Atoi(string(row[0]))
	if err == nil && version > len(migrations) {
		return 0, fault.New(fault.Invalid, "the database has schema version %d, and this program knows %d and older; run the newer program", version, len(migrations))
	}
	return version, err
}

func exec(ctx context.Context, conn *pgconn.PgConn, st *statement, values ...[]byte) error {
	_, err := send(ctx, conn, st, values...).Close()
	return err
}

// code is the SQLSTATE of err, "" if it has none.
func code(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}
