#!/usr/bin/env bash
# Builds the TypeScript SDK and runs its tests: in Node, against a server of this
# tree, with the keyfold program, and in a headless Chromium. It installs what
# they need and this machine lacks (npm's packages by the lock file; as root on
# Debian also nodejs, npm and chromium), says plainly what it must skip, and
# under CI=true skips nothing.
#
# usage: scripts/sdk.sh
# env: KEYFOLD_BIN, KEYFOLD_KMS_BIN  the two programs; they are built when these are not set
set -euo pipefail
cd "$(dirname "$0")/../sdk/typescript"

# skip says what is skipped and why; under CI=true it fails.
skip() {
	echo "sdk: skipped: $1" >&2
	[ "${CI:-}" != true ] || exit 1
}

have() { command -v "$1" >/dev/null; }

# install tries to get Debian packages, quietly.
install() {
	[ "$(id -u)" = 0 ] && have apt-get || return 1
	echo "sdk: installing $*"
	apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@" >/dev/null
}

{ have node && have npm; } || install nodejs npm || { skip "all of it: no Node here (Debian: apt-get install nodejs npm)"; exit 0; }
if ! cmp -s package-lock.json node_modules/.installed; then
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error || { skip "all of it: npm cannot install package-lock.json's packages"; exit 0; }
	cp package-lock.json node_modules/.installed
fi
rm -rf dist build/test
npm run --silent build
npm run --silent build:tests
tests=(build/test/node/*.test.js)
have "${CHROMIUM:-chromium}" || install chromium || {
	skip "the tests in a browser: no chromium here (Debian: apt-get install chromium)"
	tests=($(printf '%s\n' "${tests[@]}" | grep -v /browser))
}
if [ -z "${KEYFOLD_BIN:-}" ] || [ -z "${KEYFOLD_KMS_BIN:-}" ]; then
	export KEYFOLD_BIN=$PWD/build/bin/keyfold KEYFOLD_KMS_BIN=$PWD/build/bin/keyfold-kms
	(cd ../.. && "${GO:-go}" build -o sdk/typescript/build/bin/ ./cmd/...)
fi
unset NODE_OPTIONS
node --test "${tests[@]}" >build/test.log 2>&1 || {
	grep -E '^ *not ok|^ *error:|^ {4,}at |^# (tests|pass|fail)' build/test.log >&2 || cat build/test.log >&2
	echo "sdk: failed; all of it is in sdk/typescript/build/test.log" >&2
	exit 1
}
grep -E '^# (tests|pass|fail|skipped)' build/test.log | tr '\n' ' ' | sed 's/^/sdk: /; s/# //g'
echo
