#!/bin/sh
# Fuzzes every target that there is, FUZZTIME (30s) each, all of them even
# where one fails.
#
#   usage: tools/fuzz.sh PACKAGES…
set -eu
cd "$(dirname "$0")/.."

listed=$(go test -list '^Fuzz' "$@") || {
	echo "$listed" >&2
	exit 1
}
# A package's targets come before its "ok" line.
targets=$(echo "$listed" | awk '
	/^Fuzz/ { names[n++] = $1; next }
	$1 == "ok" { for (i = 0; i < n; i++) print $2, names[i] }
	{ n = 0 }')
if [ -z "$targets" ]; then
	echo "fuzz: there is no Fuzz target in: $*" >&2
	exit 1
fi

failed=$(mktemp)
trap 'rm -f "$failed"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
echo "$targets" | while read -r package name; do
	echo "==> $name ($package)"
	go test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-30s}" "$package" </dev/null ||
		echo "    $name ($package)" >>"$failed"
done
if [ -s "$failed" ]; then
	echo "fuzz: these failed; commit the input that each wrote under testdata/fuzz with its fix:" >&2
	cat "$failed" >&2
	exit 1
fi
