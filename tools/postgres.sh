#!/bin/sh
# Makes sure that there is a PostgreSQL for the tests of that store: installs it
# where we are root on a Debian, and otherwise says nothing, since those tests
# skip with the command to run; with the argument "must" it fails instead.
set -eu

without() {
	if [ "${1-}" = must ]; then
		echo "there is no PostgreSQL: as root run apt-get install postgresql, or set PGBIN to the folder of its initdb" >&2
		exit 1
	fi
	exit 0
}

# Where internal/store/postgres/pgtest looks for it.
if [ -n "${PGBIN-}" ] || command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; then
	exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	without "$@"
fi
echo "there is no PostgreSQL: installing it for the tests of its store (once)" >&2
# The package would make a database of its own and run it for good: the tests
# don't need it. Where somebody has set up such things, they stay as they are.
if [ ! -e /etc/postgresql-common ]; then
	mkdir -p /etc/postgresql-common/createcluster.d
	echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/gatehouse.conf
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends postgresql postgresql-contrib; } >"$log" 2>&1; then
	tail -n 5 "$log" >&2
	echo "that failed; the tests of PostgreSQL will be skipped" >&2
	without "$@"
fi
