#!/bin/sh
# Proves limits from outside and loads all APIs while test/gate kills nodes and
# the database, and then holds the database against what was acknowledged. It is
# run by test/gate; the reports are in bin/prove.
#
#   usage: tools/prove.sh TARGETS ADMIN PROVIDER
set -eu
targets=$1 admin=$2 provider=$3
# stripe_webhook is everybody's, so that mixed would use it up: not here.
policies=onboarding,credential_exchange,webhook_unauthentic,auth_failure
trap 'wait; exit 143' TERM # a signal ends both commands, which still report
rm -rf bin/prove
mkdir -p bin/prove

bin/gatehouse load verify --target "$targets" --policy "$policies" \
	--windows 7 --patience 60s --out bin/prove/verify &
verify=$!
mixed=0 limits=0
bin/gatehouse load run mixed --profile gate --target "$targets" --target-admin "$admin" --provider-listen "$provider" --out bin/prove/mixed || mixed=$?
wait "$verify" || limits=$?
echo "limits: exit $limits (1 is a violation; 3, that kills left something undecidable); mixed: exit $mixed (it is no gate here: nodes were killed)"
status=0
bin/gatehouse load reconcile bin/prove || status=1
if [ "$limits" -ne 0 ] && [ "$limits" -ne 3 ]; then
	status=1
fi
# What kills leave undecidable may be waits, never that no more than the limit got in.
bin/gate -proved bin/prove/verify "$policies" || status=1
if [ ! -s bin/prove/mixed/summary.json ]; then
	echo "the load did not run" >&2
	status=1
fi
exit "$status"
