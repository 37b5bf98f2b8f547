#!/bin/sh
# Makes sure that there is a Chromium for the tests of pages: installs it where
# we are root on a Debian, and otherwise says nothing, since those tests skip
# with the command to run.
set -eu

for name in chromium chromium-browser google-chrome; do
	if command -v "$name" >/dev/null; then
		exit 0
	fi
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	exit 0
fi
echo "there is no Chromium: installing it for the tests of pages (once)" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium; } >"$log" 2>&1; then
	tail -n 5 "$log" >&2
	echo "that failed; the tests of pages will be skipped" >&2
fi
