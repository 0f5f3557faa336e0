#!/usr/bin/env bash
# Installs the Debian packages that the tests need and this machine lacks:
# a C compiler for the race detector. Without the right to install, it says
# what is missing; under CI=true that is a failure, since nothing is skipped there.
set -euo pipefail

missing=()
command -v gcc >/dev/null || missing+=(gcc libc6-dev)
command -v make >/dev/null || missing+=(make)
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo "installing: ${missing[*]}"
	apt-get update -q >/dev/null
	DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" >/dev/null
	exit 0
fi
echo "missing: ${missing[*]}. Install them (Debian: apt-get install ${missing[*]}) and run again." >&2
exit 1
