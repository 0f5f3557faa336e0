#!/usr/bin/env bash
# The drill of docs/operations.md: a server and a key process, each in a directory of
# its own, are filled, backed up in the right order, and destroyed; then everything is
# restored and opened again, byte for byte. After it what goes wrong when something is
# missing, or from another time: a lost root key, another's root key, a key store that is
# older than the server's store, one that is another's, and a server's store that is
# older than the keys. Each is found, and named, or harmless.
#
# It ends at the first thing that is not so, with exit code 1. It needs Linux, Go and
# bash, works in a directory of its own, and removes it.
#
# usage: scripts/drill.sh
# env: KEYFOLD_DRILL_POSTGRES  if set, both stores are databases of this server, such as
#                              postgres://postgres@127.0.0.1:5432, which the drill makes and drops:
#                              keyfold_drill and keyfold_drill_keys. They are on the disk otherwise
#      KEYFOLD_PROGRAMS        the directory of the programs; they are built when this is not set
#      KEYFOLD_DRILL_KEEP      if set, the working directory is kept
set -Eeuo pipefail
umask 077
cd "$(dirname "$0")/.."

if [ "${BASH_VERSINFO[0]}" -lt 5 ]; then
	echo "this script needs bash 5" >&2
	exit 1
fi
keep=${KEYFOLD_DRILL_KEEP:-}
postgres=${KEYFOLD_DRILL_POSTGRES:-}
programs=${KEYFOLD_PROGRAMS:-}
# Nothing of the caller's own Keyfold may reach into this run.
unset "${!KEYFOLD_@}" "${!ONECLAW_@}" NO_COLOR

work=$(mktemp -d "${TMPDIR:-/tmp}/keyfold-drill.XXXXXX")
bin=${programs:-$work/bin} live=$work/live backups=$work/backups out=$work/out logs=$work/logs
mkdir -p "$bin" "$live" "$backups" "$out" "$logs"
export KEYFOLD_CONFIG_DIR=$work/signin
keys=''
server=''

# slay ends a process with SIGKILL: it gets no chance to tidy up.
slay() {
	if [ -n "$1" ]; then kill -9 "$1" && { wait "$1" || true; } fi 2>/dev/null
}

cleanup() {
	local code=$?
	slay "$server"
	slay "$keys"
	if [ -n "$keep" ]; then echo "kept: $work"; else rm -rf "$work"; fi
	exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# --- telling ---

begin=$EPOCHREALTIME
elapsed() { local us=$((${EPOCHREALTIME/[.,]/} - ${begin/[.,]/})); printf '%3d.%01ds' $((us / 1000000)) $((us / 100000 % 10)); }
step() { printf '\n%s  %s\n' "$(elapsed)" "$*"; }
ok() { printf '%s  \xe2\x9c\x93 %s\n' "$(elapsed)" "$*"; }
die() {
	printf '%s  \xe2\x9c\x97 %s\n' "$(elapsed)" "$*" >&2
	for f in "$logs"/*; do
		if [ -s "$f" ]; then printf -- '--- the end of %s\n' "${f##*/}" && tail -n 15 "$f"; fi
	done >&2
	exit 1
}
trap 'die "this failed: $BASH_COMMAND"' ERR

# --- running ---

kf() { "$bin/keyfold" "$@" 2>>"$logs/cli.err"; }
kms() { "$bin/keyfold-kms" "$@" "${keystore[@]}" 2>>"$logs/cli.err"; }

# Where the keys are: beside what else is in the directory, or in a database.
keystore=(--data-dir "$live/keys/kms")
if [ -n "$postgres" ]; then keystore+=(--store "$postgres/keyfold_drill_keys?sslmode=disable"); fi

sql() { PGOPTIONS='-c client_min_messages=warning' psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 -d "$postgres/postgres" -c "$1" >>"$logs/cli.out"; }

# fresh_databases makes both databases anew, without anything in them.
fresh_databases() {
	for name in keyfold_drill keyfold_drill_keys; do
		sql "DROP DATABASE IF EXISTS $name WITH (FORCE)"
		sql "CREATE DATABASE $name"
	done
}

# until_there FILE PATTERN PID waits for a line in FILE. It returns 1 if the process ends before that.
until_there() {
	for ((i = 0; i < 2400; i++)); do
		if grep -q "$2" "$1"; then return 0; fi
		kill -0 "$3" 2>/dev/null || return 1
		sleep 0.05
	done
	die "no $2 in $1"
}

start_keys() {
	: >"$logs/keys"
	"$bin/keyfold-kms" serve "${keystore[@]}" >>"$logs/keys" 2>&1 &
	keys=$!
	until_there "$logs/keys" 'listens on' "$keys" || { wait "$keys" || true; keys=''; return 1; }
}

