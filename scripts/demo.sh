#!/usr/bin/env bash
# The whole promise as one run, as a user would make it with the command line:
# real certificates, an awkward .env file, a 5 MB binary and a conversation of
# 10,000 messages go in under a CMEK key; the server is killed and started again;
# everything comes back byte for byte; nothing of it lies readable in any file of
# the data directory nor in any output; with a wrong key, or with one flipped
# bit, nothing opens, and the answer says so.
#
# It ends at the first thing that is not so, with exit code 1. It needs Linux,
# Go and bash, works in a directory of its own, and removes it.
#
# usage: scripts/demo.sh
# env: KEYFOLD_DEMO_CERTS  directory of files to import (/etc/ssl/certs)
#      KEYFOLD_DEMO_TEXTS  directory of texts for the conversation (/usr/share/common-licenses)
#      KEYFOLD_DEMO_KMS    where the keys are: embedded (the default) or external
#      KEYFOLD_PROGRAMS    the directory of the programs; they are built when this is not set
#      KEYFOLD_DEMO_KEEP   if set, the working directory is kept
set -euo pipefail
umask 077
cd "$(dirname "$0")/.."

if [ "${BASH_VERSINFO[0]}" -lt 5 ]; then
	echo "this script needs bash 5" >&2
	exit 1
fi
certs=${KEYFOLD_DEMO_CERTS:-/etc/ssl/certs}
texts=${KEYFOLD_DEMO_TEXTS:-/usr/share/common-licenses}
messages=10000
binary_size=$((5 * 1024 * 1024))
kms=${KEYFOLD_DEMO_KMS:-embedded}
keep=${KEYFOLD_DEMO_KEEP:-}
programs=${KEYFOLD_PROGRAMS:-}
# Nothing of the caller's own Keyfold may reach into this run.
unset "${!KEYFOLD_@}" "${!ONECLAW_@}" NO_COLOR

work=$(mktemp -d "${TMPDIR:-/tmp}/keyfold-demo.XXXXXX")
bin=${programs:-$work/bin} in=$work/in out=$work/out logs=$work/logs data=$work/data
mkdir -p "$bin" "$in" "$out" "$logs"
server=

# slay ends the server with SIGKILL: it gets no chance to tidy up.
slay() {
	kill -9 "$server" && { wait "$server" || true; } 2>/dev/null
	server=
}

