#!/bin/sh
# Runs tests, then judges the run: what was skipped is named, and a run in
# which no test ran is no success. With CI set, a skip is a failure.
#
#   usage: tools/test.sh [flags of go test] PACKAGES…
set -eu
cd "$(dirname "$0")/.."

tools/browser.sh
tools/postgres.sh
gotestsum=$(tools/tool.sh gotestsum)
# Mail and Stripe are tested against these, running; the last spoils PostgreSQL's network.
MAILPIT=$(tools/tool.sh mailpit)
STRIPE_MOCK=$(tools/tool.sh stripe-mock)
TOXIPROXY=$(tools/tool.sh toxiproxy)
export MAILPIT STRIPE_MOCK TOXIPROXY
work=$(mktemp -d)
trap 'rm -rf "$work" ${memory:+"$memory"}' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

strict=
case ${CI-} in
'' | 0 | false) ;;
*)
	strict=-strict
	set -- -count=1 "$@" # CI takes no earlier run's word
	;;
esac

# Databases of tests lie in memory where there is room for them: hundreds sync at
# once, and a shared disk that then takes seconds for one fails tests that are
# right. What a kill does is the same there; what a disk does is for bench/.
memory=$(mktemp -d /dev/shm/gatehouse-tests-XXXXXX 2>/dev/null) || memory=
if [ -n "$memory" ]; then
	chmod 755 "$memory" # some tests run as nobody
	printf '#!/bin/sh\n' >"$memory/try" && chmod +x "$memory/try"
	if "$memory/try" 2>/dev/null && [ "$(df -Pk "$memory" | awk 'NR == 2 {print $4}')" -gt 6000000 ]; then
		export TMPDIR="$memory"
	fi
fi

set -- -timeout=25m "$@" # of a package: under the race detector, on a slow machine, ten are not enough
status=0
"$gotestsum" --format pkgname --hide-summary skipped --jsonfile "$work/events" -- "$@" || status=$?
# All is also the module of its own that drives the vendors' SDKs. No race
# detector there: it would look at the SDKs, not at the binary that they call.
case " $* " in
*" -race "*) ;;
*" ./... ") # -count=1: Go's cache of results can't know of that binary
	(cd test/sdk && "$gotestsum" --format pkgname --hide-summary skipped --jsonfile "$work/sdk" -- -count=1 "$@") || status=$?
	cat "$work/sdk" >>"$work/events"
	;;
esac
# The judge is built without cgo, whatever the tests need: see the Makefile.
CGO_ENABLED=0 go build -buildvcs=false -o "$work/testgate" ./tools/testgate
# shellcheck disable=SC2086 # $strict is one flag or none
"$work/testgate" $strict "$work/events" || [ "$status" -ne 0 ] || status=1
exit "$status"
