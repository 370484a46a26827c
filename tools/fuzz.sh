#!/usr/bin/env bash
# Runs every fuzz target of the tree for the time given (30s without one), one after the other. It goes on after a
# failure, names all that failed, and fails too where no target exists. The committed corpus of a target lies beside its
# test, in testdata/fuzz; a failing input is written there and belongs into the commit that mends it.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-30s}

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

# Minimizing inputs that are merely new would take most of the time; one that fails is small enough as it is found.
run() {
	go test -run '^$' -fuzz "^$2\$" -fuzztime "$time" -fuzzminimizetime 1x -parallel 2 "$1" </dev/null 2>&1 | tee "$output"
}

# When a worker is busy at the very end of the time, go test may report its own deadline as a failure, without a failing
# input (known of Go since 1.18). Such a run says nothing and is done again, twice at most.
said_nothing() {
	grep -q '^    context deadline exceeded$' "$output" && ! grep -q 'Failing input written' "$output"
}

failed=()
output=$(mktemp)
trap 'rm -f "$output"' EXIT
while read -r package target; do
	echo "== $package $target for $time"
	again=0
	until run "$package" "$target"; do
		if ! said_nothing || [ $((again++)) -eq 2 ]; then
			failed+=("$package $target")
			break
		fi
		echo "== again"
	done
done <<<"$targets"

if [ ${#failed[@]} -gt 0 ]; then
	printf 'fuzz: failed: %s\n' "${failed[@]}" >&2
	exit 1
fi
echo "fuzz: $(wc -l <<<"$targets") targets ran for $time each"
