#!/usr/bin/env python3
"""Builds, runs the unit tests (plain and under the sanitizers) and the suites of tests/e2e/SUITES; adds up.

The last line is "N passed, N failed, N skipped" over everything; the exit status is 0 only if nothing failed, no test was
skipped unexpectedly, and everything built. Every random test's seed comes from --seed, shown in the first line.
"""
import argparse
import contextlib
import fnmatch
import os
import re
import signal
import subprocess
import sys
import threading
import time

import core
import ring

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILDS = {"plain": ("build", ""), "asan": ("build/asan", "address,undefined"), "tsan": ("build/tsan", "thread"),
          # The plain build, its mounts with --transport=io_uring, or with --pack-below=0.
          "ring": ("build", ""), "alone": ("build", "")}
SLOWER = {"plain": "1", "asan": "3", "tsan": "6", "ring": "1", "alone": "1"}
MOUNTS = {"ring": {"JFS_TEST_TRANSPORT": "io_uring"}, "alone": {"JFS_TEST_PACK": "0"}}
UNIT_KINDS = ("plain", "asan", "tsan")
TOLD = 60  # lines before a failure that are shown again
UNIT_TIME, SUITE_TIME = 300, 1200  # seconds after which a program that has not ended is ended
SUMMARY = re.compile(r"(?:unit [^:]+: )?(\d+) passed, (\d+) failed, (\d+) skipped")


