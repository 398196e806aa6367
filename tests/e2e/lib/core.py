"""The test runner: registry, one process and one folder per test, time-outs, and a clean machine afterwards.

Each test runs in a process of its own. Runner and test process are "child subreapers": a daemon that goes into the
background becomes a child of the test, and of the runner once the test is gone. So everything a test has started, and
nothing else, can be found and killed by pid, also after a time-out; then what is mounted below its folder is detached
and the folder removed. A test fails as well when a sanitizer wrote a report into its folder's log/.

    @test(timeout=60, needs=("fuse",))
    def reads_what_was_written(t): ...          # t: Test

Environment: JFS_BUILD (default build/ of this tree), JUICEFS (a stock binary), JFS_TEST_TMP (default /var/tmp; a file
system with user xattrs that is no tmpfs), JFS_TEST_SLOW (factor on all time-outs), JFS_TEST_TRANSPORT and
JFS_TEST_PACK (--transport and --pack-below of all mounts that do not choose themselves).
"""
import argparse
import contextlib
import ctypes
import faulthandler
import fnmatch
import glob
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

import ring

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILD = os.path.abspath(os.environ.get("JFS_BUILD") or os.path.join(ROOT, "build"))
SLOW = float(os.environ.get("JFS_TEST_SLOW", "1"))
LONGEST = 600  # seconds to which a slow build stretches a test's time at most: one that hangs must not end its whole suite
REPORTS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "WARNING: ThreadSanitizer", "ThreadSanitizer: ",
           ": runtime error: ", "UndefinedBehaviorSanitizer")
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
libc = ctypes.CDLL(None, use_errno=True)
registry = {}


class Skip(Exception):
    """Raised by a test that cannot run here; the text says why."""


class CommandError(AssertionError):
    """A command ended otherwise than expected."""


class Timeout(AssertionError):
    """A condition did not come true in time."""


def add(name, function, timeout=60, needs=()):
    assert name not in registry, name
    registry[name] = (function, timeout, needs)


def test(timeout=60, needs=()):
    def register(function):
        add(function.__name__, function, timeout, needs)
        return function
    return register


def wait_until(condition, timeout=20, what=None):
    """Polls until condition() is true and returns its value; Timeout says what was waited for, and the last error."""
    end, pause, error = time.monotonic() + timeout * SLOW, 0.002, None
    while True:
        try:
            value = condition()
            error = None
        except (OSError, AssertionError) as e:  # the thing asked may not be up yet
            value, error = None, e
        if value:
            return value
        if time.monotonic() >= end:
            name = what or getattr(condition, "__name__", "condition")
            raise Timeout(f"after {timeout * SLOW:g} s still waiting for: {name}" + (f" ({error})" if error else ""))
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def missing(need):
    """Why a test with this need cannot run; None if it can."""
    checks = {
        "root": (os.geteuid() == 0, "needs root"),
        "fuse": (os.path.exists("/dev/fuse"), "needs /dev/fuse"),
        "juicefs": (os.access(os.environ.get("JUICEFS", ""), os.X_OK), "JUICEFS names no stock binary"),
        "jfs": (os.access(os.path.join(BUILD, "jfs"), os.X_OK), f"{BUILD}/jfs is not built"),
        "tools": (os.access(os.path.join(BUILD, "fault-injection/tcpfault"), os.X_OK), "make tools was not run"),
        "ring": (ring.missing() is None, ring.missing()),
        "cpu_dma_latency": (os.access("/dev/cpu_dma_latency", os.W_OK), "may not write /dev/cpu_dma_latency"),
        "swift": (os.geteuid() == 0 or shutil.which("swift-proxy-server") is not None, "only root can install Swift"),
    }
    there, reason = checks[need]
    return None if there else reason


# processes

def children_of(pid):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                with open(f"/proc/{entry}/stat", "rb") as f:
                    if int(f.read().rpartition(b")")[2].split()[1]) == pid:
                        found.append(int(entry))
    return found


def descendants_of(pid):
    found = []
    todo = [pid]
    while todo:
        kids = children_of(todo.pop())
        found += kids
        todo += kids
    return found


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return [os.fsdecode(w) for w in f.read().split(b"\0")[:-1]]
    except OSError:
        return []


def where_it_stands(pid):
    """The threads of a process: name, state, what each waits for in the kernel; with gdb installed our programs' stacks."""
    out = [f"--- process {pid}: {' '.join(command_line(pid))[:200]}\n"]
    with contextlib.suppress(OSError):
        for thread in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
            at = f"/proc/{pid}/task/{thread}"
            with contextlib.suppress(OSError):
                with open(f"{at}/status", encoding="utf-8", errors="replace") as f:
                    status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
                with open(f"{at}/stack", encoding="utf-8") as f:
                    calls = [line.split()[1].partition("+")[0] for line in f]
                out.append(f"    {thread} {status['Name']} {status['State'][0]}: {' '.join(calls[:6])}\n")
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        if shutil.which("gdb") and os.path.realpath(f"/proc/{pid}/exe").startswith(BUILD + "/"):
            command = ["gdb", "-p", str(pid), "-batch", "-nx", "-ex", "thread apply all bt 12"]
            told = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  timeout=60, check=False).stdout.decode("utf-8", "replace")
            out += [line + "\n" for line in told.splitlines() if line.startswith(("#", "Thread "))]
    return "".join(out)


