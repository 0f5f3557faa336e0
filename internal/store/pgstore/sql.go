package pgstore

// Every statement that this package sends is in this file, so that a test can
// read them all: SQL that PostgreSQL, CockroachDB and YugabyteDB speak.
//
// Records lie in one table. bytea is ordered bytewise, as keys are.

// statement is one that is sent with parameters. The types are OIDs. name is what
// it is prepared as, on connections where that works.
type statement struct {
	name, sql string
	types     []uint32
}

const (
	oidBytea      = 17
	oidInt8       = 20
	oidByteaArray = 1001
)

// Commit sends these, in the order of keys: one or two for each key, or for some that
// follow each other, whose rows are then in that order. Each key is locked until the
// commit ends (ADR 0030). A statement that fails fails the
// commit: by a unique violation or, where a row should have been hit and was not,
// by a division by zero.
var (
	// stPut puts a record, whatever there is.
	stPut = statement{"keyfold_put", `INSERT INTO keyfold_records (key, value, revision) VALUES ($1, $2, $3)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision`,
		[]uint32{oidBytea, oidBytea, oidInt8}}
	stPutAll = statement{"keyfold_put_all", `INSERT INTO keyfold_records (key, value, revision) SELECT k, v, $3 FROM unnest($1, $2) AS r (k, v)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision`,
		[]uint32{oidByteaArray, oidByteaArray, oidInt8}}
	// stCreate puts a record where there must be none.
	stCreate = statement{"keyfold_create", `INSERT INTO keyfold_records (key, value, revision) VALUES ($1, $2, $3)`,
		[]uint32{oidBytea, oidBytea, oidInt8}}
	stCreateAll = statement{"keyfold_create_all", `INSERT INTO keyfold_records (key, value, revision) SELECT k, v, $3 FROM unnest($1, $2) AS r (k, v)`,
		[]uint32{oidByteaArray, oidByteaArray, oidInt8}}
	// stReplace puts a record where there must be one at a revision.
	stReplace = statement{"keyfold_replace", `WITH hit AS (UPDATE keyfold_records SET value = $2, revision = $3 WHERE key = $1 AND revision = $4 RETURNING 1)
		SELECT 1 / count(*) FROM hit`,
		[]uint32{oidBytea, oidBytea, oidInt8, oidInt8}}
	// stRemove deletes a record that must be at a revision.
	stRemove = statement{"keyfold_remove", `WITH hit AS (DELETE FROM keyfold_records WHERE key = $1 AND revision = $2 RETURNING 1)
		SELECT 1 / count(*) FROM hit`,
		[]uint32{oidBytea, oidInt8}}
	// stHold keeps a record at the revision that it must be at.
	stHold = statement{"keyfold_hold", `SELECT 1 / (CASE WHEN (SELECT revision FROM keyfold_records WHERE key = $1 FOR SHARE) = $2 THEN 1 ELSE 0 END)`,
		[]uint32{oidBytea, oidInt8}}
	// stClaim locks keys whether there are records or not, and stReserve some where
	// there must be none. Each leaves rows that stDelete removes.
	stClaim = statement{"keyfold_claim", `INSERT INTO keyfold_records (key, value, revision) SELECT k, '', 0 FROM unnest($1) AS r (k)
		ON CONFLICT (key) DO UPDATE SET revision = excluded.revision`,
		[]uint32{oidByteaArray}}
	stReserve = statement{"keyfold_reserve", `INSERT INTO keyfold_records (key, value, revision) SELECT k, '', 0 FROM unnest($1) AS r (k)`,
		[]uint32{oidByteaArray}}
	stDelete = statement{"keyfold_delete", `DELETE FROM keyfold_records WHERE key = $1`,
		[]uint32{oidBytea}}
)

// takesWrites is a condition of every read: where transactions cannot write, as on a
// standby, it fails the statement, by a text that is no boolean. checkSession is not
// enough: a pooler that was led to another server tells nobody. It is without columns, so
// that it is asked once, and whether there are rows or not; and stable, so that it is in
// plans and not answered by them.
const takesWrites = ` AND CAST(CASE current_setting('transaction_read_only') WHEN 'off' THEN 'true' ELSE 'a standby' END AS boolean)`

