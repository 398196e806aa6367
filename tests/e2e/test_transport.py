#!/usr/bin/env python3
"""How requests travel between kernel and daemon (daemon/transport.h): over rings the same as over the device.

Tests named ring_* turn FUSE over io_uring on in the kernel for the time of the run (lib/ring.py)."""
import errno
import json
import mmap
import os
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *  # noqa: E402, F403
import ring  # noqa: E402
import tree  # noqa: E402
from samework import play, play_all  # noqa: E402

NEEDS = ("root", "fuse", "jfs")
RING = (*NEEDS, "ring")
DEPTH = 128  # requests that a queue has room for (daemon/ring_queue.h)


class Nothing:
    """No volume: these mounts are --local-only."""
    s3 = None

    def url(self, query, port):
        return "local"


class Local(Mount):
    def __init__(self, t, *options, **more):
        self.log_file = os.path.join(t.log_dir, "daemon.log")
        super().__init__(t, Nothing(), "--local-only", "--log", self.log_file, *options, **more)

    def transport(self):
        with open(self.path(".config"), encoding="utf-8") as f:
            return json.load(f)["Transport"]

    def logged(self):
        with open(self.log_file, encoding="utf-8") as f:
            return f.read()


def threads(pid):
    """{number: name} of a process's threads."""
    out = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/comm", encoding="ascii") as f:
            out[task] = f.read().strip()
    return out


SERVING = ("jfs-fuse", "jfs-ring", "jfs-awake", "jfs-class")


def runs(pid):
    """How often the threads that serve requests were put on a CPU."""
    return {task: int(read(f"/proc/{pid}/task/{task}/schedstat").split()[2]) for task, name in threads(pid).items() if name in SERVING}


def wait_until_they_sleep(pid):
    def still():
        before = runs(pid)
        time.sleep(0.2)  # a thread that looks around every now and then is seen
        return before == runs(pid)
    wait_until(still, what="threads that sleep for good")


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


@test(timeout=30, needs=NEEDS)
def the_transport_is_shown(t):
    m = Local(t, "--transport=classic")
    assert m.transport() == "classic" and m.stats()["transport_io_uring"] == 0
    assert "transport  classic\n" in t.run(JFS, "status", m.dir)


@test(timeout=30, needs=RING)
def ring_is_shown(t):
    m = Local(t, "--transport=io_uring")
    assert m.transport() == "io_uring" and m.stats()["transport_io_uring"] == 1
    assert m.stats()["transport_threads"] == os.cpu_count()
    assert "transport  io_uring\n" in t.run(JFS, "status", m.dir)
    m.options[-1] = "--transport=auto"
    m.remount()
    m.options.pop()
    if not os.environ.get("JFS_TEST_TRANSPORT"):
        m.remount()  # auto is the default
    assert m.transport() == "io_uring" and m.logged().count("event=transport name=io_uring") >= 2


# the same work

def contents(folder):
    found = tree.scan(folder)
    for node in found.values():
        for field in ("mtime", "ino", *(("size",) if node["type"] == "dir" else ())):
            node.pop(field, None)
    return found


@test(timeout=120, needs=RING)
def ring_does_the_same_work(t):
    """Random operations by several processes, on a native file system, over the device and over rings."""
    native = t.folder("native")
    classic = Local(t, "--transport=classic", name="classic")
    rings = Local(t, "--transport=io_uring", name="rings")
    codes = [play_all(folder, t.seed) for folder in (native, classic.dir, rings.dir)]
    assert codes[0] == codes[1] == codes[2], codes
    failed = sum(c != 0 for player in codes[0] for c in player)
    assert 30 < failed < 200, f"{failed} of 240 operations failed"
    expected = contents(native)
    for m in (classic, rings):
        for _ in range(2):
            for i in range(3):
                tree.assert_same(contents(f"{native}/p{i}"), contents(m.path(f"p{i}")), m.name)
            m.remount()
    assert len(expected) > 20
    assert rings.transport() == "io_uring"


