#!/usr/bin/env bash
# Builds both programs into bin/ and runs the development server with the key
# process inside it (embedded, the default) or in a process of its own (external).
# usage: scripts/dev.sh [embedded|external] [FLAG of keyfold dev...]
set -euo pipefail
mode=${1:-embedded}
shift || true
root=$(cd "$(dirname "$0")/.." && pwd)
(cd "$root" && go build -o bin/ ./cmd/...)
exec "$root/bin/keyfold" dev --kms "$mode" "$@"
