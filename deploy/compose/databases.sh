#!/usr/bin/env bash
# Makes the two databases and their users when the database cluster is made: run by
# the PostgreSQL image, in its shell. A user enters its own database alone.
set -euo pipefail

secrets=${KEYFOLD_SECRETS:-/run/secrets}

# database NAME FILE makes NAME, whose user's password is in FILE.
database() {
	# psql takes the output of a cat that failed for an empty password.
	grep -qs . "$2" || {
		echo "databases.sh: $(id -un) cannot read $2, or it is empty; make it that user's own" >&2
		exit 1
	}
	psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet --username "${POSTGRES_USER:-postgres}" --dbname postgres <<-SQL
		\\set password \`cat '$2'\`
		CREATE ROLE $1 LOGIN PASSWORD :'password';
		CREATE DATABASE $1 OWNER $1;
		REVOKE ALL ON DATABASE $1 FROM PUBLIC;
	SQL
}

database keyfold "$secrets/server_db_password"
database keyfold_kms "$secrets/kms_db_password"