class Totals:
    """Counts, and what was printed about each failure: repeated at the end, where a reader of a long log looks first."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures = []

    def add(self, passed, failed, skipped):
        self.passed, self.failed, self.skipped = self.passed + passed, self.failed + failed, self.skipped + skipped

    def fail(self, text, told=()):
        print(f"FAIL {text}", flush=True)
        self.failures.append("\n".join([*told[-TOLD:], f"FAIL {text}"]))
        self.failed += 1

    def report(self):
        if self.failures:
            print("== what failed, once more")
            print("\n".join(self.failures))
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")


def make(kind, *targets):
    folder, sanitizer = BUILDS[kind]
    command = ["make", "-s", f"-j{os.cpu_count()}", "WERROR=1", f"BUILD={folder}", *targets]
    if sanitizer:
        command.append(f"SAN={sanitizer}")
    return subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False).returncode == 0


def programs():
    return ["all"] if os.path.exists(os.path.join(ROOT, "daemon/jfs_main.c")) else []


def environment(kind, seed):
    build = os.path.join(ROOT, BUILDS[kind][0])
    slow = float(os.environ.get("JFS_TEST_SLOW", "1")) * float(SLOWER[kind])
    env = dict(os.environ, BUILD=build, JFS_BUILD=build, JFS_SEED=str(seed),
               JFS_TEST_SLOW=str(slow), PYTHONDONTWRITEBYTECODE="1")
    return dict(env, **MOUNTS.get(kind, {}))


def fixed_addresses():
    """GCC 12's thread sanitizer does not start where the kernel randomizes addresses over more than 28 bits."""
    prefix = ["setarch", "-R"]
    works = subprocess.run([*prefix, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0
    return prefix if works else []


def expire(pid, timeout):
    """Tells where a program that does not end stands, with all that it started, and kills them."""
    family = [pid, *core.descendants_of(pid)]
    stands = "".join(core.where_it_stands(p) for p in family)
    print(f"no end after {timeout:g} s\n{stands}", end="", flush=True)
    for p in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(p, signal.SIGKILL)


def run_counted(totals, name, command, env, timeout, allowed=lambda test: False):
    """Runs a test program, passes its output on, and adds its last summary line up."""
    summary, skips, told = None, [], []
    with subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, errors="backslashreplace") as process, contextlib.ExitStack() as stack:
        timer = threading.Timer(timeout, expire, (process.pid, timeout))
        timer.start()
        stack.callback(timer.cancel)
        for line in process.stdout:
            print(line, end="", flush=True)
            told.append(line.rstrip())
            if line.startswith("FAIL "):
                totals.failures.append("\n".join([f"-- {name}", *told[-TOLD:]]))
            if re.match(r"(ok|FAIL|SKIP) ", line):
                told = []
            m = SUMMARY.fullmatch(line.strip())
            summary = tuple(map(int, m.groups())) if m else summary
            if line.startswith("SKIP "):
                skips.append(line.split()[1])
    if summary:
        totals.add(*summary)
    if not summary:
        totals.fail(f"{name}: ended with {process.returncode} and without a summary", told)
    elif process.returncode and not summary[1]:
        totals.fail(f"{name}: exit status {process.returncode}", told)
    for test in skips:
        if not allowed(test):
            totals.fail(f"{name}: unexpected skip of {test}")
    if summary and summary[2] != len(skips):
        totals.fail(f"{name}: {summary[2]} tests skipped without a word")


def run_units(totals, kinds, env_of):
    sources = sorted(f[:-2] for f in os.listdir(os.path.join(ROOT, "tests/unit")) if re.fullmatch(r"test_\w+\.c", f))
    for kind in kinds:
        print(f"== unit tests, {kind}", flush=True)
        if not make(kind, "unit-bins"):
            totals.fail(f"build of the unit tests, {kind}")
            continue
        prefix = fixed_addresses() if kind == "tsan" else []
        for name in sources:
            binary = os.path.join(ROOT, BUILDS[kind][0], "tests/unit", name)
            run_counted(totals, f"{name} ({kind})", [*prefix, binary], env_of(kind), UNIT_TIME)


def read_suites():
    with open(os.path.join(ROOT, "tests/e2e/SUITES"), encoding="utf-8") as f:
        for line in f:
            words = line.split("#")[0].split()
            if words:
                skips = [w[5:] for w in words[1:] if w.startswith("skip=")]
                kinds = [w[1:] for w in words[1:] if w.startswith("+")]
                if len(skips) + len(kinds) != len(words) - 1 or not set(kinds) <= set(BUILDS):
                    raise SystemExit(f"tests/e2e/SUITES: malformed line: {line.strip()}")
                yield words[0], skips, kinds


def skip_allowed(test, rules):
    for rule in rules:
        pattern, _, variable = rule.partition(":")
        if fnmatch.fnmatchcase(test, pattern) and not (variable and os.environ.get(variable)):
            return True
    return False


def run_suites(totals, kinds, env_of, only):
    built = {}
    for name, skips, extra in read_suites():
        if only and not any(fnmatch.fnmatchcase(name, p) for p in only):
            continue
        for kind in ["plain", *extra]:
            if kind not in kinds:
                continue
            print(f"== {name}, {kind}", flush=True)
            if kind not in built:
                built[kind] = make(kind, "tools", *programs())
            if not built[kind]:
                totals.fail(f"build for {name}, {kind}")
                continue
            if kind == "ring" and ring.missing():
                print(f"SKIP {name} on rings: {ring.missing()}", flush=True)
                totals.skipped += 1
                continue
            command = ["sh" if name.endswith(".sh") else sys.executable, os.path.join(ROOT, "tests/e2e", name)]
            with ring.turned_on() if kind == "ring" else contextlib.nullcontext():
                run_counted(totals, f"{name} ({kind})", command, env_of(kind), SUITE_TIME,
                            lambda test, rules=skips: skip_allowed(test, rules))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("JFS_SEED") or time.time_ns() % 10**9))
    parser.add_argument("--plain", action="store_true", help="leave the sanitizer builds out")
    parser.add_argument("--unit", action="store_true", help="the unit tests only")
    parser.add_argument("--suite", action="append", metavar="PATTERN", help="these suites only (repeatable)")
    args = parser.parse_args()
    kinds = ["plain", *MOUNTS] if args.plain else list(BUILDS)
    totals, start = Totals(), time.monotonic()
    print(f"seed {args.seed}", flush=True)

    def env_of(kind):
        return environment(kind, args.seed)

    if not args.suite:
        run_units(totals, [k for k in kinds if k in UNIT_KINDS], env_of)
    if not args.unit:
        run_suites(totals, kinds, env_of, args.suite)
    print(f"== all in {time.monotonic() - start:.0f} s")
    totals.report()
    return totals.failed > 0


if __name__ == "__main__":
    sys.exit(main())