// Reads.
var (
	// stRevisions is what a batch of preconditions alone asks.
	stRevisions = statement{"keyfold_revisions", `SELECT key, revision FROM keyfold_records WHERE key = ANY($1)` + takesWrites,
		[]uint32{oidByteaArray}}
	// stGet is what Gets ask that go together.
	stGet = statement{"keyfold_get", `SELECT key, value, revision FROM keyfold_records WHERE key = ANY($1)` + takesWrites,
		[]uint32{oidByteaArray}}
	stUp = statement{"keyfold_up", `SELECT key, value, revision FROM keyfold_records WHERE key >= $1 AND key < $2` + takesWrites + ` ORDER BY key LIMIT $3`,
		[]uint32{oidBytea, oidBytea, oidInt8}}
	stDown = statement{"keyfold_down", `SELECT key, value, revision FROM keyfold_records WHERE key >= $1 AND key < $2` + takesWrites + ` ORDER BY key DESC LIMIT $3`,
		[]uint32{oidBytea, oidBytea, oidInt8}}
	// The two with a bound of bytes return a record while the values before it make
	// less. The database looks at the lengths of all Limit records, but it sends, and
	// fetches from where it keeps large values, only those that it returns.
	stUpBytes = statement{"keyfold_up_bytes", `SELECT key, value, revision FROM (
			SELECT key, value, revision, sum(length(value)) OVER (ORDER BY key ROWS UNBOUNDED PRECEDING) - length(value) AS sofar
			FROM keyfold_records WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3) AS page
		WHERE sofar < $4` + takesWrites + ` ORDER BY key`,
		[]uint32{oidBytea, oidBytea, oidInt8, oidInt8}}
	stDownBytes = statement{"keyfold_down_bytes", `SELECT key, value, revision FROM (
			SELECT key, value, revision, sum(length(value)) OVER (ORDER BY key DESC ROWS UNBOUNDED PRECEDING) - length(value) AS sofar
			FROM keyfold_records WHERE key >= $1 AND key < $2 ORDER BY key DESC LIMIT $3) AS page
		WHERE sofar < $4` + takesWrites + ` ORDER BY key DESC`,
		[]uint32{oidBytea, oidBytea, oidInt8, oidInt8}}
)

// prepared are the statements that a connection is given by name.
var prepared = []*statement{&stPut, &stPutAll, &stCreate, &stCreateAll, &stReplace, &stRemove, &stHold, &stClaim, &stReserve, &stDelete,
	&stRevisions, &stGet, &stUp, &stDown, &stUpBytes, &stDownBytes}

// What a connection and the schema are asked. The schema's version is one row,
// whose lock is that of migrations.
var (
	// stPlans is for connections with prepared statements. A plan that is made while
	// the table is a page long reads all of it, and is kept while the table grows. And a
	// plan for a few keys is taken to be cheaper than one for any number, so that one is
	// made at each call, which costs more than the call.
	stPlans   = statement{sql: `SELECT set_config('enable_seqscan', 'off', false), set_config('plan_cache_mode', 'force_generic_plan', false)`}
	stSession = statement{sql: `SELECT current_setting('transaction_read_only'), current_setting('synchronous_commit'), pg_backend_pid()::text`}

	stSchema     = statement{sql: `SELECT version::text FROM keyfold_schema WHERE id = 1` + takesWrites}
	stSchemaLock = statement{sql: `SELECT version::text FROM keyfold_schema WHERE id = 1 FOR UPDATE`}
	stSchemaSet  = statement{sql: `UPDATE keyfold_schema SET version = $1 WHERE id = 1`, types: []uint32{oidInt8}}
	stSchemaMake = statement{sql: `CREATE TABLE IF NOT EXISTS keyfold_schema (id bigint PRIMARY KEY, version bigint NOT NULL)`}
	stSchemaRow  = statement{sql: `INSERT INTO keyfold_schema (id, version) VALUES (1, 0) ON CONFLICT (id) DO NOTHING`}

	stBegin = statement{sql: `BEGIN`}
	// stSnapshot begins a transaction whose statements all see the moment of the first.
	// It is not READ ONLY: takesWrites would fail everywhere.
	stSnapshot = statement{sql: `BEGIN ISOLATION LEVEL REPEATABLE READ`}
	stCommit   = statement{sql: `COMMIT`}
	stRollback = statement{sql: `ROLLBACK`}
)

// migrations are the steps of the schema: step n leads from version n to n+1.
// Each may be run twice, since not every engine undoes it with its transaction.
var migrations = []statement{
	{sql: `CREATE TABLE IF NOT EXISTS keyfold_records (key bytea PRIMARY KEY, value bytea NOT NULL, revision bigint NOT NULL)`},
}
