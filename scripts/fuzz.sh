#!/usr/bin/env bash
# Runs every fuzz target of the module, each for the given number of executions
# or time (default 2000x). A number is safer on a busy machine, where a fuzzer
# that is stopped by the clock sometimes reports the stop as a failure.
# usage: scripts/fuzz.sh [2000x|5m] [PACKAGE...]
set -euo pipefail

time=${1:-2000x}
shift || true
[ $# -gt 0 ] || set -- ./...

for pkg in $(go list "$@"); do
	dir=$(go list -f '{{.Dir}}' "$pkg")
	for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go 2>/dev/null | sed 's/^func //'); do
		echo "fuzz $target for $time in $pkg"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 5x "$pkg"
	done
done