@test(timeout=60, needs=RING)
def ring_carries_every_size(t):
    """Names, targets and xattrs as long as may be, writes and reads around the size of a request, a long directory."""
    m = Local(t, "--transport=io_uring")
    for n in (1, 4095, 4096, 4097, 131072, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20):
        d = t.rng.randbytes(n)
        write(m.path("f"), d)
        fd = os.open(m.path("f"), os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.read(fd, n + 1) == d, n
        os.close(fd)
        try:
            fd = os.open(m.path("f"), os.O_RDONLY | os.O_DIRECT)
            with mmap.mmap(-1, 2 << 20) as page:
                assert os.preadv(fd, [page], 0) == min(n, 2 << 20) and page[:min(n, 2 << 20)] == d[:2 << 20], n
        finally:
            os.close(fd)
    os.symlink("t" * 4000, m.path("l"))
    assert os.readlink(m.path("l")) == "t" * 4000
    os.setxattr(m.path("f"), "user.big", b"v" * 60000)
    assert os.getxattr(m.path("f"), "user.big") == b"v" * 60000
    names = sorted(f"{i:04}" + "n" * 251 for i in range(800))
    os.mkdir(m.path("d"))
    for name in names:
        write(m.path("d", name), b"")
    m.remount()
    assert sorted(os.listdir(m.path("d"))) == names
    assert os.readlink(m.path("l")) == "t" * 4000


class OnOneCpu(Local):
    def command(self, *extra):
        return ["taskset", "-c", str(min(os.sched_getaffinity(0))), *super().command(*extra)]


@test(timeout=60, needs=RING)
def ring_keeps_to_the_cpus_it_may_use(t):
    """A queue's thread lies on its queue's CPU, but not on one that whoever started the daemon keeps it from."""
    def cpus(m):
        return sorted(sorted(os.sched_getaffinity(int(task))) for task, name in threads(m.pid).items() if name == "jfs-ring")
    m = Local(t, "--transport=io_uring")
    assert cpus(m) == [[cpu] for cpu in sorted(os.sched_getaffinity(0))]
    one = OnOneCpu(t, "--transport=io_uring", name="one")
    assert cpus(one) == [[min(os.sched_getaffinity(0))]] * len(cpus(m))
    assert play_all(m.dir, t.seed) == play_all(one.dir, t.seed)


class Batch(Local):
    def command(self, *extra):
        return ["chrt", "--batch", "0", *super().command(*extra)]


def classes(pid):
    """{name of a thread: its scheduling classes}"""
    found = {}
    for task, name in threads(pid).items():
        found.setdefault(name, set()).add(os.sched_getscheduler(int(task)))
    return found


@test(timeout=60, needs=RING)
def ring_threads_are_in_a_class(t):
    """That of the daemon, or SCHED_IDLE while they have much to do; ordinary again without work. No other thread ever is."""
    m = Local(t, "--transport=io_uring")
    assert play_all(m.dir, t.seed)
    seen = classes(m.pid)
    assert seen.pop("jfs-ring") <= {os.SCHED_OTHER, os.SCHED_IDLE} and "jfs-class" in seen
    assert set().union(*seen.values()) == {os.SCHED_OTHER}, seen
    wait_until(lambda: classes(m.pid)["jfs-ring"] == {os.SCHED_OTHER}, what="the ordinary class")
    wait_until_they_sleep(m.pid)
    batch = Batch(t, "--transport=io_uring", name="batch")
    assert play_all(batch.dir, t.seed)
    assert set().union(*classes(batch.pid).values()) == {os.SCHED_BATCH} and "jfs-class" not in classes(batch.pid)
    for log in (m.logged(), batch.logged()):
        assert "level=warn" not in log and "level=error" not in log, log


def placed(pid):
    """(scheduling class, CPUs) of the threads that serve."""
    return {(os.sched_getscheduler(int(task)), frozenset(os.sched_getaffinity(int(task)))) for task, name in threads(pid).items()
            if name in SERVING}


def busy(folder, count):
    for i in range(count):
        path = os.path.join(folder, f"f{i % 100}")
        with open(path, "wb") as f:
            f.write(b"x" * 1024)
        os.stat(path)
        os.unlink(path)


@test(timeout=120, needs=NEEDS)
def one_caller_is_followed_and_let_go(t):
    """One process with much to do, then several, again and again: they are all served, and afterwards every thread is as it was."""
    m = Local(t, "--transport=classic")
    before = placed(m.pid)
    assert len(before) == 1 and next(iter(before))[0] == os.SCHED_OTHER
    for turn in range(3):
        busy(m.dir, 2000)
        folders = [m.path(f"{turn}.{i}") for i in range(4)]
        processes = []
        for folder in folders:
            os.mkdir(folder)
            pid = os.fork()
            if pid == 0:
                try:
                    busy(folder, 500)
                    os._exit(0)
                finally:
                    os._exit(1)
            processes.append(pid)
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in processes] == [0] * 4
    wait_until(lambda: placed(m.pid) == before, what="threads as they were")
    wait_until_they_sleep(m.pid)
    assert sorted(os.listdir(m.dir)) == sorted(f"{turn}.{i}" for turn in range(3) for i in range(4))
    busy(m.dir, 200)
    m.umount()
    assert "level=warn" not in m.logged() and "level=error" not in m.logged(), m.logged()


