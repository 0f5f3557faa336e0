#!/usr/bin/env bash
# Runs every fuzz target of the module, each for the given number of executions
# or time (default 2000x). A number is safer on a busy machine, where a fuzzer
# that is stopped by the clock sometimes reports the stop as a failure.
# usage: scripts/fuzz.sh [2000x|5m] [PACKAGE...]
set -euo pipefail
cd "$(dirname "$0")/.."

time=${1:-2000x}
shift || true
[ $# -gt 0 ] || set -- ./...

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
corpora=$(go env GOCACHE)/fuzz # where go test keeps the inputs that it found

for pkg in $(go list "$@"); do
	dir=$(go list -f '{{.Dir}}' "$pkg")
	targets=$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go 2>/dev/null | sed 's/^func //') || continue
	go test -c -vet=off -fuzz . -o "$scratch/fuzz.test" "$pkg" # once for all its targets
	for target in $targets; do
		echo "fuzz $target for $time in $pkg"
		(cd "$dir" && "$scratch/fuzz.test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$time" -test.fuzzminimizetime 5x -test.fuzzcachedir "$corpora/$pkg")
	done
done
