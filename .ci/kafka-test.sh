#!/usr/bin/env bash
# The tests against a real Apache Kafka. Starts a cluster, runs them, and stops it whatever happens.
#
#   .ci/kafka-test.sh [pattern]     only the tests that match; default: all but the chaos
#   .ci/kafka-test.sh chaos         processes, brokers and the network between them under faults; CHAOS=15m is how long,
#                                   SEED=n which faults, BROKERS=1|3 how many brokers, KEEP=DIR where logs are to go;
#                                   FAULTS=freezes: only brokers that stand still for a little less than their session,
#                                   up to four times until Kafka has lost a marker of a transaction
#   .ci/kafka-test.sh security      logins, certificates and access rights, on a cluster that asks who is there
#   .ci/kafka-test.sh upgrade       processes are changed to this release and back to a former one, built from FORMER=REV
#                                   (default: the commit before this one), while orders come
#
# Needs Java 17 and, once, Maven (deploy/kafka/README.md). Everything listens on loopback.
set -euo pipefail
cd "$(dirname "$0")/.."

pattern=${1:-Kafka}
limit=20m
if [ "$pattern" = chaos ]; then
	case ${FAULTS:-} in
	'') pattern='^TestChaos' ;;
	freezes) pattern='^TestBrokerFreezes$' ;;
	*) echo "FAULTS=$FAULTS: there is only freezes" >&2; exit 2 ;;
	esac
	export ASIDUO_CHAOS=${CHAOS:-15m} ASIDUO_SEED=${SEED:-} ASIDUO_KEEP=${KEEP:+$(realpath -m "$KEEP")} \
		KAFKA_BROKERS=${BROKERS:-1} KAFKA_LINKS=3 KAFKA_HEAP=${KAFKA_HEAP:-320m}
	limit=3h
elif [ "$pattern" = security ]; then
	pattern='^TestSecurity'
	# Those who have logged in must do so again after five seconds: a new password or token is seen soon.
	export KAFKA_SECURE=1 KAFKA_EXTRA=listener.name.secure.connections.max.reauth.ms=5000
fi

tmp=$(mktemp -d)
tests=
former=
if [ "$pattern" = upgrade ]; then
	pattern='^TestUpgrade$'
	former=$(git rev-parse --verify --quiet "${FORMER:-HEAD~1}^{commit}") || { echo "there is no commit ${FORMER:-HEAD~1}: this needs the history" >&2; exit 2; }
fi
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
ASIDUO_LINKS=$(sed -n 's/^link[0-9]*=//p' "$tmp/started" | tr '\n' ' ')
ASIDUO_SECURE=$(sed -n 's/^secure=//p' "$tmp/started")
ASIDUO_MUTUAL=$(sed -n 's/^mutual=//p' "$tmp/started")
ASIDUO_KAFKA_RUN=$tmp/kafka
ASIDUO_BINARY=$tmp/asiduo
export ASIDUO_BROKER ASIDUO_LINKS ASIDUO_SECURE ASIDUO_MUTUAL ASIDUO_KAFKA_RUN ASIDUO_BINARY
go build -o "$ASIDUO_BINARY" ./cmd/asiduo
if [ -n "$former" ]; then
	mkdir "$tmp/former"
	git archive "$former" | tar --extract --directory "$tmp/former"
	export ASIDUO_FORMER=$tmp/asiduo-former
	(cd "$tmp/former" && go build -o "$ASIDUO_FORMER" ./cmd/asiduo)
fi

run() {
	set -m
	(
		go test -v -tags "synctests kafka" -count=1 -timeout "$limit" -run "$pattern" ./cmd/asiduo 2>&1 |
			sed -uE '/^=== (RUN|NAME|PAUSE|CONT) .*\//d; /^ +--- PASS/d' | tee "$tmp/out"
	) &
	tests=$!
	set +m
	wait "$tests"
}
run
# Whether brokers lose what FAULTS=freezes is for is luck: a run that has met none of it proves nothing.
for _ in 1 2 3; do
	[ "${FAULTS:-}" = freezes ] && [ -z "${SEED:-}" ] && grep -q '^--- SKIP' "$tmp/out" || exit 0
	run
done
! grep -q '^--- SKIP' "$tmp/out"