# who waits

FSYNC = b"74 "


class Waiter:
    """A process in an fsync that never ends: data waits for S3, and there is none."""

    def __init__(self, t, path):
        self.pid = os.fork()
        if self.pid == 0:
            signal.signal(signal.SIGUSR1, lambda *_: None)
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT)
                os.write(fd, b"x")
                os.fsync(fd)
            except OSError:
                os._exit(1)
            os._exit(0)
        self.status = None
        t.defer(self.kill)

    def in_fsync(self):
        return read(f"/proc/{self.pid}/syscall").startswith(FSYNC)

    def ended(self):
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status is not None

    def wait(self):
        wait_until(self.ended, what="the end of the waiting process")
        return self.status

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        if not self.ended():
            self.signal(signal.SIGKILL)
            self.wait()


def start_waiters(t, m, count):
    out = [Waiter(t, m.path(f"w{i}")) for i in range(count)]
    for p in out:
        wait_until(p.in_fsync, 60, "the process in fsync")
    return out


@test(timeout=60, needs=RING)
def ring_interrupts(t):
    """A caller that waits can be killed, and only killed, on every CPU; others go on meanwhile."""
    m = Local(t, "--transport=io_uring", "--data-waits")
    waiting = start_waiters(t, m, 6)
    for p in waiting[:2]:
        p.signal(signal.SIGUSR1)
    os.mkdir(m.path("later"))  # than the signals' interrupt requests
    for p in waiting[:2]:
        wait_until(p.in_fsync, what="the process in fsync again")
    for p in waiting[:5]:
        p.signal(signal.SIGKILL)
    for p in waiting[:5]:
        assert p.wait() == -signal.SIGKILL
    assert not waiting[5].ended()
    os.mkdir(m.path("later/d"))


@test(timeout=60, needs=RING)
def ring_interrupts_in_a_storm(t):
    """Signals at any moment: an interrupt request may overtake its request, or come after its answer."""
    m = Local(t, "--transport=io_uring", "--sync-interval", "1ms")
    stop = threading.Event()
    program = ("import os, signal, sys\nsignal.signal(signal.SIGUSR1, lambda *a: None)\nn = 0\n"
               "open(sys.argv[3], 'w').close()\n"
               "while os.getppid() != 1:\n"
               "    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)\n"
               "    os.write(fd, b'x' * 5000)\n    os.fsync(fd)\n    os.close(fd)\n    os.unlink(sys.argv[1])\n    n += 1\n"
               "    if os.path.exists(sys.argv[2]): sys.exit(n == 0)\n")
    workers = [subprocess.Popen([sys.executable, "-Sc", program, m.path(f"f{i}"), t.path("stop"),
                                 t.path(f"ready{i}")]) for i in range(4)]
    for i, p in enumerate(workers):
        t.defer(p.kill)
        wait_until(lambda i=i: os.path.exists(t.path(f"ready{i}")), what="a process that takes the signal")

    def storm():
        while not stop.is_set():
            for p in workers:
                p.send_signal(signal.SIGUSR1)
            stop.wait(t.rng.random() / 500)
    wait_until(lambda: m.stats().get("fuse_ops_total_fsync", 0) > 20, what="work")
    thread = threading.Thread(target=storm)
    thread.start()
    wait_until(lambda: m.stats().get("fuse_ops_total_fsync", 0) > 500, what="more work")
    stop.set()
    thread.join()
    write(t.path("stop"), b"")
    ends = [p.wait(30) for p in workers]
    assert ends == [0] * 4, ends
    assert os.listdir(m.dir) == []
    assert "level=error" not in m.logged()


