#!/usr/bin/env bash
# Runs every fuzz target of the module, one after the other, and prints a table. Usage:
#
#   FUZZTIME=10m .ci/fuzz.sh [name...]      all targets, or those whose name contains one of the words
#
# FUZZTIME is CPU time for each target, in s, m or h, on FUZZWORKERS processes (default 2): where others want the processors
# too, it takes longer. An input that fails is written to testdata/fuzz of its package, to be fixed and checked in; the other
# targets still run, and the script fails at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

go=${GO:-go}
workers=${FUZZWORKERS:-2}
if ! [[ $workers =~ ^[1-9][0-9]*$ ]] || ! [[ ${FUZZTIME:=10s} =~ ^([0-9]+)([smh])$ ]]; then
	echo "FUZZTIME is a time such as 10s, 5m or 1h, and FUZZWORKERS a number; found $FUZZTIME and $workers" >&2
	exit 2
fi
declare -A unit=([s]=1 [m]=60 [h]=3600)
each=$((BASH_REMATCH[1] * unit[${BASH_REMATCH[2]}]))
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
out=$tmp/out

wanted() {
	[ ${#words[@]} -eq 0 ] && return 0
	local word
	for word in "${words[@]}"; do
		[[ $1 == *"$word"* ]] && return 0
	done
	return 1
}
words=("$@")

# spent sets cpu to the seconds that all processes which ended so far have used.
spent() {
	times >"$tmp/times"
	cpu=$(awk '{ for (i = 1; i <= 2; i++) { split($i, t, /[ms]/); sum += 60 * t[1] + t[2] } } END { printf "%d", sum }' "$tmp/times")
}

# only_late says whether a run has failed for nothing but its end: where processors are busy, that may be taken for a fault
# (go.dev/issue/75804). An input that fails is written; one that hangs stops the executions, or keeps the run from ending.
only_late() {
	local took=$((SECONDS - start))
	grep -q 'context deadline exceeded' "$out" && ! grep -q 'Failing input' "$out" &&
		grep '^fuzz: elapsed' "$out" | tail -2 | grep -q '([1-9][0-9]*/sec)' && [ $took -ge $((limit - 1)) ] && [ $took -le $((limit + 5)) ]
}

declare -a table=()
bad=0
for dir in $(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n 1 dirname | sort -u); do
	binary=
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(f \*testing\.F) {.*/\1/p' "$dir"/*_test.go | sort); do
		name=${dir#./}.$target
		wanted "$name" || continue
		if [ -z "$binary" ]; then
			binary=$tmp/fuzz.test
			"$go" test -c -vet=off -tags synctests -fuzz Fuzz -o "$binary" "$dir"
			cache=$("$go" env GOCACHE)/fuzz/$("$go" list "$dir")
		fi
		printf '%s for %ss\n' "$name" "$each"
		verdict=ok execs=0 total=0 used=0
		spent
		began=$cpu
		while [ "$used" -lt "$each" ] && [ $verdict = ok ]; do
			limit=$(((each - used + workers - 1) / workers))
			start=$SECONDS
			(cd "$dir" && nice "$binary" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "${limit}s" \
				-test.fuzzminimizetime 1s -test.parallel "$workers" -test.fuzzcachedir "$cache") >"$out" 2>&1 || verdict=FAILED
			if [ $verdict != ok ] && only_late; then
				verdict=ok
			fi
			last=$(grep '^fuzz: elapsed' "$out" | tail -1 || true)
			ran=$(sed -n 's/.*execs: \([0-9]*\).*/\1/p' <<<"$last")
			execs=$((execs + ${ran:-0}))
			total=$(sed -n 's/.*(total: \([0-9]*\)).*/\1/p' <<<"$last")
			spent
			used=$((cpu - began))
		done
		if [ $verdict != ok ]; then
			bad=1
			cat "$out"
		fi
		table+=("$(printf '%-36s %6ss %12s %8s  %s' "$name" "$used" "$execs" "${total:-0}" "$verdict")")
	done
done
if [ ${#table[@]} -eq 0 ]; then
	echo "no such target" >&2
	exit 1
fi
printf '\n%-36s %7s %12s %8s  %s\n' target cpu executions corpus verdict
printf '%s\n' "${table[@]}"
exit $bad
