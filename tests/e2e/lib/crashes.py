"""Crashes of a real mount under a random workload of several threads, each checked against its model.

    victim = Victim(t, volume, t.seed)                     # `work/0`, `work/1`, ...: a directory and a History per thread
    victim.round({"JFS_FAULT": "journal.swap:3:kill"})     # mounts, works until the daemon is dead, recovers, compares
    victim.finish()                                        # drains; an empty cache must see the same, the volume is sound

    run = CutRun(t, "xfs", t.seed); run.work(200); run.stop(); run.cuts(20)     # power cuts of one recorded run

A crash of the daemon must leave exactly what was acknowledged (an operation in flight may have happened); a power cut of
each thread's history a prefix with all that was synced, and the prefixes must fit each other: what was answered before an
operation was asked for that survived has survived too. Violation says so, with the seed; `program` of it is what happened,
as one sequence, for shrink.py."""
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading

from core import BUILD, ROOT, Test, children_of, wait_until
from faults import TcpFault
from model import History, Mismatch, tree_of
from servers import RedisServer
from volume import JFS, JFS_RECOVER, Mount, Volume, reap

sys.path.insert(0, os.path.join(ROOT, "fault-injection"))
import powercut  # noqa: E402

SEAM = os.path.join(BUILD, "fault-injection", "libseam.so")
CRASH = ("crash",)


class Violation(AssertionError):
    """A promise was broken. `program`: [(thread, operation)], crashes included."""

    def __init__(self, text, program):
        super().__init__(text)
        self.program = program


# What a broken promise looks like: the model disagrees, the mount answers EIO, a command or a check of the volume fails.
BROKEN = (AssertionError, OSError)


def fault_points():
    """The names of all fault points, from the source."""
    names = set()
    for room in ("util", "journal", "redis", "s3", "daemon", "recovery"):
        for name in sorted(os.listdir(os.path.join(ROOT, room))):
            if name.endswith(".c"):
                with open(os.path.join(ROOT, room, name), encoding="utf-8") as f:
                    names |= set(re.findall(r'FAULT_(?:POINT|ERR|NAME)\("([^"]+)"\)', f.read()))
    return sorted(names)


@contextlib.contextmanager
def apart(t, name):
    """A Test of its own inside of one, for something that is done many times: nothing of it stays but its logs."""
    folder = t.folder(f"{os.path.basename(t.dir)}-{name}")
    sub = Test(t.name, folder, t.seed)
    try:
        yield sub
    finally:
        sub.stack.close()
        with contextlib.suppress(OSError):
            os.rename(sub.log_dir, os.path.join(t.log_dir, os.path.basename(folder)))
        shutil.rmtree(folder)


