#!/usr/bin/env bash
# The tests against a real Apache Kafka. Starts a broker, runs them, and stops it whatever happens.
#
#   .ci/kafka-test.sh [pattern]     only the tests that match; default: all
#
# Needs Java 17 and, once, Maven (deploy/kafka/README.md). Everything listens on loopback.
set -euo pipefail
cd "$(dirname "$0")/.."

tmp=$(mktemp -d)
tests=
stop() {
	# The tests have a process group of their own: instances that a dying test run has left go with it.
	if [ -n "$tests" ]; then kill -KILL -- "-$tests" 2>/dev/null || true; fi
	if [ -f "$tmp/kafka/cluster" ]; then bash deploy/kafka/kafka.sh stop "$tmp/kafka" || true; fi
	rm -rf "$tmp"
}
trap stop EXIT
trap 'exit 130' INT TERM HUP

KAFKA_RUN="$tmp/kafka" bash deploy/kafka/kafka.sh start >"$tmp/started"
ASIDUO_BROKER=$(sed -n 's/^bootstrap=//p' "$tmp/started")
ASIDUO_KAFKA_RUN=$tmp/kafka
ASIDUO_BINARY=$tmp/asiduo
export ASIDUO_BROKER ASIDUO_KAFKA_RUN ASIDUO_BINARY
go build -o "$ASIDUO_BINARY" ./cmd/asiduo

set -m
(
	go test -v -tags "synctests kafka" -count=1 -timeout 12m -run "${1:-Kafka}" ./cmd/asiduo 2>&1 |
		sed -E '/^=== (RUN|NAME|PAUSE|CONT) .*\//d; /^ +--- PASS/d'
) &
tests=$!
set +m
wait "$tests"
