#!/bin/sh
# Runs the load suite on three nodes of its own on a PostgreSQL of its own, and
# holds the database against what was acknowledged, whatever became of the suite.
# The reports are in bin/suite. In the profile smoke, which CI runs, windows are
# short; there is a baseline for the profile gate alone.
#
#   usage: tools/gate.sh PROFILE RATIO
set -eu
cd "$(dirname "$0")/.."
profile=$1 ratio=$2

GATEHOUSE_STRIPE_WEBHOOK_SECRETS=whsec_gate
export GATEHOUSE_STRIPE_WEBHOOK_SECRETS
set -- --baseline baselines/gate --max-ratio "$ratio"
if [ "$profile" = smoke ]; then
	export GATEHOUSE_LIMIT_ONBOARDING=10/20s GATEHOUSE_LIMIT_CREDENTIAL_EXCHANGE=20/20s GATEHOUSE_LIMIT_STRIPE_WEBHOOK=400/20s
	export GATEHOUSE_LIMIT_WEBHOOK_UNAUTHENTIC=20/20s GATEHOUSE_LIMIT_AUTH_FAILURE=20/20s
fi
if [ "$profile" != gate ]; then
	set --
fi
rm -rf bin/suite
status=0
# A signal ends the suite, which still reports; then there is nothing to reconcile.
# shellcheck disable=SC2016 # it is the inner shell's
bin/gate -nodes 3 sh -c '
	trap "exit 143" TERM
	code=0 found=0
	"$@" || code=$?
	bin/gatehouse load reconcile bin/suite || found=$?
	case $code in
	0 | 3) [ "$found" -eq 0 ] || code=$found ;; # what is lost is worse than what could not be told
	esac
	exit "$code"' sh \
	bin/gatehouse load suite --profile "$profile" --target '{targets}' --target-admin '{admin}' \
	--provider-listen '{provider}' --out bin/suite "$@" || status=$?
if [ "$status" -ne 0 ]; then
	cat bin/suite/report.md >&2 || true
fi
exit "$status"
