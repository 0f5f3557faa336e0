#!/usr/bin/env bash
# Runs every generator and fails if a generated file was not what it makes.
set -euo pipefail

state() { git status --porcelain && git diff | sha256sum; }

before=$(state)
go generate ./...
after=$(state)
if [ "$before" != "$after" ]; then
	echo "generated files were stale; commit what changed:" >&2
	diff <(echo "$before") <(echo "$after") >&2 || true
	exit 1
fi
