#!/usr/bin/env bash
# Runs every fuzz target of the tree for the time given (20s without one), one after the other. It goes on after a
# failure, names all that failed, and fails too where no target exists. The committed corpus of a target lies beside its
# test, in testdata/fuzz; a failing input is written there and belongs into the commit that mends it.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-20s}

# go test prints the names that match, and then one line for their package: "ok  <package> <seconds>".
list=$(go test -list '^Fuzz' ./...) || {
	printf '%s\n' "$list"
	echo "fuzz: the fuzz targets could not be listed" >&2
	exit 1
}
targets=$(awk '$1 ~ /^Fuzz/ { names[++n] = $1 } $1 == "ok" { for (i = 1; i <= n; i++) print $2, names[i]; n = 0 }' <<<"$list")
if [ -z "$targets" ]; then
	echo "fuzz: there is no fuzz target in this tree" >&2
	exit 1
fi

failed=()
while read -r package target; do
	echo "== $package $target for $time"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10s -parallel 2 "$package" </dev/null ||
		failed+=("$package $target")
done <<<"$targets"

if [ ${#failed[@]} -gt 0 ]; then
	printf 'fuzz: failed: %s\n' "${failed[@]}" >&2
	exit 1
fi
echo "fuzz: $(wc -l <<<"$targets") targets ran for $time each"
