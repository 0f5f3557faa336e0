#!/usr/bin/env bash
# Checks the dashboard: its types, that the build in web/dist is of this source,
# how much a first load takes, and, in a headless Chromium against a server of
# this tree, every flow. It installs what that needs and this machine lacks (npm's
# packages by the lock files; as root on Debian also nodejs, npm and chromium), says
# plainly what it must skip, and under CI=true skips nothing.
#
# usage: scripts/web.sh                  check and test
#        scripts/web.sh test NAME...     check, and of web/ui/test/*.test.ts these only
#        scripts/web.sh build            build web/dist
#        scripts/web.sh images           write docs/images
#        scripts/web.sh speed            measure how soon a page can be used
# env: KEYFOLD_BIN    the program; it is built when this is not set
#      CHROMIUM       the browser; /usr/bin/chromium when this is not set
#      KEYFOLD_SHOTS  a directory for images of what the tests look at
set -euo pipefail
cd "$(dirname "$0")/../web/ui"
self=../../scripts/web.sh
what=${1:-test}
shift || true

# skip says what is skipped and why; under CI=true it fails.
skip() {
	echo "web: skipped: $1" >&2
	[ "${CI:-}" != true ] || exit 1
}

have() { command -v "$1" >/dev/null; }

# install tries to get Debian packages, quietly.
install() {
	[ "$(id -u)" = 0 ] && have apt-get || return 1
	echo "web: installing $*"
	apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@" >/dev/null
}

# packages installs what a lock file names into its directory.
packages() (
	cd "$1"
	cmp -s package-lock.json node_modules/.installed && exit
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && cp package-lock.json node_modules/.installed
)

# without ends the script: there is nothing that can be done. What was asked for by name has then failed.
without() {
	[ "$what" = test ] || { echo "web: not done: $1" >&2; exit 1; }
	skip "$1"
	exit 0
}

# run runs a command in a process group of its own, which ends when this script does, however that is ended.
run() {
	set -m
	KEYFOLD_RUNNER=$$ "$@" &
	group=$!
	set +m
	wait "$group"
}

# end leaves no process and no file of a run behind.
end() {
	if [ -n "${group:-}" ] && kill -- "-$group" 2>/dev/null; then
		for _ in {1..50}; do kill -0 -- "-$group" 2>/dev/null && sleep 0.1 || break; done
		kill -KILL -- "-$group" 2>/dev/null || true
	fi
	[ -z "${scratch:-}" ] || rm -rf "$scratch" || { sleep 1 && rm -rf "$scratch"; } # a browser that was just killed writes to its end
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

case $what in test | build | images | speed) ;; *) sed -n '/^# usage/,/^# env/{/^# env/d;s/^# //;p}' $self >&2; exit 2 ;; esac
{ have node && have npm; } || install nodejs npm || without "all of it: no Node here (Debian: apt-get install nodejs npm)"
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' || without "all of it: Node $(node --version) is older than 20.19"
packages ../../sdk/typescript && packages . || without "all of it: npm cannot install package-lock.json's packages"
unset NODE_OPTIONS NODE_ENV
PATH=$PWD/node_modules/.bin:$PATH
npm --prefix ../../sdk/typescript run --silent types

if [ "$what" = build ]; then
	vite build --logLevel error
	exit
fi

rm -rf build
tsc -p tsconfig.json
tsc -p test/tsconfig.json
vite build --logLevel error --outDir build/dist
diff -r build/dist ../dist || { echo "web: web/dist is not a build of web/ui and sdk/typescript; run: make web" >&2; exit 1; }
node scripts/size.mjs build/dist

[ -x "${CHROMIUM:=/usr/bin/chromium}" ] || install chromium || without "the tests in a browser: no chromium here (Debian: apt-get install chromium)"
export CHROMIUM
if [ -z "${KEYFOLD_BIN:-}" ]; then
	export KEYFOLD_BIN=$PWD/build/bin/keyfold
	(cd ../.. && "${GO:-go}" build -o web/ui/build/bin/ ./cmd/keyfold)
fi
scratch=$(mktemp -d)
export TMPDIR=$scratch

if [ "$what" != test ]; then
	run node "build/test/$what.js"
	exit
fi
tests=()
[ $# != 0 ] || set -- '*'
for name; do tests+=(build/test/$name.test.js); done
parallel=$(node -p 'Math.max(2, require("os").availableParallelism())') # node's own is one less, which leaves one of two cores idle
run node --test --test-reporter=tap --test-concurrency="$parallel" --test-timeout=1200000 "${tests[@]}" >build/test.log 2>&1 || {
	awk '/^ *not ok/ { shown = 1 } shown || /^# (tests|pass|fail)/; /^ *\.\.\.$/ { shown = 0 }' build/test.log >&2 || cat build/test.log >&2
	echo "web: failed; all of it is in web/ui/build/test.log" >&2
	exit 1
}
grep -E '^# (tests|pass|fail|skipped)' build/test.log | tr '\n' ' ' | sed 's/^/web: /; s/# //g'
echo
