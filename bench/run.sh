#!/bin/sh
# Measures the server against its yardsticks; takes minutes. Say which to run
# only those: bench/run.sh denied store
set -eu
cd "$(dirname "$0")/.."
make -s build
go build -o bin/bench ./bench
exec bin/bench "$@"
