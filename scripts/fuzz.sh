#!/usr/bin/env bash
# Runs every fuzz target of the module, each for the given number of executions
# (default 2000x) or time. A number is safer on a busy machine, where a fuzzer that is
# stopped by the clock sometimes reports the stop as a failure. A time is for long
# campaigns, which are guided by what they cover; so many executions change the
# inputs that there are at random, and need no build of everything of their own.
# usage: scripts/fuzz.sh [2000x|5m] [PACKAGE...]
set -euo pipefail
cd "$(dirname "$0")/.."

time=${1:-2000x}
shift || true
[ $# -gt 0 ] || set -- ./...

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
guided=(-fuzz .)
[[ $time != *x ]] || guided=()
corpora=$(go env GOCACHE)/fuzz # where go test keeps the inputs that it found

for pkg in $(go list "$@"); do
	dir=$(go list -f '{{.Dir}}' "$pkg")
	targets=$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go 2>/dev/null | sed 's/^func //') || continue
	go test -c -vet=off "${guided[@]}" -o "$scratch/fuzz.test" "$pkg" # once for all its targets
	for target in $targets; do
		echo "fuzz $target for $time in $pkg"
		(cd "$dir" && "$scratch/fuzz.test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$time" -test.fuzzminimizetime 5x -test.fuzzcachedir "$corpora/$pkg")
	done
done
