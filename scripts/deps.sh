#!/usr/bin/env bash
# Installs what `make test` needs besides Go, bash and make, as root on Debian; elsewhere
# it says what is missing and how to get it, and fails. These are Debian's names:
#
#   gcc libc6-dev         the race detector, PKCS#11
#   softhsm2              a token
#   git findutils         generated files, scripts/demo.sh
#   ca-certificates       what scripts/demo.sh imports, with /usr/share/common-licenses
#   postgresql pgbouncer  databases, which the tests start themselves
#   haproxy systemd       read the files of deploy/; haproxy also runs with its own
#   prometheus            reads the alerts, by promtool
#   iproute2 nftables     the hosts of test/many, and how they are cut off (Linux)
#   nodejs npm chromium   the SDK and the dashboard: see scripts/sdk.sh and scripts/web.sh
#
# `scripts/deps.sh long` adds what `make long` needs:
#
#   patroni etcd-server python3-etcd   three databases of which one leads
set -euo pipefail

missing=()
command -v "$(go env CC)" >/dev/null || missing+=(gcc libc6-dev)
command -v softhsm2-util >/dev/null || missing+=(softhsm2)
command -v git >/dev/null || missing+=(git)
find --version 2>/dev/null | grep -q GNU || missing+=(findutils)
ls -d /usr/lib/postgresql/*/bin >/dev/null 2>&1 || missing+=(postgresql)
PATH=$PATH:/usr/sbin command -v pgbouncer >/dev/null || missing+=(pgbouncer)
ls /etc/ssl/certs/*.pem >/dev/null 2>&1 || missing+=(ca-certificates)
command -v systemd-analyze >/dev/null || missing+=(systemd)
PATH=$PATH:/usr/sbin command -v haproxy >/dev/null || missing+=(haproxy)
command -v promtool >/dev/null || missing+=(prometheus)
if [ "$(uname)" = Linux ]; then
	PATH=$PATH:/usr/sbin command -v ip >/dev/null || missing+=(iproute2)
	PATH=$PATH:/usr/sbin command -v nft >/dev/null || missing+=(nftables)
fi
if [ "${1-}" = long ]; then
	command -v patroni >/dev/null || missing+=(patroni python3-etcd)
	command -v etcd >/dev/null || missing+=(etcd-server)
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