def kill_orphans(keep=()):
    """Kills and reaps every child of this process but those in `keep`, and what they leave behind."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        orphans = [p for p in children_of(os.getpid()) if p not in keep]
        if not orphans:
            return
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)  # polling: a killed process takes a moment to become a zombie


def mounts_below(folder):
    """Mount points below the folder, the innermost last."""
    prefix = os.path.realpath(folder) + "/"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        points = [line.split()[4].encode("utf-8", "surrogateescape").decode("unicode_escape") for line in f]
    return [p for p in points if p.startswith(prefix)]


def abort_mounts(folder):
    """Whoever waits in the kernel for a FUSE server's answer gets an error. A server that waits for itself cannot be killed else."""
    force, no_follow = 1, 8
    for point in reversed(mounts_below(folder)):
        libc.umount2(os.fsencode(point), force | no_follow)


def detach_mounts(folder):
    for point in reversed(mounts_below(folder)):
        subprocess.run(["umount", "-l", point], stderr=subprocess.DEVNULL, check=False)


def daemon_environment(log_dir):
    """Sanitizer reports of background daemons go to files in log_dir, where the runner finds them."""
    common = "abort_on_error=0:handle_segv=1"
    return {"ASAN_OPTIONS": f"{common}:detect_leaks=1:log_path={log_dir}/asan",
            "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={log_dir}/ubsan",
            "TSAN_OPTIONS": f"second_deadlock_stack=1:log_path={log_dir}/tsan", "TZ": "UTC", "LC_ALL": "C"}


class Test:
    """What a test gets: its folder, a seeded random generator, commands, and a place for what must be undone."""

    def __init__(self, name, folder, seed):
        self.name, self.dir, self.seed = name, folder, seed
        self.rng = random.Random(f"{seed}/{name}")
        self.stack = contextlib.ExitStack()
        self.log_dir = os.path.join(folder, "log")
        os.mkdir(self.log_dir)
        self.env = dict(os.environ, HOME=folder, **daemon_environment(self.log_dir))
        self.numbers = {}

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def folder(self, name, mode=0o755):
        """A new folder; a number is added when the name is taken."""
        self.numbers[name] = n = self.numbers.get(name, 0) + 1
        path = self.path(name if n == 1 else f"{name}-{n}")
        os.mkdir(path, mode)
        return path

    def enter(self, manager):
        return self.stack.enter_context(manager)

    def defer(self, function, *args):
        self.stack.callback(function, *args)

    def note(self, *words):
        print(*words, flush=True)

    def run(self, *command, status=0, timeout=60, env=None, cwd=None, stdin=None):
        """Runs a command to its end and returns its output (stdout and stderr); `status` None: any exit code.

        The output goes through a file, so that a daemon which the command leaves behind cannot hold the call up."""
        words = [str(w) for w in command]
        with tempfile.TemporaryFile(dir=self.log_dir) as out:
            try:
                done = subprocess.run(words, stdin=stdin or subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd,
                                      timeout=timeout * SLOW, env=dict(self.env, **(env or {})), check=False)
                code = done.returncode
            except subprocess.TimeoutExpired:
                code = "no end"
            out.seek(0)
            text = out.read().decode("utf-8", "replace")
        self.status = code
        if code == "no end" or status is not None and code != status:
            raise CommandError(f"{' '.join(words)}: exit {code}, expected {status}\n{text[-4000:]}")
        return text

    def spawn(self, *command, name=None, env=None, cwd=None):
        """Starts a process; its output goes to log/NAME.log. It is killed at the end of the test at the latest."""
        words = [str(w) for w in command]
        with open(os.path.join(self.log_dir, (name or os.path.basename(words[0])) + ".log"), "ab") as out:
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd,
                                    env=dict(self.env, **(env or {})))


# the runner

