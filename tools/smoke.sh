#!/bin/sh
# Runs the plan onboarding, profile smoke, against a node of its own, on free
# ports and a database that goes with it. The reports stay in bin/smoke.
#
#   usage: tools/smoke.sh
set -eu
cd "$(dirname "$0")/.."

work=$(mktemp -d)
node=
cleanup() {
	if [ -n "$node" ]; then
		kill "$node" 2>/dev/null || true
		wait "$node" || true
	fi
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

bin/gatehouse serve --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --drain-timeout 2s \
	--database "sqlite:$work/gatehouse.db" 2>"$work/log" &
node=$!
tries=300 # of 0.1 s
while ! grep -q '"msg":"serving"' "$work/log"; do
	tries=$((tries - 1))
	if [ "$tries" -eq 0 ] || ! kill -0 "$node" 2>/dev/null; then
		echo "smoke: the node does not serve:" >&2
		cat "$work/log" >&2
		exit 1
	fi
	sleep 0.1
done
field() { sed -n "/\"msg\":\"serving\"/s/.*\"$1\":\"\\([^\"]*\\)\".*/\\1/p" "$work/log"; }

rm -rf bin/smoke
status=0
bin/gatehouse load run onboarding --profile smoke --target "http://$(field listen)" \
	--target-admin "http://$(field admin_listen)" --out bin/smoke || status=$?
if [ "$status" -ne 0 ]; then
	cat bin/smoke/report.md "$work/log" >&2 || true
fi
exit "$status"
