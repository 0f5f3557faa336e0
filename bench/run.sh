#!/usr/bin/env bash
# Measures the server and prints the table of bench/RESULTS.md; what it found
# goes to bench/out/*.json as well. Every operation gets a server of its own on
# a fresh data directory under bench/out, on the disk of this checkout. The
# references (one fsync, a bare HTTP handler) are measured in the same run,
# since figures of another day or machine compare to nothing.
# usage: bench/run.sh [OPERATION...]
# env: BENCH_ROUNDS (3; the median one counts), BENCH_DURATION (10s), BENCH_WARMUP (2s)
set -euo pipefail
cd "$(dirname "$0")/.."

out=bench/out
mkdir -p $out
make --no-print-directory build
cp bin/keyfold bin/keyfold-kms $out/
go build -o $out/load ./bench/load

ops=("$@")
[ ${#ops[@]} -gt 0 ] || ops=(fsync echo healthz secret-put secret-get message-post message-post-external message-list start
	cmek-rotate cmek-rotate-external kms-encrypt kms-encrypt-batch kms-decrypt-batch kms-client kms-seal kms-deks)
results=()
for op in "${ops[@]}"; do
	echo "measuring $op" >&2
	case $op in kms-*) serve=$out/keyfold-kms ;; *) serve=$out/keyfold ;; esac
	case $op in cmek-*) secrets=100000 ;; *) secrets=10000 ;; esac
	$out/load -op "$op" -serve "$serve" -dir $out -json -secrets $secrets -rounds "${BENCH_ROUNDS:-3}" \
		-duration "${BENCH_DURATION:-10s}" -warmup "${BENCH_WARMUP:-2s}" >"$out/$op.json"
	results+=("$out/$op.json")
done

$out/load -table "${results[@]}"
for cmd in cmd/*/; do
	bin=$out/$(basename "$cmd")
	echo "binary $(basename "$cmd"): $(stat -c %s "$bin" 2>/dev/null || stat -f %z "$bin") bytes"
done