class Running:
    """A test whose process is on its way."""

    def __init__(self, name, seed):
        self.name = name
        self.function, timeout, self.needs = registry[name]
        self.folder = tempfile.mkdtemp(prefix="jfs-", dir=os.environ.get("JFS_TEST_TMP", "/var/tmp"))
        self.out = tempfile.TemporaryFile()
        self.verdict_fd, writer = os.pipe()
        self.start = time.monotonic()
        self.deadline = self.start + max(timeout, min(timeout * SLOW, LONGEST))
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.verdict_fd)
            self.run_child(writer, seed)
        os.close(writer)
        self.pidfd = os.pidfd_open(self.pid)

    def run_child(self, writer, seed):
        """Never returns. Writes the verdict, "ok", "SKIP reason" or "FAIL reason", into the pipe."""
        verdict = "FAIL the test process broke"
        try:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
            os.set_inheritable(writer, False)
            for fd in (1, 2):
                os.dup2(self.out.fileno(), fd)
            sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
            faulthandler.register(signal.SIGUSR1, file=2)
            verdict = run_function(self.function, Test(self.name, self.folder, seed))
            sys.stdout.flush()
        finally:
            os.write(writer, verdict.encode()[:4000])
            os._exit(0)

    def expire(self):
        """Leaves in the output where all processes of the test stand, then kills them. The daemons too, and their mounts: a
        process that waits for an answer of theirs inside the kernel cannot be killed before they are gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR1)
            select.select([self.pidfd], [], [], 0.2)
            family = [self.pid, *descendants_of(self.pid)]
            for pid in family:
                os.write(self.out.fileno(), where_it_stands(pid).encode("utf-8", "backslashreplace"))
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        abort_mounts(self.folder)

    def finish(self, expired, others, keep):
        """Cleans up; returns (verdict, reason, text to show when it failed)."""
        os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        verdict, _, reason = os.read(self.verdict_fd, 4096).decode("utf-8", "replace").partition(" ")
        os.close(self.verdict_fd)
        if expired:
            verdict, reason = "FAIL", f"no end after {self.deadline - self.start:g} s"
        elif not verdict:
            verdict, reason = "FAIL", "the test process was killed"
        abort_mounts(self.folder)
        kill_orphans(keep=others)
        detach_mounts(self.folder)
        report = sanitizer_report(self.folder)
        if report:
            verdict, reason = "FAIL", (reason + "; " if reason else "") + f"sanitizer report in {report}"
        self.out.seek(0)
        text = self.out.read().decode("utf-8", "replace")
        self.out.close()
        if verdict == "FAIL":
            text += log_tails(self.folder)
        if not keep:
            for folder in (self.folder, *glob.glob(f"/dev/shm/{os.path.basename(self.folder)}-*")):  # hot directories
                shutil.rmtree(folder, ignore_errors=True)
        return verdict, reason, text


def run_function(function, t):
    verdict = "ok"
    try:
        try:
            function(t)
        finally:
            t.stack.close()
    except Skip as e:
        verdict = f"SKIP {e}"
    except BaseException as e:  # whatever a test throws is its verdict
        traceback.print_exc()
        lines = str(e).splitlines() or [""]
        verdict = f"FAIL {type(e).__name__}: {lines[0]}"
    return verdict


def log_files(folder):
    for top, _, files in os.walk(os.path.join(folder, "log")):
        for name in sorted(files):
            yield os.path.join(top, name)


def sanitizer_report(folder):
    for path in log_files(folder):
        with open(path, encoding="utf-8", errors="replace") as f:
            if any(mark in line for line in f for mark in REPORTS):
                return os.path.relpath(path, folder)
    return None


def log_tails(folder, lines=60):
    out = []
    for path in log_files(folder):
        with open(path, encoding="utf-8", errors="replace") as f:
            tail = f.readlines()[-lines:]
        if tail:
            out += [f"--- {os.path.relpath(path, folder)}, last {len(tail)} lines\n", *tail]
    return "".join(out)


def run_all(names, seed, jobs, keep):
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    counts, active, waiting = {"ok": 0, "FAIL": 0, "SKIP": 0}, {}, list(names)

    def show(name, verdict, reason, seconds, text=""):
        counts[verdict] += 1
        if verdict == "FAIL" and text:
            print("".join(f"    {line}\n" for line in text.splitlines()), end="")
        print(f"ok {name} {seconds:.2f}" if verdict == "ok" else f"{verdict} {name} {reason}", flush=True)

    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                name = waiting.pop(0)
                reasons = [r for r in map(missing, registry[name][2]) if r]
                if reasons:
                    show(name, "SKIP", reasons[0], 0)
                else:
                    running = Running(name, seed)
                    active[running.pidfd] = running
            if not active:
                continue
            left = min(r.deadline for r in active.values()) - time.monotonic()
            ready = select.select(list(active), [], [], max(0, left))[0]
            expired = [fd for fd, r in active.items() if fd not in ready and r.deadline <= time.monotonic()]
            for fd in expired:
                active[fd].expire()
            for fd in ready + expired:
                running = active.pop(fd)
                verdict = running.finish(fd in expired, [r.pid for r in active.values()], keep)
                show(running.name, *verdict[:2], time.monotonic() - running.start, verdict[2])
    finally:
        for running in active.values():  # interrupted
            running.expire()
            running.finish(True, [r.pid for r in active.values() if r is not running], keep)
    print("%(ok)d passed, %(FAIL)d failed, %(SKIP)d skipped" % counts, flush=True)
    return counts["FAIL"] > 0


def main(argv=None):
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="tests with this name (a pattern, repeatable)")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep the tests' folders")
    parser.add_argument("-j", "--jobs", type=int, default=1)
    args = parser.parse_args(argv)
    names = [n for n in registry if not args.only or any(fnmatch.fnmatchcase(n, p) for p in args.only)]
    if args.list:
        print("\n".join(names))
        return 0
    if args.only and not names:
        parser.error("no such test")
    seed = args.seed if args.seed is not None else int(os.environ.get("JFS_SEED") or time.time_ns() % 10**9)
    print(f"seed {seed}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ["JFS_BUILD"] = BUILD  # where faults.py looks
    return run_all(names, seed, max(1, args.jobs), args.keep)