@test(timeout=60, needs=RING)
def ring_has_room_for_many_that_wait(t):
    m = Local(t, "--transport=io_uring", "--data-waits")
    waiting = start_waiters(t, m, DEPTH // 2)
    os.mkdir(m.path("d"))
    os.rename(m.path("d"), m.path("e"))
    assert len(os.listdir(m.dir)) == len(waiting) + 1
    m.signal(signal.SIGTERM)  # busy: the daemon detaches the mount and ends
    m.wait_daemon()
    for p in waiting:
        assert p.wait() == 1
    m.mount()
    assert len(os.listdir(m.dir)) == len(waiting) + 1


# how it ends

def connection(m):
    return f"/sys/fs/fuse/connections/{os.minor(os.stat(m.dir).st_dev)}"


@test(timeout=60, needs=RING)
def ring_is_aborted(t):
    """The operator's way out: callers get their error, the daemon ends, and what was acknowledged is there again."""
    m = Local(t, "--transport=io_uring", "--data-waits")
    waiting = start_waiters(t, m, 2)
    if not os.path.exists(connection(m)):
        t.run("mount", "-t", "fusectl", "fusectl", "/sys/fs/fuse/connections")
        t.defer(t.run, "umount", "/sys/fs/fuse/connections")
    write(os.path.join(connection(m), "abort"), b"1")
    for p in waiting:
        assert p.wait() == 1
    try:
        os.stat(m.path("w0"))
        raise AssertionError("an aborted mount answers")
    except OSError as e:
        assert e.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.ECANCELED), e
    m.wait_daemon()
    t.run("umount", "-l", m.dir)
    m.mount()
    assert sorted(os.listdir(m.dir)) == ["w0", "w1"]


def keep_writing(folder, pipe):
    """Files one after the other, each told when it was acknowledged, until the mount is gone."""
    os.mkdir(folder)
    for i in range(10**6):
        try:
            with open(f"{folder}/{i}", "wb", buffering=0) as f:
                f.write(b"%d" % i * 100)
        except OSError:
            return
        os.write(pipe, b".")


@test(timeout=60, needs=RING)
def ring_survives_kill(t):
    """kill -9 amid work: the callers get an error at once, and every acknowledged write is there after the next mount."""
    m = Local(t, "--transport=io_uring")
    for life in range(2):
        ends = []
        for i in range(4):
            r, w = os.pipe()
            pid = os.fork()
            if pid == 0:
                keep_writing(m.path(f"{life}-{i}"), w)
                os._exit(0)
            os.close(w)
            ends.append((pid, r))
        wait_until(lambda: m.stats().get("fuse_ops_total_create", 0) > 200, what="work")
        m.kill()
        for i, (pid, r) in enumerate(ends):
            assert os.waitpid(pid, 0)[1] == 0
            with os.fdopen(r, "rb") as f:
                ends[i] = len(f.read())
        t.run("umount", "-l", m.dir)
        m.mount()
        for i, acknowledged in enumerate(ends):
            for k in range(acknowledged):
                assert read(m.path(f"{life}-{i}/{k}")) == b"%d" % k * 100, (life, i, k)
    assert m.transport() == "io_uring"


