#!/bin/sh
# Replay against a real redis-server: plans and the script, then the replayer. Needs redis-server, nothing else.
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}
if ! command -v redis-server >/dev/null; then
	echo "no redis-server" >&2
	echo "0 passed, 0 failed, 1 skipped"
	exit 0
fi
# Random histories: fewer under a sanitizer, where one takes ten times as long.
slow=${JFS_TEST_SLOW:-1}
if [ "${slow%%.*}" -gt 1 ]; then export ROUNDS="${ROUNDS:-3}"; else export ROUNDS="${ROUNDS:-8}"; fi
tests="replay_script replayer replayer_forgets"
case $build in *tsan*) tests="replayer replayer_forgets" ;; esac # the script's test has one thread
passed=0 failed=0
for t in $tests; do
	[ -f "tests/e2e/$t.c" ] || continue
	out=$(timeout 600 "$build/tests/e2e/$t" </dev/null) || echo "$t failed" >&2
	line=$(printf '%s\n' "$out" | tail -n 1)
	echo "$line"
	p=$(printf '%s' "$line" | sed -n 's/.*: \([0-9]*\) passed.*/\1/p')
	f=$(printf '%s' "$line" | sed -n 's/.*, \([0-9]*\) failed.*/\1/p')
	passed=$((passed + ${p:-0})) failed=$((failed + ${f:-1}))
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
