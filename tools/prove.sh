#!/bin/sh
# Proves limits from outside and loads all APIs while test/gate kills nodes and
# the database, and then holds the database against what was acknowledged. It is
# run by test/gate; the reports are in bin/prove.
#
#   usage: tools/prove.sh TARGETS ADMIN PROVIDER
set -eu
targets=$1 admin=$2 provider=$3
rm -rf bin/prove
mkdir -p bin/prove

bin/gatehouse load verify --target "$targets" --policy onboarding,credential_exchange,webhook_unauthentic,auth_failure \
	--windows 7 --patience 60s --out bin/prove/verify &
verify=$!
mixed=0 limits=0
bin/gatehouse load run mixed --profile gate --target "$targets" --target-admin "$admin" --provider-listen "$provider" --out bin/prove/mixed || mixed=$?
wait "$verify" || limits=$?
echo "limits: exit $limits (1 is a violation; 3, that kills left something undecidable); mixed: exit $mixed (it is no gate here: nodes were killed)"
bin/gatehouse load reconcile bin/prove
if [ "$limits" -ne 0 ] && [ "$limits" -ne 3 ]; then
	exit 1
fi
if [ ! -s bin/prove/mixed/summary.json ]; then
	echo "the load did not run" >&2
	exit 1
fi