@test(timeout=60, needs=RING)
def ring_unmounts_and_mounts_again(t):
    m = Local(t, "--transport=io_uring")
    for i in range(5):
        write(m.path(f"f{i}"), b"x" * i)
        t.run("umount", m.dir)
        m.mount()  # at once: the daemon of before may be closing yet
        assert len(os.listdir(m.dir)) == i + 1


# when there are none

def hiding(m, script, setup):
    """Runs `script` in a mount namespace of its own, in which `setup` was done. $@ is the mount command."""
    return m.t.run("unshare", "-m", "sh", "-ec", f"mount --make-rprivate /; umount -alt fuse.jfs; {setup}; {script}", "sh", *m.command())


@test(timeout=60, needs=RING)
def ring_that_is_off_is_explained(t):
    """Demanded: an error before anything is mounted, with the remedy. auto: the classic way, and the log says why."""
    write(t.path("N"), b"N\n")
    off = f"mount --bind {t.path('N')} {ring.PARAMETER}"
    m = Local(t, "--transport=io_uring", start=False)
    text = hiding(m, 'if "$@"; then exit 1; fi', off)
    assert text.startswith("jfs mount: --transport=io_uring: FUSE over io_uring is turned off") and ring.PARAMETER in text
    assert text.count("\n") == 1 and "fuse.enable_uring=1" in text, text
    assert not m.is_mounted() and not os.listdir(m.cache)
    text = hiding(m, 'if "$@"; then exit 1; fi', f"mount -t tmpfs none {os.path.dirname(ring.PARAMETER)}")
    assert "this kernel has no FUSE over io_uring" in text, text
    m.options[-1] = "--transport=auto"
    text = hiding(m, f'"$@"; grep Transport {m.path(".config")}; {JFS} umount {m.dir}', off)
    assert '"Transport": "classic"' in text
    assert 'name=classic' in m.logged() and "fuse.enable_uring=1" in m.logged()


WITHOUT_URING = """
import ctypes, os, struct, sys
# load the number of the call; is it io_uring_setup? EPERM : allow
program = b"".join(struct.pack("HBBI", *i) for i in ((0x20, 0, 0, 0), (0x15, 0, 1, 425), (6, 0, 0, 0x50001), (6, 0, 0, 0x7fff0000)))
memory = ctypes.create_string_buffer(program)
fprog = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(memory)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(22, 2, fprog, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
"""


@test(timeout=60, needs=RING)
def ring_falls_back(t):
    """What auto does when the daemon may not use io_uring, and when the kernel refuses to register its queues: after INIT
    it is too late for another mount, and the classic loop takes over."""
    m = Local(t, "--transport=auto", "--ring-payload=4096")
    assert m.transport() == "classic" and "the kernel refuses our io_uring queues" in m.logged()
    play(m.path("p"), t.seed, 50)
    wait_until_they_sleep(m.pid)
    m.umount()
    m.options[-2:] = ["--transport=io_uring"]
    text = m.mount("--ring-payload=4096", status=1)
    assert "the kernel refuses our io_uring queues" in text, text
    m.mount()
    assert m.transport() == "io_uring" and os.listdir(m.path("p"))
    m.umount()

    text = t.run(sys.executable, "-c", WITHOUT_URING, *m.command(), status=1)
    assert "io_uring does not work here: Operation not permitted" in text, text
    assert not m.is_mounted()
    m.options[-1] = "--transport=auto"
    t.run(sys.executable, "-c", WITHOUT_URING, *m.command())
    assert m.transport() == "classic" and "io_uring does not work here: Operation not permitted" in m.logged()
    t.run(JFS, "umount", m.dir)


# --poll

LATENCY = "/dev/cpu_dma_latency"
POLL = (*NEEDS, "cpu_dma_latency")


def holds(pid):
    """Does the process keep CPUs from halting?"""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.readlink(f"/proc/{pid}/fd/{fd}") == LATENCY:
                return True
        except FileNotFoundError:
            pass
    return False


