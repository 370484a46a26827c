#!/usr/bin/env bash
# Makes what the tests need available: Debian's packages of tools/debian-packages.txt, with the argument torture also
# those of tools/debian-packages-torture.txt, and the npm packages of every package-lock.json in the tree. What is there
# already is left as it is, so a second run needs no network. Where it cannot install, it says what is missing and what to
# type, and fails.
set -euo pipefail
cd "$(dirname "$0")/.."
tests=${1:-test}

fail() { # the sentence, and what to type on a line of its own
	printf 'make %s: ' "$tests" >&2
	printf '%s\n' "$@" >&2
	exit 1
}

lists=(tools/debian-packages.txt)
[ "$tests" = test ] || lists+=("tools/debian-packages-$tests.txt")
missing=()
for list in "${lists[@]}"; do
	while read -r package brings _; do
		case $package in '' | '#'*) continue ;; esac
		case $brings in
		/*) [ -e "$brings" ] || missing+=("$package") ;;
		*) command -v "$brings" >/dev/null || missing+=("$package") ;;
		esac
	done <"$list"
done

if [ ${#missing[@]} -gt 0 ]; then
	install="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
	command -v apt-get >/dev/null ||
		fail "missing: ${missing[*]} (Debian's names), and there is no apt-get here. Install them with this system's package manager."
	[ "$(id -u)" = 0 ] ||
		fail "missing: ${missing[*]}. Only root can install them. Type:" "  sudo sh -c '$install'"
	echo "installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq </dev/null && apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "${missing[@]}" </dev/null ||
		fail "missing: ${missing[*]}, and installing them failed (see above). When that is mended, type:" "  $install"
fi

node=$(node --version)
major=${node#v}
[ "${major%%.*}" -ge 20 ] ||
	fail "Node $node is too old: 20 or newer is needed. For example, as root:" "  npm install --global node@22"

git ls-files -- 'package-lock.json' '*/package-lock.json' | while read -r lock; do
	folder=$(dirname "$lock")
	# npm writes this file last; a lock file that changed since is newer.
	[ "$folder/node_modules/.package-lock.json" -nt "$lock" ] && continue
	echo "npm ci in $folder"
	(cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund </dev/null) ||
		fail "the npm packages of $lock are missing, and installing them failed (see above). When that is mended, type:" \
			"  (cd $folder && npm ci --ignore-scripts)"
done
