#!/bin/sh
# debsrc.sh PACKAGE DIR : downloads the upstream tarball of a Debian source package into DIR (once) and prints its path.
# Uses apt with a private source list made from the system's own one and private state: the system's is left alone.
set -eu
pkg=$1
dir=$2
mkdir -p "$dir"
found=$(find "$dir" -maxdepth 1 -name "${pkg}_*.orig.tar.*" ! -name '*.asc' | head -n 1)
if [ -n "$found" ]; then
	echo "$found"
	exit 0
fi
apt=$(mktemp -d)
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/get"
# The first "deb" line, or the first stanza, of the distribution itself: the same place has the sources.
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
line=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
	awk -v c="$codename" '$1 == "deb" { for (i = 2; i <= NF; i++) if ($i == c && $(i + 1) == "main") { $1 = "deb-src"; print; exit } }')
if [ -n "$line" ]; then
	echo "$line" >"$apt/sources.list"
else
	awk -v c="$codename" 'BEGIN { RS = ""; FS = "\n" }
		{ uri = suites = signed = ""
		  for (i = 1; i <= NF; i++) {
			if ($i ~ /^URIs:/) uri = substr($i, 7)
			if ($i ~ /^Suites:/) suites = substr($i, 8)
			if ($i ~ /^Signed-By:/) signed = substr($i, 12)
		  }
		  if (suites ~ "(^| )" c "( |$)") {
			gsub(/ /, "", uri); gsub(/ /, "", signed)
			printf "deb-src %s%s %s main\n", signed ? "[signed-by=" signed "] " : "", uri, c
			exit
		  } }' /etc/apt/sources.list.d/*.sources >"$apt/sources.list"
fi
[ -s "$apt/sources.list" ] || { echo "debsrc.sh: no apt source of $codename found" >&2; exit 1; }
set -- -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$apt/lists" \
	-o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root -qq
apt-get "$@" update >&2
(cd "$apt/get" && apt-get "$@" source --download-only --only-source "$pkg" >&2)
found=$(find "$apt/get" -maxdepth 1 -name "${pkg}_*.orig.tar.*" ! -name '*.asc' | head -n 1)
[ -n "$found" ] || { echo "debsrc.sh: $pkg has no upstream tarball" >&2; exit 1; }
cp "$found" "$dir/.tmp.$$"
mv "$dir/.tmp.$$" "$dir/$(basename "$found")"
echo "$dir/$(basename "$found")"