start_server() {
	: >"$logs/server"
	KEYFOLD_ADDR=127.0.0.1:0 "$bin/keyfold" server --config "$work/server.yaml" >>"$logs/server" 2>&1 &
	server=$!
	until_there "$logs/server" 'listens on' "$server" || { wait "$server" || true; server=''; return 1; }
	KEYFOLD_URL=$(sed -n 's/^keyfold listens on //p' "$logs/server")
	export KEYFOLD_URL
}

stop_server() { kill -TERM "$server" && wait "$server"; server=''; }
stop_keys() { kill -TERM "$keys" && wait "$keys"; keys=''; }

# destroy ends both at once and leaves nothing of them.
destroy() {
	slay "$server"
	slay "$keys"
	server=''
	keys=''
	rm -rf "$live"
	mkdir "$live"
	if [ -n "$postgres" ]; then fresh_databases; fi
}

# refused COMMAND... must fail with exit code 1 and say why, and prints that.
refused() {
	local code=0
	"$@" >"$work/refused.out" 2>"$work/refused.err" || code=$?
	[ "$code" = 1 ] || die "exit code $code instead of 1: $*"
	grep '^keyfold' "$work/refused.err" | head -n 1
}

# fill N writes the vault and the thread number N and remembers what went in.
fill() {
	local vault thread i
	vault=$(kf vault create "vault $1")
	thread=$(kf thread create --title "thread $1")
	mkdir -p "$out/in/$1"
	for i in 1 2 3 4 5; do
		head -c 2000 /dev/urandom >"$out/in/$1/secret$i"
		KEYFOLD_VAULT=$vault kf secret put "s/$i" --type file --file "$out/in/$1/secret$i" >/dev/null
		kf message post "$thread" --body "message $i of thread $1" >/dev/null
	done
	kf message export --newest "$thread" >"$out/in/$1/messages"
	printf '%s %s\n' "$vault" "$thread" >"$out/in/$1/ids"
}

# opens N is 0 when all of number N comes back byte for byte.
opens() {
	local vault thread i
	read -r vault thread <"$out/in/$1/ids"
	for i in 1 2 3 4 5; do
		rm -f "$out/secret"
		KEYFOLD_VAULT=$vault kf secret get "s/$i" --out "$out/secret" >/dev/null || return 1
		cmp "$out/in/$1/secret$i" "$out/secret" || return 1
	done
	kf message export --newest "$thread" >"$out/messages" || return 1
	cmp "$out/in/$1/messages" "$out/messages"
}

all_open() { for n in "$@"; do opens "$n" || die "number $n does not come back byte for byte"; done; }

# backup_server NAME copies a server's store: a directory must not be open meanwhile.
backup_server() {
	if [ -n "$postgres" ]; then
		pg_dump --format=custom --file "$backups/server.$1" "$postgres/keyfold_drill"
		return
	fi
	stop_server
	cp -a "$live/server" "$backups/server.$1"
	start_server
}

# restore_server and restore_keys put back what NAME has.
restore_server() {
	if [ -n "$postgres" ]; then
		pg_restore --no-owner --exit-on-error -d "$postgres/keyfold_drill" "$backups/server.$1"
	else
		cp -a "$backups/server.$1" "$live/server"
	fi
}
restore_keys() {
	mkdir "$live/keys"
	cp -p "$backups/root.key" "$live/keys/root.key"
	kms restore --in "$backups/keys.$1" --verify-all >"$out/restored"
}

# --- the drill ---

step "Building, and a first start"
[ -n "$programs" ] || go build -o "$bin/" ./cmd/...
if [ -n "$postgres" ]; then fresh_databases; fi
mkdir "$live/keys"
kms init >/dev/null
cp -p "$live/keys/root.key" "$backups/root.key"
start_keys
cat >"$work/server.yaml" <<YAML
data: $live/server
public_url: http://localhost:7420
kms:
  url: unix://$live/keys/kms.sock
YAML
if [ -n "$postgres" ]; then echo "store: $postgres/keyfold_drill?sslmode=disable" >>"$work/server.yaml"; fi
echo 'Drill 7-2-9 horse' >"$work/password"
KEYFOLD_PASSWORD_FILE=$work/password kf server init --config "$work/server.yaml" --email drill@example.com --key-out "$work/admin.key" >/dev/null
start_server
kf login --url "$KEYFOLD_URL" --email drill@example.com <"$work/password" >/dev/null
kf key create drill --key-out "$work/api.key" >/dev/null
KEYFOLD_API_KEY=$(<"$work/api.key")
export KEYFOLD_API_KEY
admin() { KEYFOLD_API_KEY=$(<"$work/admin.key") kf admin "$@"; }
ok "the root key's copy lies apart, before there is anything to lose"

