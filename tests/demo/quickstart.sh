#!/bin/sh
# What `make quickstart` runs after the build: a private Redis, a volume on local files, a real build on the mount, status,
# flush, unmount, remount. Everything lies in one temporary directory and ends with this script.
set -eu
bin=${BUILD:-build}
case $bin in /*) ;; *) bin=$PWD/$bin ;; esac
here=$PWD
work=$(mktemp -d /var/tmp/jfs-quickstart.XXXXXX)
hot=/dev/shm/jfs-quickstart.$$
redis_pid=""
cleanup() {
	status=$?
	cd /
	if mountpoint -q "$work/mnt"; then "$bin/jfs" umount "$work/mnt" || umount -l "$work/mnt" || true; fi
	if [ -n "$redis_pid" ]; then kill "$redis_pid" 2>/dev/null || true; wait "$redis_pid" 2>/dev/null || true; fi
	rm -rf "$work" "$hot"
	exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
say() { printf '\n== %s\n' "$*"; }
seconds() { awk '{print $1}' /proc/uptime; }
since() { awk -v a="$1" -v b="$(seconds)" 'BEGIN { printf "%.1f s", b - a }'; }

say "a private Redis"
mkdir -p "$work/redis" "$work/mnt" "$work/cache" "$hot"
redis-server --port 0 --unixsocket "$work/redis/sock" --dir "$work/redis" --appendonly yes --save "" --logfile "$work/redis/log" &
redis_pid=$!
n=0
until redis-cli -s "$work/redis/sock" ping 2>/dev/null | grep -q PONG; do
	n=$((n + 1))
	kill -0 "$redis_pid" && [ $n -lt 200 ] || { echo "redis-server does not answer; its log:"; cat "$work/redis/log"; exit 1; }
	sleep 0.05
done
meta="unix://$work/redis/sock"

say "format a volume on local files, and mount it"
"$bin/jfs" format "$meta" quickstart --storage file --bucket "$work/bucket"
"$bin/jfs" mount "$meta" "$work/mnt" --writeback --cache-dir "$work/cache" --hot-dir "$hot"
mount | grep " $work/mnt "

say "a real project on it: unpack, configure, build and test zlib"
tar=$("$here/tests/e2e/lib/debsrc.sh" zlib "$work/src")
t=$(seconds)
cd "$work/mnt"
tar xf "$tar"
cd zlib-*
./configure >/dev/null
make -j"$(nproc)" >build.log 2>&1 || { tail -20 build.log; exit 1; }
make test 2>&1 | grep 'zlib test OK'
echo "unpacked, configured, built and tested in $(since "$t")"
cd "$work/mnt"
find zlib-* -type f | wc -l | xargs printf "%s files on the volume\n"
before=$(find zlib-* -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)

say "status"
"$bin/jfs" status "$work/mnt"

say "flush to Redis and to the bucket, unmount"
cd /
t=$(seconds)
"$bin/jfs" umount --flush "$work/mnt"
echo "drained in $(since "$t")"
find "$work/bucket" -type f | wc -l | xargs printf '%s objects in the bucket\n'

say "mount again with an empty cache, and compare"
"$bin/jfs" mount "$meta" "$work/mnt" --cache-dir "$work/cache2" --hot-dir "$hot"
cd "$work/mnt"
after=$(find zlib-* -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)
cd /
[ "$before" = "$after" ] || { echo "the contents differ"; exit 1; }
echo "every file is the same"
"$bin/jfs" umount "$work/mnt"
say "done; nothing is left running"
