#!/usr/bin/env python3
"""Crashes: kill -9 loses nothing that was acknowledged (P1), a power cut nothing that was synced, and leaves a prefix
(P2, P3), with Redis never ahead of what survived (P4)."""
import os
import shutil
import signal
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "lib"), os.path.join(HERE, "..", "..", "fault-injection")]
import powercut  # noqa: E402
from harness import *  # noqa: E402,F403
from model import History, tree_diff, tree_of  # noqa: E402

NEEDS = ("root", "fuse", "jfs", "tools")
CUTS = 12


class NoVolume:
    s3 = None

    @staticmethod
    def url(_query="", _port=None):
        return "redis://127.0.0.1:1/0"


def run_until_killed(t, m, history, seconds):
    """Lets the workload run until the daemon is killed in the middle of it."""
    timer = threading.Timer(seconds, m.signal, (signal.SIGKILL,))
    timer.start()
    while history.run(m.path("work"), 20):
        pass
    timer.join()
    m.wait_daemon()


def drained_tree(t, volume, m):
    """What another host sees after umount --flush: the tree by an empty cache."""
    m.umount(flush=True)
    other = Mount(t, volume, name="other")
    tree = tree_of(other.path("work"))
    other.umount(flush=True)
    return tree


@test(timeout=300, needs=NEEDS)
def p1_kill_9_keeps_every_acknowledged_operation(t):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback")
    os.mkdir(m.path("work"))
    history = History(t.seed)
    for _ in range(8):
        run_until_killed(t, m, history, t.rng.uniform(0.02, 0.8))
        m.mount()
        history.resume(tree_of(m.path("work")))
    t.note(len(history.ops), "operations")
    assert not tree_diff(drained_tree(t, volume, m), history.model.tree())


@test(timeout=60, needs=NEEDS)
def a_kill_right_behind_the_registration_leaves_no_session(t):
    """The first session of a journal, and one after a clean end: Redis has given the number, the journal has not noted it."""
    volume = Volume(t, RedisServer(t)).format()
    m = Mount(t, volume, "--writeback", start=False)
    for _ in range(2):
        for _ in range(2):
            t.run(*m.command(), status=None, env={"JFS_FAULT": "session.start.after:1:kill"})
            assert t.status and len(volume.sessions()) == 1, (t.status, volume.sessions())
        m.mount()
        assert len(volume.sessions()) == 1, volume.sessions()
        m.umount(flush=True)
        assert not volume.sessions(), volume.sessions()


class CutMount:
    """A mount whose cache directory lies on a disk that can be cut."""

    def __init__(self, t, disk, volume, *options, port=None):
        self.t, self.disk = t, disk
        cache = os.path.join(disk.dir, "cache")
        os.mkdir(cache, 0o700)
        self.m = Mount(t, volume, "--writeback", *options, cache=cache, port=port)
        os.mkdir(self.m.path("work"))
        self.m.flush()  # the state from which the model starts is in Redis
        self.history = History(t.seed)
        self.start = disk.records()

    def run(self, count):
        def on_ack(h):
            self.disk.mark(f"{len(h.ops)} {h.synced}")
        assert self.history.run(self.m.path("work"), count, on_ack)

    def cut_power(self):
        """Returns the number of the last record that the disk saw while the daemon lived."""
        self.m.freeze()
        last = self.disk.records() - 1
        self.m.kill()
        self.clean_up()
        self.disk.unmount()
        return last

    def clean_up(self):
        subprocess.run(["umount", "-l", self.m.dir], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(self.m.hot, ignore_errors=True)  # it was memory

    def check(self, image, *options):
        """Mounts what the cut left and compares. Returns how many operations survived."""
        synced = int(image.marks[-1].split()[1]) if image.marks else 0
        self.m.mount(*options)
        try:
            return self.history.check_prefix(tree_of(self.m.path("work")), at_least=synced)
        finally:
            self.m.kill()
            self.clean_up()


@test(timeout=300, needs=NEEDS)
def p2_p3_power_cut_leaves_a_prefix_with_all_that_was_synced(t):
    """Redis is away while the workload runs, so any point of the disk's history is a possible cut."""
    redis = RedisServer(t)
    volume = Volume(t, redis).format("--trash-days", "0")
    net = t.enter(TcpFault(redis.port))
    disk = t.enter(powercut.PowerCutDisk(size_mb=1024))
    c = CutMount(t, disk, volume, port=net.port)
    net("refuse")
    c.run(600)
    last = c.cut_power()
    lengths = []
    for _ in range(CUTS):
        with disk.cut(t.rng.getrandbits(32), c.start, last + 1, where=disk.dir) as image:
            lengths.append(c.check(image, "--offline"))
    t.note("prefixes", sorted(lengths))
    assert len(set(lengths)) > 1, "all cuts found the same state: nothing was cut"


@test(timeout=300, needs=NEEDS)
def p4_redis_is_never_ahead_of_what_survives_a_power_cut(t):
    """Redis follows the workload; the cut comes at its last instant. A Redis ahead of the journal is refused at mount."""
    redis = RedisServer(t)
    volume = Volume(t, redis).format("--trash-days", "0")
    disk = t.enter(powercut.PowerCutDisk(size_mb=1024))
    c = CutMount(t, disk, volume)
    c.run(600)
    last = c.cut_power()
    keys = volume.keys()
    for _ in range(CUTS):
        volume.put_back(keys)
        with disk.at(t.rng.getrandbits(32), last, where=disk.dir) as image:
            c.check(image)


@test(timeout=120, needs=NEEDS)
def p2_after_the_cache_directory_was_copied_by_reflink(t):
    """On XFS `cp` shares blocks, and what is written then to the segment under the copy goes elsewhere: that it does must have
    reached the disk before an fsync is answered."""
    disk = t.enter(powercut.PowerCutDisk(size_mb=512, fs="xfs", mkfs_opts=("-m", "reflink=1")))
    m = Mount(t, NoVolume, "--local-only", "--log", t.path("log"), cache=os.path.join(disk.dir, "cache"), start=False)
    os.mkdir(m.cache, 0o700)
    m.mount()
    with open(m.path("file"), "wb", buffering=0) as f:
        for _ in range(200):
            os.pwrite(f.fileno(), b"x" * 100, 0)
            os.fsync(f.fileno())
        t.run("cp", "-a", "--reflink=always", m.cache, os.path.join(disk.dir, "copy"))
        os.sync()  # nothing of what follows comes along with what the copy has left to be written
        for i in range(60):
            os.pwrite(f.fileno(), b"%06d" % i + b"y" * 2000, 0)
            os.fsync(f.fileno())
            disk.mark(i)
    m.kill()
    marks = disk.marks()
    disk.unmount()
    for record, i in marks[30::4]:
        subprocess.run(["umount", "-l", m.dir], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(m.hot, ignore_errors=True)
        with disk.at(t.rng.getrandbits(32), record, where=disk.dir):
            m.mount()
            with open(m.path("file"), "rb") as f:
                assert int(f.read(6)) >= int(i), i
            m.kill()
            subprocess.run(["umount", "-l", m.dir], check=True)


if __name__ == "__main__":
    sys.exit(main())
