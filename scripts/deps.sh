#!/usr/bin/env bash
# Installs the Debian packages that the tests need and this machine lacks: a C
# compiler for the race detector, SoftHSM to be the PKCS#11 token of the tests,
# PostgreSQL and PgBouncer, of which the tests start their own, and what
# scripts/demo.sh works with. Without the right to install it says what
# is missing and how to get it, and fails.
set -euo pipefail

missing=()
command -v "$(go env CC)" >/dev/null || missing+=(gcc libc6-dev)
command -v softhsm2-util >/dev/null || missing+=(softhsm2)
command -v git >/dev/null || missing+=(git)
find --version 2>/dev/null | grep -q GNU || missing+=(findutils)
ls -d /usr/lib/postgresql/*/bin >/dev/null 2>&1 || missing+=(postgresql)
PATH=$PATH:/usr/sbin command -v pgbouncer >/dev/null || missing+=(pgbouncer)
ls /etc/ssl/certs/*.pem >/dev/null 2>&1 || missing+=(ca-certificates)
# What deploy/check has read the files of deploy/.
command -v systemd-analyze >/dev/null || missing+=(systemd)
PATH=$PATH:/usr/sbin command -v haproxy >/dev/null || missing+=(haproxy)
# What deploy/observability is checked with.
command -v promtool >/dev/null || missing+=(prometheus)
# The hosts of test/many, and how they are cut off from each other.
if [ "$(uname)" = Linux ]; then
	PATH=$PATH:/usr/sbin command -v ip >/dev/null || missing+=(iproute2)
	PATH=$PATH:/usr/sbin command -v nft >/dev/null || missing+=(nftables)
fi
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo "installing: ${missing[*]}"
	if [ ! -e /usr/sbin/policy-rc.d ]; then # services that come with a package are not started
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod 755 /usr/sbin/policy-rc.d
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	apt-get update -q >/dev/null
	DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" >/dev/null
	exit 0
fi
echo "missing: ${missing[*]}. Install them (Debian: apt-get install ${missing[*]}) and run again." >&2
exit 1
