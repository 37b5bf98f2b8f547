#!/bin/sh
# Storms a node of its own by wrk for 20 s, from 200 client addresses with a
# limit of 10 an hour each, and compares what was admitted with what may be:
# exactly 2,000. Needs wrk (Debian: apt-get install wrk) and curl.
set -eu
cd "$(dirname "$0")/.."
command -v wrk >/dev/null || { echo "storm: there is no wrk: apt-get install wrk" >&2; exit 1; }
make -s build
dir=$(mktemp -d)
bin/gatehouse serve --listen 127.0.0.1:18090 --admin-listen 127.0.0.1:19090 --trusted-proxies 127.0.0.0/8 \
	--limit-onboarding 10/1h --drain-timeout 2s --database "sqlite:$dir/storm.db" 2>"$dir/log" &
node=$!
trap 'kill "$node" 2>/dev/null || true; wait "$node" || true; rm -rf "$dir"' EXIT
until grep -q '"serving"' "$dir/log"; do kill -0 "$node"; done
wrk -t1 -c64 -d20s -s bench/storm.lua http://127.0.0.1:18090/api/v1/customers/onboard
curl -s http://127.0.0.1:19090/metrics | grep -E '^gatehouse_(rate_limit_decisions_total.*onboarding|sign_ups_total)'
customers=$(bin/gatehouse admin customers list --limit 10000 --database "sqlite:$dir/storm.db" --json | grep -c '"id"')
echo "customers: $customers, may be: 2000"
[ "$customers" -eq 2000 ]
