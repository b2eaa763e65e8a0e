#!/usr/bin/env bash
# Plants one bug after the other in a copy of the tree and runs the tests that should notice it. Usage:
#
#   .ci/mutants.sh [name...]      all mutants, or those whose name contains one of the words
#
# A mutant is one file .ci/mutants/<name>.patch:
#
#   what is broken, in one line
#   test: ./state ./pipeline
#   seeds: 50
#   by: TestBand
#   a unified diff with a/ and b/ paths
#
# With seeds, the simulation alone must notice, within so many seeds. With by, that test must; else any of the packages', and which
# one it was belongs there, or it takes as long as all of them every time. RECORD=1 writes it.
#
# The table says which test has noticed, and with seeds which check, at which seed. A mutant that survives, does not apply, does
# not compile or makes the tests run out of time makes the script fail; so does a tree whose tests fail without any.
set -euo pipefail
cd "$(dirname "$0")/.."

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
tree=$tmp/tree
mkdir "$tree"
git ls-files -z --cached --others --exclude-standard |
	while IFS= read -r -d '' f; do if [ -f "$f" ]; then printf '%s\0' "$f"; fi; done |
	tar --null --files-from=- --create | tar --extract --directory "$tree"
cp -r "$tree" "$tmp/clean"

# Shrinking a counterexample helps a reader; nobody reads these.
export RAPID_NOFAILFILE=1 RAPID_SHRINKTIME=0s
# What does not come soon does not come.
export ASIDUO_PATIENCE=20s

# Nobody debugs these: without DWARF they are linked in half the time.
limit=300s
run() { (cd "$tree" && go test -vet=off -ldflags=-w -count=1 -failfast -timeout=$limit "$@") >"$tmp/out" 2>&1; }
simulate() {
	(cd "$tree" && SEEDS=$1 SIM_DIR=$tmp/sim go test -vet=off -ldflags=-w -count=1 -timeout=900s -tags synctests -run '^TestSim$' ./pipeline) >"$tmp/out" 2>&1
}

declare -a mutants=()
for file in .ci/mutants/*.patch; do
	name=$(basename "$file" .patch)
	if [ $# -eq 0 ]; then
		mutants+=("$name")
		continue
	fi
	for word in "$@"; do
		if [[ $name == *"$word"* ]]; then
			mutants+=("$name")
			break
		fi
	done
done
if [ ${#mutants[@]} -eq 0 ]; then
	echo "no such mutant" >&2
	exit 1
fi

packages() { sed -n '2s/^test: *//p' ".ci/mutants/$1.patch"; }
seeds() { sed -n '3s/^seeds: *//p' ".ci/mutants/$1.patch"; }
noticed() { sed -n '/^--- /q;s/^by: *//p' ".ci/mutants/$1.patch"; }

healthy() {
	cat "$tmp/out"
	echo "the tests fail without a mutant" >&2
	exit 1
}
plain=$(for m in "${mutants[@]}"; do [ -n "$(seeds "$m")" ] || packages "$m"; done | tr ' ' '\n' | sort -u)
most=$(for m in "${mutants[@]}"; do seeds "$m"; done | sort -n | tail -1)
# shellcheck disable=SC2086 # the packages are words
[ -z "$plain" ] || limit=30m run $plain || healthy # all of them at once, with no test that ends early
[ -z "$most" ] || simulate "$most" || healthy

bad=0
# A property that is asked alone draws more, since it may notice only now and then.
for name in "${mutants[@]}"; do
	file=$PWD/.ci/mutants/$name.patch
	verdict=
	by=
	tests=$(packages "$name")
	n=$(seeds "$name")
	known=$(noticed "$name")
	if [ -z "$tests" ]; then
		verdict="ERROR: no line with tests"
	elif ! patch --directory "$tree" --strip 1 --force --fuzz 0 --no-backup-if-mismatch <"$file" >"$tmp/patch" 2>&1; then
		verdict="ERROR: does not apply"
		cat "$tmp/patch"
		find "$tree" -name '*.rej' -delete
	else
		# shellcheck disable=SC2086
		if if [ -n "$n" ]; then simulate "$n"; elif [ -n "$known" ]; then RAPID_CHECKS=1000 run -run "^$known\$" $tests; else run $tests; fi; then
			verdict=SURVIVED
			by=${known:+$known does not notice it}
		elif grep -q '\[build failed\]\|\[setup failed\]' "$tmp/out"; then
			verdict="ERROR: does not compile"
			cat "$tmp/out"
		elif grep -q '^panic: test timed out\|^panic: seed [0-9]* does not end' "$tmp/out"; then
			verdict="TIMED OUT" # by no check: a slow machine would catch any mutant so
		else
			verdict=caught # what is not found below is empty
			by=$(grep -m1 -Po '^ *--- FAIL: \K[^ ]+' "$tmp/out" || true)
			if [ -n "$n" ]; then
				seed=$(grep -m1 -Po '^ *--- FAIL: TestSim/\K[0-9]+' "$tmp/out" || true)
				check=$(grep -m1 -Po '\[[a-z][a-z ]*\] .{0,80}|panic: .{0,80}' "$tmp/out" || true)
				by="seed ${seed:-?} of $n: $check"
				[ -n "$seed" ] && [ -n "$check" ] || verdict="NO CHECK"
			fi
			if [ -n "${RECORD:-}" ] && [ -z "$n$known" ] && [ -n "$by" ]; then sed -i "0,/^--- /s//by: $by\n--- /" "$file"; fi
			: "${by:=$(grep -m1 -Po '^panic: .{0,60}' "$tmp/out" || true)}"
		fi
	fi
	[ "$verdict" = caught ] || bad=1
	printf '%-34s %-10s %s\n' "$name" "$verdict" "${by:-$(head -1 "$file")}"
	# Back to the tree as it is, also when only a part of the patch has applied.
	sed -n 's#^+++ b/\([^[:space:]]*\).*#\1#p' "$file" | while IFS= read -r f; do if [ -f "$tmp/clean/$f" ]; then cp "$tmp/clean/$f" "$tree/$f"; fi; done
done
exit $bad
