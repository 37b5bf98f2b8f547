#!/bin/sh
# Looks for known vulnerabilities in what Gatehouse is built from.
#
#   usage: [VULNDB=url] tools/vuln.sh PACKAGES…
#
# A finding fails. A database that can't be read does not, since it says
# nothing of our code, but it is said loudly: nothing was checked.
set -eu
cd "$(dirname "$0")/.."

govulncheck=$(tools/tool.sh govulncheck)
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

status=0
"$govulncheck" ${VULNDB:+-db "$VULNDB"} "$@" 2>"$errors" || status=$?
cat "$errors" >&2
# govulncheck exits 3 on a finding, and only then; on trouble of its own it
# exits 1 and says what it was at. Code that doesn't load fails before the
# database is asked, with another message, and so stays a failure.
if [ "$status" -eq 1 ] && grep -q '^govulncheck: fetching vulnerabilities: ' "$errors"; then
	cat >&2 <<'NOTICE'

****************************************************************************
* NOTHING WAS CHECKED: the vulnerability database can't be reached from    *
* here (the reason is above). This is not a pass. Run `make vuln` where    *
* there is a network, or give a mirror: make vuln VULNDB=https://…         *
****************************************************************************

NOTICE
	exit 0
fi
exit "$status"