class Workers:
    """Threads with a directory and a History each."""

    def __init__(self, seed, count=3, max_files=40):
        self.histories = [History(f"{seed}/{i}", max_files=max_files) for i in range(count)]
        self.crashes = []  # how many operations each thread had done at each crash

    def make_folders(self, work):
        os.mkdir(work)
        for i in range(len(self.histories)):
            os.mkdir(f"{work}/{i}")

    def operations(self):
        return sum(len(h.ops) for h in self.histories)

    def run(self, work, count, on_ack=None):
        """`count` operations in each thread. True if all were answered, False if the mount went away."""
        results = [None] * len(self.histories)

        def body(i):
            try:
                results[i] = self.histories[i].run(f"{work}/{i}", count, on_ack and (lambda h: on_ack(i, h)))
            except BaseException as e:  # raised again in the test's thread
                results[i] = e
        threads = [threading.Thread(target=body, args=(i,)) for i in range(len(self.histories))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for result in results:
            if isinstance(result, BROKEN):
                raise Violation(str(result), self.program()) from result
            if isinstance(result, BaseException):
                raise result
        return all(results)

    def run_one(self, work, i, op):
        """One operation of thread i, here and now."""
        history = self.histories[i]
        history.program = [op]
        try:
            if not history.run(f"{work}/{i}", 1):
                raise Violation(f"the mount went away in {op}", self.program())
        except BROKEN as e:
            raise Violation(str(e), self.program()) from e

    def close(self):
        """Gives the handles up: they keep a mount busy."""
        for history in self.histories:
            if history.model.handles:
                history.note(CRASH)
                history.real.close()

    def resume(self, work):
        """After the daemon's death: everything acknowledged is there, and nothing else."""
        self.crashes.append([len(h.ops) for h in self.histories])
        try:
            trees = [tree_of(f"{work}/{i}") for i in range(len(self.histories))]
            for history, tree in zip(self.histories, trees):
                history.resume(tree)
        except BROKEN as e:
            raise Violation(str(e), self.program(in_flight=True)) from e

    def program(self, in_flight=False):
        """All operations in the order in which they were asked for, with the crashes between them."""
        out, done = [], [0] * len(self.histories)
        for upto in [*self.crashes, [len(h.ops) for h in self.histories]]:
            steps = [(h.times[k][0], i, h.ops[k]) for i, h in enumerate(self.histories) for k in range(done[i], upto[i])]
            out += [(i, op) for _, i, op in sorted(steps, key=lambda s: s[:2]) if op != CRASH] + [(0, CRASH)]
            done = upto
        if in_flight:
            out[-1:-1] = [(i, h.in_flight) for i, h in enumerate(self.histories) if h.in_flight]
        return out


def loop_folder(t, megabytes, fs="ext4"):
    """A file system of its own, as a folder."""
    image, where = t.path("disk.img"), t.folder("disk")
    with open(image, "wb") as f:
        f.truncate(megabytes << 20)
    subprocess.run([*powercut.MKFS[fs], image], check=True, stdout=subprocess.DEVNULL)
    t.enter(powercut.loop_mount(image, where, fs))
    return where


class Prefixes:
    """Which prefixes of a history a tree shows; what a lookup cannot tell is compared one by one."""

    def __init__(self, history):
        self.history, self.known = history, {}
        model = history.state_after(0)
        for count in range(len(history.ops) + 1):
            if count:
                model.apply(history.ops[count - 1])
            self.known.setdefault(frozenset(model.tree().items()), []).append(count)

    def of(self, tree):
        return self.known.get(frozenset(tree.items())) or self.history.prefixes(tree)


def packing(seed):
    """Every other life puts small files together into shared objects."""
    return ["--pack-below=" + ("64K" if random.Random(f"{seed}/pack").random() < 0.5 else "0")]


class Victim:
    """A mount that is killed again and again. `rounds`, `kills`, `recovery_kills`, `missed` (the fault was not met) count."""

    def __init__(self, t, volume, seed, *options, threads=3, cache=None, query="", port=None):
        self.t, self.volume, self.seed = t, volume, seed
        self.workers = Workers(seed, threads)
        self.m = Mount(t, volume, "--writeback", "--retention=1s", *packing(seed), *options, cache=cache, start=False,
                       query=query, port=port)
        self.rounds = self.kills = self.recovery_kills = self.missed = 0
        self.work = self.m.path("work")
        self.mount()
        self.workers.make_folders(self.work)
        self.end_daemon(signal.SIGKILL)
        self.recover()

    def try_mount(self, env=None):
        """True: mounted, and the daemon was alive then. False: the daemon died on the way."""
        before = children_of(os.getpid())
        text = self.t.run(*self.m.command(), status=None, env=env)
        new = [p for p in children_of(os.getpid()) if p not in before]
        assert len(new) <= 1, f"{len(new)} processes after jfs mount"
        if self.t.status == 0:
            self.m.pid = new[0]
            return True
        for pid in new:
            status = wait_until(lambda: reap(pid), what="the end of a daemon that did not mount")[1]
            assert status is not None and (not os.WIFSIGNALED(status) or os.WTERMSIG(status) == signal.SIGKILL), text
        assert env, f"recovery failed, seed {self.seed}: {text}"
        return False

    def mount(self):
        assert self.try_mount(), "the mount did not come up"

    def end_daemon(self, number=None):
        """Waits for the daemon's end, by this signal or by itself; anything but SIGKILL or a clean exit is a violation."""
        if self.m.pid is None:  # it has not come up
            return True
        if number is not None:
            with contextlib.suppress(ProcessLookupError):
                self.m.signal(number)
        status = self.m.wait_daemon()
        if status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            return True
        if not os.WIFEXITED(status) or os.WEXITSTATUS(status) != 0:
            raise Violation(f"seed {self.seed}: the daemon ended with wait status {status}", self.workers.program())
        return False

    def recover_tool(self, env=None):
        text = self.t.run(JFS_RECOVER, "replay", "--apply", "--cache-dir", self.m.cache, "--hot-dir", self.m.hot,
                          self.volume.url(), status=None, env=env, timeout=60)
        if not env and self.t.status not in (0, 1):
            raise Violation(f"seed {self.seed}: jfs-recover replay ended with {self.t.status}: {text}",
                            self.workers.program())

    def detach(self):
        """What an operator does with a dead mount."""
        subprocess.run(["umount", "-l", self.m.dir], stderr=subprocess.DEVNULL, check=False)

    def recover(self, interrupted=(), tool=False):
        """Mounts (after attempts that are killed: `interrupted` are their environments), compares."""
        self.detach()
        for env in interrupted:
            if tool:
                self.recover_tool(env)
                self.recovery_kills += self.t.status not in (0, 1, 2)
            elif self.try_mount(env):
                self.recovery_kills += self.end_daemon(signal.SIGKILL)
            else:
                self.recovery_kills += 1
            self.detach()
        if tool:
            self.recover_tool()
        try:
            self.mount()
        except BROKEN as e:
            raise Violation(str(e), self.workers.program(in_flight=True)) from e
        self.workers.resume(self.work)

    def round(self, env=None, count=60, after=None, interrupted=(), tool=False, drain=True):
        """One life of the daemon. It ends by the fault that `env` orders, or `after` that many seconds by SIGKILL; if
        neither has happened after `count` operations per thread, by a flush and an unmount on which the fault may strike
        too (drain=False: by SIGKILL right behind the last answer). The life before has ended in recover()."""
        self.rounds += 1
        self.end_daemon(signal.SIGKILL)
        self.detach()
        if self.try_mount(env):
            killer = None
            if after is not None:
                killer = threading.Timer(after, self.m.signal, (signal.SIGKILL,))
                killer.start()
            alive = self.workers.run(self.work, count)
            if killer:
                killer.join()
            elif alive and drain:
                self.workers.close()
                self.t.run(JFS, "flush", self.m.dir, status=None, timeout=60)
                self.t.run(JFS, "umount", self.m.dir, status=None, timeout=60)
            killed = self.end_daemon(signal.SIGKILL if alive and not drain and not killer else None)
            self.kills += killed
            self.missed += not killed
        else:
            self.kills += 1
        self.recover(interrupted, tool)

    def crash(self):
        """kill -9 now, whatever is going on."""
        self.kills += 1
        self.end_daemon(signal.SIGKILL)
        self.recover()

    def finish(self):
        """Everything reaches Redis and S3, and whoever mounts the volume with an empty cache sees what the model holds."""
        self.workers.close()
        try:
            self.m.umount(flush=True)
            self.volume.check()
            other = Mount(self.t, self.volume, name="other")
            for i, history in enumerate(self.workers.histories):
                history.check_exact(tree_of(other.path("work", str(i))))
            other.umount(flush=True)
            left = self.volume.sessions()
            assert not left, f"sessions that nobody ends are left: {left}"
        except BROKEN as e:
            raise Violation(f"after draining: {e}", self.workers.program()) from e


def interval(seed):
    """Half of all runs flush so rarely that what was synced is in the sync log and nowhere else."""
    return ("--sync-interval", "5s") if random.Random(f"interval {seed}").random() < 0.5 else ()


class CutRun:
    """A recorded run on a disk that can be cut. Kinds:

    offline   Redis is away while the workload runs: every point of the disk's history is a possible cut. No hot directory.
    online    Redis and S3 follow; the cut comes at the last instant. No hot directory (P4: a journal behind Redis is refused).
    device    The machine stays up and the disk comes back without what it had not flushed: the hot directory is there."""

    def __init__(self, t, fs, seed, kind="offline", threads=3, env=None):
        self.t, self.seed, self.kind = t, seed, kind
        self.redis = RedisServer(t)
        t.defer(self.redis.kill)
        self.volume = Volume(t, self.redis).format("--trash-days", "0")
        self.net = t.enter(TcpFault(self.redis.port))
        self.disk = t.enter(powercut.PowerCutDisk(size_mb=1024, fs=fs))
        cache = os.path.join(self.disk.dir, "cache")
        os.mkdir(cache, 0o700)
        self.m = Mount(t, self.volume, "--writeback", *packing(seed), *interval(seed), cache=cache, port=self.net.port, env=env)
        self.workers = Workers(seed, threads)
        self.work_dir = self.m.path("work")
        self.workers.make_folders(self.work_dir)
        self.m.flush()
        self.start = self.disk.records()
        self.lengths, self.done = [], 0
        if kind == "offline":
            self.net("refuse")

    def options(self):
        return ["--offline"] if self.kind == "offline" else []

    def mark(self, i, history):
        self.disk.mark(f"{i} {history.synced}")

    def work(self, count):
        if not self.workers.run(self.work_dir, count, self.mark):
            raise Violation("the mount went away without a cut", self.workers.program(in_flight=True))

    def kill_and_go_on(self):
        self.m.kill()
        self.m.mount(*self.options())
        self.workers.resume(self.work_dir)

    def stop(self):
        """The instant of the cut, or the last possible one."""
        self.m.freeze()
        self.last = self.disk.records() - 1
        self.m.kill()
        for history in self.workers.histories:
            if history.real:
                history.real.close()
        self.hot = self.t.path("hot-kept")
        shutil.copytree(self.m.hot, self.hot)
        self.keys = self.volume.keys()
        self.objects = self.t.path("objects-kept")
        shutil.copytree(self.volume.bucket, self.objects)
        self.clean_up()
        self.disk.unmount()
        self.prefixes = [Prefixes(h) for h in self.workers.histories]

    def clean_up(self):
        subprocess.run(["umount", "-l", self.m.dir], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(self.m.hot, ignore_errors=True)

    def restore(self):
        self.volume.put_back(self.keys)
        shutil.rmtree(self.volume.bucket)
        shutil.copytree(self.objects, self.volume.bucket)
        if self.kind == "device":
            shutil.copytree(self.hot, self.m.hot)

    def cuts(self, count, rng, deep_every=8):
        """`count` cuts at random; every `deep_every`th is drained too, and looked at from elsewhere."""
        for n in range(count):
            self.cut(rng.getrandbits(32), deep=self.kind != "offline" and n % deep_every == 0)

    def cut(self, seed, deep=False):
        self.restore()
        take = self.disk.cut(seed, self.start, self.last + 1, where=self.disk.dir) if self.kind == "offline" \
            else self.disk.at(seed, self.last, where=self.disk.dir)
        with take as image:
            try:
                self.m.mount(*self.options())
                trees = [tree_of(f"{self.work_dir}/{i}") for i in range(len(self.workers.histories))]
                lengths = self.compare(trees, image.marks)
                if deep:
                    self.look_from_elsewhere(trees)
            except BROKEN as e:
                raise Violation(f"cut seed {seed} of run {self.seed}, {image.info}: {e}", self.workers.program()) from e
            finally:
                if self.m.pid is not None:
                    self.m.kill()
                self.clean_up()
        self.lengths.append(lengths)
        self.done += 1

    def compare(self, trees, marks):
        """A prefix of each thread's history with all that it synced, and prefixes that fit each other."""
        synced = [0] * len(trees)
        for mark in marks:
            i, n = map(int, mark.split())
            synced[i] = n
        found = []
        for i, tree in enumerate(trees):
            lengths = self.prefixes[i].of(tree)
            if max(lengths) < synced[i]:
                raise Mismatch(f"thread {i}: only the first {max(lengths)} operations survived, {synced[i]} were synced")
            found.append(lengths)
        fit([h.times for h in self.workers.histories], found)
        return [max(lengths) for lengths in found]

    def look_from_elsewhere(self, trees):
        self.m.umount(flush=True)
        self.volume.check()
        other = Mount(self.t, self.volume, name="other")
        seen = [tree_of(other.path("work", str(i))) for i in range(len(trees))]
        other.umount(flush=True)
        if seen != trees:
            raise Mismatch("what was drained differs from what was recovered")


def fit(times, found):
    """P3 over several threads. `times`: [(asked, answered)] of each thread; `found`: the prefixes that each may show."""
    newest = max((times[i][min(lengths) - 1][0] for i, lengths in enumerate(found) if min(lengths)), default=0)
    for i, lengths in enumerate(found):
        needed = sum(answered < newest for _, answered in times[i])
        if max(lengths) < needed:
            raise Mismatch(f"thread {i} kept {max(lengths)} operations, but {needed} were answered before an operation of "
                           "another thread was asked for that survived")
