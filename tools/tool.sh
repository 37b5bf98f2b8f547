#!/bin/sh
# Prints the path of a development tool, building it first where this machine
# hasn't got it. The versions below are the only place they are written.
#
#   usage: tools/tool.sh NAME
#
# Tools live in a cache outside the tree, one folder for each version of the
# tool and of Go (a linter refuses code newer than the Go that it was built
# with). They never enter go.mod: their dependencies are not ours.
set -eu

built=${1-} # the name that go install gives it
case ${1-} in
golangci-lint) module=github.com/golangci/golangci-lint/v2/cmd/golangci-lint version=v2.15.0 ;;
gotestsum) module=gotest.tools/gotestsum version=v1.13.0 ;;
benchstat) module=golang.org/x/perf/cmd/benchstat version=v0.0.0-20260908200009-22c9c6c9d4da ;;
govulncheck) module=golang.org/x/vuln/cmd/govulncheck version=v1.9.0 ;;
# Real servers for tests: see tools/test.sh.
mailpit) module=github.com/axllent/mailpit version=v1.27.11 ;;
stripe-mock) module=github.com/stripe/stripe-mock version=v0.203.0 ;;
toxiproxy) module=github.com/Shopify/toxiproxy/v2/cmd/server version=v2.12.0 built=server ;;
# Yardsticks of the load engine, for bench/run.sh alone.
vegeta) module=github.com/tsenart/vegeta/v12 version=v12.13.0 ;;
k6) module=go.k6.io/k6 version=v1.8.1 ;;
*)
	echo "usage: tools/tool.sh golangci-lint | gotestsum | benchstat | govulncheck | mailpit | stripe-mock | toxiproxy | vegeta | k6" >&2
	exit 2
	;;
esac

go=$(go env GOVERSION | tr ' ' '_')
cache=${XDG_CACHE_HOME:-${HOME:?set HOME or XDG_CACHE_HOME: the tools are kept there}/.cache}/gatehouse/tools
dir=$cache/$1-$version-$go
bin=$dir/$1

if [ ! -x "$bin" ]; then
	echo "building $1 $version with $go (once; kept in $dir)" >&2
	mkdir -p "$cache"
	tmp=$(mktemp -d "$cache/.building-XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	# The caller's flags and target platform are for Gatehouse, not for its tools.
	unset GOOS GOARCH
	GOFLAGS='' GOWORK=off CGO_ENABLED=0 GOBIN=$tmp go install "$module@$version" >&2
	# A rename within one file system: the tool is there whole or not at all,
	# also when two builds race.
	mkdir -p "$dir"
	mv -f "$tmp/$built" "$bin"
fi
echo "$bin"
