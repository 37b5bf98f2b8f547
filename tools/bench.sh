#!/bin/sh
# Runs the benchmarks and keeps their output in bin/bench.txt. With BASE, an
# earlier such file, benchstat compares the two.
#
#   usage: [BENCH=regexp] [BENCHCOUNT=n] [BASE=file] tools/bench.sh PACKAGES…
set -eu
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir -p bin
{
	go test -run '^$' -bench "${BENCH:-.}" -benchmem -count "${BENCHCOUNT:-1}" "$@" || echo $? >"$work/status"
} | tee "$work/bench.txt"
if [ -s "$work/status" ]; then
	exit "$(cat "$work/status")"
fi
mv "$work/bench.txt" bin/bench.txt

if [ -n "${BASE-}" ]; then
	benchstat=$(tools/tool.sh benchstat)
	"$benchstat" "$BASE" bin/bench.txt
fi
# What is measured from outside, on a running server, has its own script.
if [ -x bench/run.sh ]; then
	bench/run.sh
fi