step "Filling, and backing up: the server's store first, then the keys"
kms backup --out "$backups/keys.empty" >/dev/null
fill 1
backup_server first
fill 2
admin rotate-kek --all >/dev/null
fill 3
kms backup --out "$backups/keys.first" >/dev/null
ok "$(kms keys | wc -l) lines of keys; a rotation lies between the two backups"
fill 4
backup_server second
kms backup --out "$backups/keys.second" >/dev/null
all_open 1 2 3 4
cp -a "$live/keys/kms.audit" "$backups/audit"
ok "two backups of each"

step "Everything is lost, and restored"
destroy
restore_keys second
ok "$(<"$out/restored")"
cp -a "$backups/audit" "$live/keys/kms.audit"
restore_server second
start_keys
found=$("$bin/keyfold" server check --config "$work/server.yaml")
[ "$found" = "nothing is wrong" ] || die "server check: $found"
start_server
all_open 1 2 3 4
ok "server check finds nothing; 20 secrets and 20 messages, byte for byte"
"$bin/keyfold-kms" audit verify --dir "$live/keys/kms.audit" --public-key "$(kms audit key)" >"$out/audit" || die "the audit does not verify"
ok "the key process's audit verifies, over the restore"
fill 5
all_open 5
ok "and it goes on: new vaults, threads, secrets, messages"

step "A root key that is lost, or another's"
stop_server
stop_keys
rm "$live/keys/root.key"
said=$(refused "$bin/keyfold-kms" serve "${keystore[@]}")
[[ $said == *"no root key file"* ]] || die "without a root key: $said"
ok "without: $said"
"$bin/keyfold-kms" init --data-dir "$work/other/kms" >/dev/null 2>>"$logs/cli.err"
cp -p "$work/other/root.key" "$live/keys/root.key"
said=$(refused "$bin/keyfold-kms" serve "${keystore[@]}")
[[ $said == *"root key does not open"* ]] || die "with another root key: $said"
ok "with another's: $said"
said=$(refused "$bin/keyfold-kms" restore --in "$backups/keys.second" --data-dir "$work/nowhere/kms" --root "file:$work/other/root.key")
[[ $said == *"nothing was restored"* ]] || die "a restore with another root key: $said"
ok "a restore with another's: $said"
cp -p "$backups/root.key" "$live/keys/root.key"
start_keys
start_server
all_open 1 5
ok "with its copy everything opens"

step "A server's store that is older than the keys"
destroy
restore_keys second
restore_server first
start_keys
start_server
all_open 1
ok "all that it has opens; what was written after it is not there"
admin rewrap --all >/dev/null
all_open 1
ok "admin rewrap --all brings it under the present KEKs, before anybody destroys an old one"

step "Keys that are older than the server's store"
destroy
restore_keys empty
restore_server second
start_keys
if start_server; then
	if opens 1; then die "number 1 opens without its keys"; fi
	said=$(tail -n 1 "$logs/cli.err")
else
	said=$(tail -n 1 "$logs/server")
fi
ok "it does not open, and says: $said"
destroy
restore_keys first
restore_server second
start_keys
start_server
all_open 1 2 3
if opens 4; then die "number 4 opens without its keys"; fi
ok "what both have opens; of what is newer than the keys: $(grep '^keyfold:' "$logs/cli.err" | tail -n 1)"
read -r vault _ <"$out/in/4/ids"
said=$(KEYFOLD_API_KEY=$(<"$work/admin.key") refused "$bin/keyfold" admin rewrap --all)
[[ $said == *"$vault"* ]] || die "admin rewrap --all does not name the vault $vault: $said"
ok "admin rewrap --all names what has lost its keys: $said"

step "Another's keys"
destroy
cp -a "$work/other" "$live/keys"
own=("${keystore[@]}")
keystore=(--data-dir "$live/keys/kms")
restore_server second
start_keys
refused "$bin/keyfold" server check --config "$work/server.yaml" >/dev/null
found=$(grep '^error: ' "$work/refused.out") || die "server check finds nothing with another's keys"
[[ $found == "error: store: "*"has not the keys to this server's data"* ]] || die "server check, with another's keys: $found"
ok "server check: $found"
if start_server; then
	if opens 1; then die "number 1 opens with another's keys"; fi
	said=$(grep '^keyfold:' "$logs/cli.err" | tail -n 1)
else
	said=$(tail -n 1 "$logs/server")
fi
[[ $said == *"has not the keys to this server's data"* ]] || die "with another's keys: $said"
ok "$said"
keystore=("${own[@]}")
destroy
restore_keys second
restore_server second
start_keys
start_server
all_open 1 2 3 4
ok "with its own keys everything opens"

if [ -n "$postgres" ]; then
	stop_server
	stop_keys
	fresh_databases
	sql "DROP DATABASE keyfold_drill"
	sql "DROP DATABASE keyfold_drill_keys"
fi
printf '\n%s  The drill is done: nothing that was backed up in order is lost.\n' "$(elapsed)"
