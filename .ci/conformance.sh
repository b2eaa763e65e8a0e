#!/usr/bin/env bash
# Every conformance case in every way that must not be seen in what comes out, on the embedded broker; then one run of
# each is judged by the cases' own comparer, if there is a python3.
#
#   .ci/conformance.sh [directory of cases]
set -euo pipefail
cd "$(dirname "$0")/.."

own=cmd/asiduo/testdata/conformance
cases=$(cd "${1:-$own/cases}" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export ASIDUO_CASES=$cases

ASIDUO_WHOLE_MATRIX=true go test -count=1 -timeout 30m -run '^TestConformance$' ./cmd/asiduo

if ! command -v python3 >/dev/null; then
	echo "compare.py was skipped: there is no python3"
	exit 0
fi
ASIDUO_OUT=$tmp go test -count=1 -timeout 10m -run '^TestConformance$/.*/crash=$' ./cmd/asiduo
mkdir "$tmp/all"
mv "$tmp"/records=*/* "$tmp/all"
python3 "$own/compare.py" --all "$cases" "$tmp/all"
