package pgstore

// Every statement that this package sends is here, so that a test can read them
// all: SQL that PostgreSQL, CockroachDB and YugabyteDB speak, and nothing else.
//
// Records lie in one table. bytea is ordered bytewise, as keys are.
const (
	// Commit sends these, one for each key, in the order of keys. Each takes a lock
	// that is held until the commit ends (ADR 0030). One that fails fails the
	// commit: with a unique violation or, where a row should have been hit and was
	// not, with a division by zero.

	// sqlPut puts a record, whatever there is.
	sqlPut = `INSERT INTO keyfold_records (key, value, revision) VALUES ($1, $2, $3)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision`
	// sqlCreate puts a record where there must be none.
	sqlCreate = `INSERT INTO keyfold_records (key, value, revision) VALUES ($1, $2, $3)`
	// sqlReplace puts a record where there must be one at a revision.
	sqlReplace = `WITH hit AS (UPDATE keyfold_records SET value = $2, revision = $3 WHERE key = $1 AND revision = $4 RETURNING 1)
		SELECT 1 / count(*) FROM hit`
	// sqlRemove deletes a record that must be at a revision.
	sqlRemove = `WITH hit AS (DELETE FROM keyfold_records WHERE key = $1 AND revision = $2 RETURNING 1)
		SELECT 1 / count(*) FROM hit`
	// sqlHold holds a record that must be at a revision where it is.
	sqlHold = `SELECT 1 / count(*) FROM (SELECT 1 FROM keyfold_records WHERE key = $1 AND revision = $2 FOR SHARE) AS held`
	// sqlClaim locks a key whether there is a record or not, and sqlReserve one where
	// there must be none; sqlDelete follows either.
	sqlClaim = `INSERT INTO keyfold_records (key, value, revision) VALUES ($1, '', 0)
		ON CONFLICT (key) DO UPDATE SET revision = excluded.revision`
	sqlReserve = `INSERT INTO keyfold_records (key, value, revision) VALUES ($1, '', 0)`
	sqlDelete  = `DELETE FROM keyfold_records WHERE key = $1`

	// sqlRevisions is what a batch of preconditions alone asks.
	sqlRevisions = `SELECT key, revision FROM keyfold_records WHERE key = ANY($1)`

	sqlGet      = `SELECT value, revision FROM keyfold_records WHERE key = $1`
	sqlScanUp   = `SELECT key, value, revision FROM keyfold_records WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3`
	sqlScanDown = `SELECT key, value, revision FROM keyfold_records WHERE key >= $1 AND key < $2 ORDER BY key DESC LIMIT $3`
	// The two with a bound of bytes return a record as long as the values before it
	// make less.
	sqlScanUpBytes = `SELECT key, value, revision FROM (
			SELECT key, value, revision, sum(length(value)) OVER (ORDER BY key ROWS UNBOUNDED PRECEDING) - length(value) AS sofar
			FROM keyfold_records WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3) AS page
		WHERE sofar < $4 ORDER BY key`
	sqlScanDownBytes = `SELECT key, value, revision FROM (
			SELECT key, value, revision, sum(length(value)) OVER (ORDER BY key DESC ROWS UNBOUNDED PRECEDING) - length(value) AS sofar
			FROM keyfold_records WHERE key >= $1 AND key < $2 ORDER BY key DESC LIMIT $3) AS page
		WHERE sofar < $4 ORDER BY key DESC`

	// sqlSession is asked of every new connection.
	sqlSession = `SELECT current_setting('transaction_read_only'), current_setting('synchronous_commit')`

	// The schema's version is one row, and the lock of migrations too.
	sqlSchemaVersion = `SELECT version FROM keyfold_schema WHERE id = 1`
	sqlSchemaLock    = `SELECT version FROM keyfold_schema WHERE id = 1 FOR UPDATE`
	sqlSchemaSet     = `UPDATE keyfold_schema SET version = $1 WHERE id = 1`
	sqlSchemaTable   = `CREATE TABLE IF NOT EXISTS keyfold_schema (id bigint PRIMARY KEY, version bigint NOT NULL)`
	sqlSchemaRow     = `INSERT INTO keyfold_schema (id, version) VALUES (1, 0) ON CONFLICT (id) DO NOTHING`
	sqlBegin         = `BEGIN`
	sqlCommit        = `COMMIT`
	sqlRollback      = `ROLLBACK`
)

// migrations are the steps of the schema: step n leads from version n to n+1.
// Each may be run twice, since not every engine undoes it with its transaction.
var migrations = []string{
	`CREATE TABLE IF NOT EXISTS keyfold_records (key bytea PRIMARY KEY, value bytea NOT NULL, revision bigint NOT NULL)`,
}
