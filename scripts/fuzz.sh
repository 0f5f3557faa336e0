#!/usr/bin/env bash
# Runs every fuzz target of the module for the given time each (default 3s).
# usage: scripts/fuzz.sh [TIME] [PACKAGE...]
set -euo pipefail

time=${1:-3s}
shift || true
[ $# -gt 0 ] || set -- ./...

for pkg in $(go list "$@"); do
	dir=$(go list -f '{{.Dir}}' "$pkg")
	for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go 2>/dev/null | sed 's/^func //'); do
		echo "fuzz $target for $time in $pkg"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$pkg"
	done
done