class Worker:
    """A process that makes and removes files without a pause."""

    def __init__(self, t, folder):
        self.pid = os.fork()
        if self.pid == 0:
            n = 0
            try:
                while os.getppid() != 1:
                    write(f"{folder}/w{n % 10}", b"x" * 100)
                    n += 1
                    if n % 10 == 0:
                        for i in range(10):
                            os.unlink(f"{folder}/w{i}")
            except OSError:
                os._exit(1)
            os._exit(0)
        t.defer(self.stop)

    def stop(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0


def polls_during_bursts(t, transport):
    m = Local(t, f"--transport={transport}", "-o", "poll")
    assert m.transport() == transport
    wait_until(lambda: not holds(m.pid), what="a daemon that lets CPUs halt")
    for _ in range(2):
        worker = Worker(t, m.dir)
        wait_until(lambda: holds(m.pid), what="a burst that keeps CPUs from halting")
        wait_until(lambda: m.stats()["transport_polls"] == 1, what="its showing in .stats")
        worker.stop()
        wait_until(lambda: not holds(m.pid), what="its end")

    assert {"jfs-awake", "jfs-fuse"} <= set(threads(m.pid).values())
    wait_until_they_sleep(m.pid)
    assert m.stats()["transport_polls"] == 0
    worker = Worker(t, m.dir)
    wait_until(lambda: holds(m.pid), what="a burst")
    m.kill()
    worker.stop()
    t.run("umount", "-l", m.dir)
    m.mount()
    assert len(os.listdir(m.dir)) <= 10
    worker = Worker(t, m.dir)
    wait_until(lambda: holds(m.pid), what="a burst")
    worker.stop()
    t.run("umount", "-l", m.dir)
    m.wait_daemon()


@test(timeout=60, needs=POLL)
def poll_lasts_as_long_as_a_burst(t):
    polls_during_bursts(t, "classic")


@test(timeout=60, needs=(*RING, "cpu_dma_latency"))
def ring_polls_during_bursts(t):
    polls_during_bursts(t, "io_uring")


@test(timeout=60, needs=POLL)
def poll_goes_on_beside_threads_that_sleep(t):
    """One thread reads at a time: when it sleeps in a write, another one reads in its stead, and so on."""
    write(t.path("hold"), b"")
    m = Local(t, "--transport=classic", "--poll", env={"JFS_FAULT": "staging.append.before:1:wait,staging.append.before:2:wait",
                                                       "JFS_FAULT_WAIT": t.path("hold")})
    writers = []
    for i in range(2):
        pid = os.fork()
        if pid == 0:
            write(m.path(f"f{i}"), b"x" * 5000)
            os._exit(0)
        writers.append(pid)
        wait_until(lambda i=i: os.path.exists(m.path(f"f{i}")), what="its file")
    for i in range(300):
        os.mkdir(m.path(f"d{i}"))
    assert len(os.listdir(m.dir)) == 302
    assert all(os.waitpid(pid, os.WNOHANG) == (0, 0) for pid in writers)
    os.unlink(t.path("hold"))
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in writers)
    assert all(read(m.path(f"f{i}")) == b"x" * 5000 for i in range(2))


@test(timeout=60, needs=POLL)
def poll_does_the_same_work(t):
    """Random operations by several processes: as on a native file system."""
    native = t.folder("native")
    m = Local(t, "--transport=classic", "--poll")
    assert play_all(native, t.seed) == play_all(m.dir, t.seed)
    for _ in range(2):
        for i in range(3):
            tree.assert_same(contents(f"{native}/p{i}"), contents(m.path(f"p{i}")), m.name)
        m.remount()


@test(timeout=60, needs=POLL)
def poll_that_cannot_be_is_explained(t):
    m = Local(t, "--poll", start=False)
    text = hiding(m, 'if "$@"; then exit 1; fi', f"mount --bind /dev/full {LATENCY}")
    assert text.startswith(f"jfs mount: --poll: cannot keep CPUs from halting: {LATENCY}: No space left on device"), text
    assert "root" in text and text.count("\n") == 1, text
    assert not m.is_mounted() and not os.listdir(m.cache)


if __name__ == "__main__":
    if ring.missing():
        sys.exit(main())
    with ring.turned_on():
        sys.exit(main())