cleanup() {
	local code=$?
	if [ -n "$server" ]; then slay; fi
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

# kf runs the command line and keeps what it says: all of it is searched later.
kf() { "$bin/keyfold" "$@" 2>>"$logs/cli.err" | tee -a "$logs/cli.out"; }

# start DATA [LOG] runs the server and waits until it answers. It returns 1 if
# the server ends before that.
start() {
	rm -f "$1/dev.json"
	"$bin/keyfold" dev --kms "$kms" --data "$1" --addr 127.0.0.1:0 >>"${2:-$logs/server.log}" 2>&1 &
	server=$!
	export KEYFOLD_DATA=$1
	for ((i = 0; i < 2400; i++)); do
		[ ! -s "$1/dev.json" ] || return 0
		if ! kill -0 "$server" 2>/dev/null; then
			wait "$server" || true
			server=
			return 1
		fi
		sleep 0.05
	done
	die "the server does not answer"
}

stop() {
	kill -TERM "$server"
	wait "$server" || die "the server did not stop cleanly"
	server=
}

# refused runs the command line, which must fail with exit code 1, nothing on
# stdout and one error on stderr, and prints that error.
refused() {
	local code=0
	"$bin/keyfold" "$@" >"$work/refused.out" 2>"$work/refused.err" || code=$?
	cat "$work/refused.err" >>"$logs/cli.err"
	[ "$code" = 1 ] || die "exit code $code instead of 1: keyfold $*"
	[ ! -s "$work/refused.out" ] || die "something was written to stdout: keyfold $*"
	[ "$(grep -c '^keyfold: ' "$work/refused.err")" = 1 ] || die "not one clear error: keyfold $*: $(cat "$work/refused.err")"
	grep '^keyfold: ' "$work/refused.err"
}

same() { cmp "$1" "$2" >>"$logs/cmp" 2>&1 || die "${3:-$1} did not come back byte for byte"; }

# --- 0 ---

step "Building"
[ -n "$programs" ] || go build -o "$bin/" ./cmd/... ./scripts/canary ./scripts/flipbyte ./scripts/lines
ok "keyfold, keyfold-kms and three helpers; the key process is $kms"

# --- 1: inputs ---

step "Inputs"
# What the import takes: regular files and links to them, no hidden ones.
find "$certs/" -name '.?*' -prune -o -xtype f -printf '%P\n' | sort >"$in/cert-names"
cert_count=$(wc -l <"$in/cert-names")
[ "$cert_count" -gt 0 ] || die "there is no file in $certs; name another directory in KEYFOLD_DEMO_CERTS"
ok "$cert_count files of $certs"

cat >"$in/.env" <<'ENV'
# An .env file as people write them.
PLAIN=a plain value that nobody has put into any quotes at all
export EXPORTED='exported, as shells want it'

QUOTES="she said \"it's forty-two dollars\" and left"
SINGLE='no \n escape, no $PLAIN, no "end" in single quotes'
MULTI_LINE="the first line of a value of more than one line is long
	the second begins with a tab, and # is no comment
and the last ends without a line break"
PEM_LIKE='-----BEGIN NOTHING-----
c29tZXRoaW5nIHRoYXQgbG9va3MgbGlrZSBhIGtleSBhbmQgaXMgbm9uZSBhdCBh
-----END NOTHING-----
'
UNICODE="ключ 🔑 Ω≈ç√ 日本語 e\u0301"
BLANKS="  two blanks at both ends  "
EMPTY=
EMPTY_QUOTED=""
EQUALS=postgres://user:pa=ss@db.internal/app?sslmode=verify-full&a==
HASH=a#b # and a comment
DOLLAR=pa$$word$9
EXPANDED="${UNICODE}/$EMPTY$EXPORTED"
ESCAPES="tab:\t newline:\n backslash:\\ unknown:\q"
ENV
mkdir "$in/env"
env_value() { printf %s "$2" >"$in/env/$1"; }
env_value PLAIN 'a plain value that nobody has put into any quotes at all'
env_value EXPORTED 'exported, as shells want it'
env_value QUOTES "she said \"it's forty-two dollars\" and left"
env_value SINGLE 'no \n escape, no $PLAIN, no "end" in single quotes'
env_value MULTI_LINE $'the first line of a value of more than one line is long\n\tthe second begins with a tab, and # is no comment\nand the last ends without a line break'
env_value PEM_LIKE $'-----BEGIN NOTHING-----\nc29tZXRoaW5nIHRoYXQgbG9va3MgbGlrZSBhIGtleSBhbmQgaXMgbm9uZSBhdCBh\n-----END NOTHING-----\n'
env_value UNICODE 'ключ 🔑 Ω≈ç√ 日本語 e\u0301'
env_value BLANKS '  two blanks at both ends  '
env_value EMPTY ''
env_value EMPTY_QUOTED ''
env_value EQUALS 'postgres://user:pa=ss@db.internal/app?sslmode=verify-full&a=='
env_value HASH 'a#b'
env_value DOLLAR 'pa$$word$9'
env_value EXPANDED 'ключ 🔑 Ω≈ç√ 日本語 e\u0301/exported, as shells want it'
env_value ESCAPES $'tab:\t newline:\n backslash:\\ unknown:\\q'
env_count=$(find "$in/env" -type f | wc -l)
ok "an .env file of $env_count variables: quotes, several lines, unicode, empty"

head -c "$binary_size" /dev/urandom >"$in/binary"
ok "$binary_size random bytes"

# The texts once, and again under a prefix, until there are enough lines.
find -L "$texts" -type f | sort | xargs cat >"$in/text" || die "there is no text in $texts; name another directory in KEYFOLD_DEMO_TEXTS"
[ -s "$in/text" ] || die "the texts in $texts are empty"
awk -v want="$messages" '{ line[NR] = $0 }
	END { for (i = 0; i < want; i++) { round = int(i / NR); print (round ? "round " round + 1 ": " : "") line[i % NR + 1] } }' \
	"$in/text" >"$in/lines"
"$bin/lines" encode <"$in/lines" >"$in/messages.jsonl"
ok "a conversation of $messages messages from the $(wc -l <"$in/text") lines of $texts"

{
	sed "s|^|$certs/|" "$in/cert-names" | tr '\n' '\0' | xargs -0 "$bin/canary" pick -kind pem -n 8
	"$bin/canary" pick -kind text -n 6 "$in/text"
	"$bin/canary" pick -kind text -n 2 "$in"/env/*
	"$bin/canary" pick -kind binary -n 4 "$in/binary"
} >"$in/canaries" || die "the inputs hold too few distinctive lines"
ok "$(wc -l <"$in/canaries") canaries taken from them"

# --- 2: in ---

step "Everything goes in"
start "$data" || die "the server does not start"
ok "a server on a fresh data directory"
vault=$(kf vault create demo)
export KEYFOLD_VAULT=$vault
kf cmek keygen --out "$work/customer.key" >/dev/null
export KEYFOLD_CMEK_KEY_FILE=$work/customer.key
kf cmek enable >/dev/null
ok "vault $vault, sealed by a key that stays here"
kf secret import --dir "$certs" --prefix certs >"$work/import.certs"
ok "secret import --dir $certs: $(tail -n 1 "$work/import.certs")"
kf secret import --env-file "$in/.env" --prefix env >"$work/import.env"
ok "secret import --env-file: $(tail -n 1 "$work/import.env")"
kf secret put big/binary --file "$in/binary" --type file >/dev/null
ok "secret put --file, $binary_size bytes"
thread=$(kf thread create --title "A long conversation")
kf message import "$thread" --file "$in/messages.jsonl" >"$work/import.messages"
ok "message import: $(tail -n 1 "$work/import.messages")"
neighbour=$(kf thread create --title "Another conversation")
kf message post "$neighbour" --body "a short message" >/dev/null

# --- 3: kill ---

step "The server is killed"
slay
cp -R "$data" "$work/killed"
start "$data" || die "the server does not start after kill -9"
ok "kill -9, and started again on the same data"

# --- 4: out ---

# fetch gets every path of stdin into a directory, four at a time. Those that
# fail leave no file.
fetch() {
	mkdir -p "$1"
	tee "$work/fetching" | sed 's|[^/]*$||' | sort -u | (cd "$1" && xargs mkdir -p)
	xargs -P 4 -I '{}' "$bin/keyfold" secret get '{}' --out "$1/{}" <"$work/fetching" >>"$logs/cli.out" 2>>"$logs/cli.err"
}

# compare_secrets compares all files that fetch wrote with the inputs.
compare_secrets() {
	local path name
	while IFS=$'\t' read -r path name; do same_if_there "$certs/$name" "$path"; done <"$work/certs"
	while IFS=$'\t' read -r path name; do same_if_there "$in/env/$name" "$path"; done <"$work/env"
	same_if_there "$in/binary" big/binary
}
same_if_there() { if [ -e "$out/all/$2" ]; then same "$1" "$out/all/$2" "$2"; fi; }

# names lists what an import made: the secret's path, a tab, the name it had.
names() { kf secret list "$KEYFOLD_VAULT" "$1/" --json | "$bin/lines" names "$2"; }

export_thread() { "$bin/keyfold" message export --newest "$thread" >"$1" 2>>"$logs/cli.err"; }

step "Everything comes back, byte for byte"
names certs file >"$work/certs"
names env env >"$work/env"
# Of two files whose names become one path the import takes the first and says so.
skipped=$(grep -c '^skipped ' "$work/import.certs" || true)
[ $(($(wc -l <"$work/certs") + skipped)) = "$cert_count" ] || die "$(wc -l <"$work/certs") of $cert_count files are there, $skipped were skipped"
[ "$(wc -l <"$work/env")" = "$env_count" ] || die "not every variable is there"
{ cut -f 1 "$work/certs" "$work/env" && echo big/binary; } >"$work/paths"
fetch "$out/all" <"$work/paths" || die "a secret cannot be read"
[ "$(find "$out/all" -type f | wc -l)" = "$(wc -l <"$work/paths")" ] || die "not every secret was written"
compare_secrets
ok "$(wc -l <"$work/certs") files of $certs ($skipped skipped at the import)"
ok "$env_count variables of the .env file"
ok "the binary, $binary_size bytes"
export_thread "$out/export.jsonl"
"$bin/lines" decode <"$out/export.jsonl" >"$out/lines"
same "$in/lines" "$out/lines" "the conversation"
ok "$(wc -l <"$out/lines") messages, in order"

# --- 5: wrong key ---

step "With a wrong CMEK key nothing opens"
# A blob straight from the server, past the client's own look at the fingerprint.
# blob PATH prints the value as the server answers it.
blob() {
	local url key line
	url=$(sed -n 's/.*"url": *"http:\/\/\([^"]*\)".*/\1/p' "$KEYFOLD_DATA/dev.json")
	key=$(sed -n 's/.*"api_key": *"\([^"]*\)".*/\1/p' "$KEYFOLD_DATA/dev.json")
	exec 3<>"/dev/tcp/${url%:*}/${url##*:}"
	printf 'GET /v1/vaults/%s/secrets/%s HTTP/1.0\r\nAuthorization: Bearer %s\r\n\r\n' "$KEYFOLD_VAULT" "$1" "$key" >&3
	sed -n 's/.*"value": *"\([^"]*\)".*/\1/p' <&3
	exec 3<&-
}
blob "env/QUOTES" >"$work/blob"
"$bin/keyfold" cmek decrypt <"$work/blob" >"$out/decrypted" 2>>"$logs/cli.err" || die "the right key does not open what the server answers"
same "$in/env/QUOTES" "$out/decrypted" "a blob as the server answers it"
ok "the server answers a blob of $(($(wc -c <"$work/blob") - 1)) characters; the right key opens it here"

kf cmek keygen --out "$work/wrong.key" >/dev/null
export KEYFOLD_CMEK_KEY_FILE=$work/wrong.key
{ awk -v n="$(wc -l <"$work/certs")" 'NR % int(n / 20 + 1) == 0' "$work/certs" && cat "$work/env" && echo big/binary; } | cut -f 1 >"$work/sample"
while read -r path; do refused secret get "$path" >"$work/error"; done <"$work/sample"
ok "$(wc -l <"$work/sample") secrets: exit 1, no output, one error: $(cat "$work/error")"
refused cmek decrypt <"$work/blob" >"$work/error"
ok "the blob itself: $(cat "$work/error")"
unset KEYFOLD_CMEK_KEY_FILE
refused secret get env/QUOTES >"$work/error"
ok "without a key: $(cat "$work/error")"
ok "messages are sealed by the server alone: a CMEK key is not what opens them, and is not tried"
export KEYFOLD_CMEK_KEY_FILE=$work/customer.key

# --- 6: canaries ---

step "Nothing of it lies readable anywhere"
stop
cp -R "$data" "$work/searched" # looking into the records opens the stores
canary() { "$bin/canary" search -canaries "$in/canaries" "$@"; }
{
	sed "s|^|$certs/|" "$in/cert-names" | tr '\n' '\0' | xargs -0 cat
	cat "$in/text" "$in"/env/* "$in/binary"
} >"$work/inputs"
control=$(canary -all "$work/inputs") || die "the search does not find what is there: $control"
ok "the search can find: in the inputs, $control"
base64 <"$work/inputs" | tr -d '\n' >"$work/inputs.base64"
od -An -v -tx1 <"$work/inputs" | tr -d ' \n' >"$work/inputs.hex"
control=$(canary -all "$work/inputs.base64") || die "the search does not find base64: $control"
control=$(canary -all "$work/inputs.hex") || die "the search does not find hex: $control"
"$bin/canary" plant -store "$work/planted" "$work/inputs"
control=$(canary -all -store "$work/planted") || die "the search does not find records of a store: $control"
ok "and in their base64 and hex, and in a store that holds them in the open"
found=$(canary -store "$work/searched/server" -store "$work/searched/kms" "$data" "$logs" "$work"/import.*) || die "$found"
ok "in the data directory, its records and all output: $found"

# --- 7: one flipped bit ---

step "With one flipped bit nothing opens, and one error says so"
IFS=$'\t' read -r victim victim_name < <(sed -n 1p "$work/certs")
IFS=$'\t' read -r bystander bystander_name < <(sed -n 2p "$work/certs")
flipped=$work/flipped

# damage DATA ARGUMENTS... makes a copy of DATA and flips a bit in it. The
# arguments are flipbyte's, run in the copy.
damage() {
	rm -rf "$flipped"
	cp -R "$1" "$flipped"
	(cd "$flipped" && shift && "$bin/flipbyte" "$@") >>"$logs/flipbyte" 2>&1 || die "nothing was flipped: $*"
}

opens() {
	kf secret get "$1" --out "$out/opened" >/dev/null || die "$1 does not open, though it was not touched"
	same "$2" "$out/opened" "$1"
}
neighbour_opens() { kf message list "$neighbour" --json | grep '"a short message"' >/dev/null || die "another thread does not open"; }

# read_thread exports the thread. An export writes as it reads: what it wrote
# must be true, also if it fails; then it must be for one clear error.
read_thread() {
	local code=0
	"$bin/keyfold" message export --newest "$thread" >"$work/read.out" 2>"$work/read.err" || code=$?
	cat "$work/read.err" >>"$logs/cli.err"
	cmp -s -n "$(wc -c <"$work/read.out")" "$work/read.out" "$out/export.jsonl" || die "an export wrote what was not posted"
	if [ "$code" = 0 ]; then
		cmp -s "$work/read.out" "$out/export.jsonl" || die "an export left messages out without a word"
		return 0
	fi
	[ "$code" = 1 ] || die "exit code $code instead of 1: message export"
	[ "$(grep -c '^keyfold: ' "$work/read.err")" = 1 ] || die "not one clear error: $(cat "$work/read.err")"
	grep '^keyfold: ' "$work/read.err"
	return 1
}

for part in version-ciphertext version-dek; do
	damage "$data" -store server -row "$part" -match ":$victim:"
	start "$flipped" || die "the server does not start"
	refused secret get "$victim" >"$work/error"
	opens "$bystander" "$certs/$bystander_name"
	names certs file | cmp -s - "$work/certs" || die "the list has changed"
	stop
	ok "a secret, its ${part#version-}: $(cat "$work/error")"
done

# One from the middle, so that there are true messages before it.
message=$(sed -n "$((messages / 2))s/^{\"id\":\"\([^\"]*\)\".*/\1/p" "$out/export.jsonl")
damage "$data" -store server -row message -match "thread:$thread:msg:$message"
start "$flipped" || die "the server does not start"
if read_thread >"$work/error"; then die "a damaged thread is read in full"; fi
neighbour_opens
opens "$victim" "$certs/$victim_name"
stop
ok "a message: $(cat "$work/error")"

damage "$data" -store kms -row thread-dek -match "$thread"
start "$flipped" || die "the server does not start"
if read_thread >"$work/error"; then die "a thread without its DEK is read in full"; fi
[ ! -s "$work/read.out" ] || die "a message opened without the thread's DEK"
neighbour_opens
opens "$victim" "$certs/$victim_name"
stop
ok "the DEK of a thread, in the key store: $(cat "$work/error")"

# starts_or_says starts the server on damaged files. If it refuses, it must say
# why in one error.
starts_or_says() {
	: >"$work/start.log"
	if start "$flipped" "$work/start.log"; then return 0; fi
	[ "$(grep -c '^keyfold: ' "$work/start.log")" = 1 ] || die "the server neither starts nor says why: $(cat "$work/start.log")"
	grep '^keyfold: ' "$work/start.log"
	return 1
}

# The newest log of the killed server, which the next start reads: commits that
# were acknowledged come after the damage, so it must not pass for the log's end.
newest=$(cd "$work/killed" && ls server/*.log | tail -n 1)
damage "$work/killed" -file "$newest"
if starts_or_says >"$work/error"; then die "the server starts on a damaged log"; fi
ok "a byte of the log on disk: $(cat "$work/error")"

# The newest table of the stopped server.
damage "$data" -file "$(cd "$data" && ls server/*.sst | tail -n 1)"
if starts_or_says >"$work/error"; then
	rm -rf "$out/all"
	fetch "$out/all" <"$work/paths" || true
	compare_secrets
	: >"$work/lost"
	while read -r path; do
		[ -e "$out/all/$path" ] || { refused secret get "$path" && echo >>"$work/lost"; }
	done <"$work/paths" >"$work/error"
	if read_thread >>"$work/error"; then thread_read="and every message"; else thread_read="not the whole conversation"; fi
	[ -s "$work/error" ] || die "a damaged table is read as if nothing were"
	stop
	ok "a byte of a table on disk: $(($(wc -l <"$work/paths") - $(wc -l <"$work/lost"))) secrets open, $thread_read; all that opens is true. $(tail -n 1 "$work/error")"
else
	ok "a byte of a table on disk: $(cat "$work/error")"
fi

step "It is all as promised."
