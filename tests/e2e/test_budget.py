#!/usr/bin/env python3
"""P11: what happens as the local disk space that a mount may use runs out, while Redis or S3 are away and while they are not:
writers are slowed, then wait, then go on; whatever frees passes; nothing is lost, and nobody is lied to."""
import errno
import os
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "lib")]
from harness import *  # noqa: E402,F403

NEEDS = ("root", "fuse", "jfs")
MIB = 1 << 20
FULL = 2  # budget_state: writers wait


class Worker(threading.Thread):
    """Runs step(i) for i in 0, 1, ... n - 1; keeps what it raised."""

    def __init__(self, step, n):
        super().__init__(daemon=True)
        self.step, self.n, self.done, self.error = step, n, 0, None
        self.start()

    def run(self):
        try:
            for i in range(self.n):
                self.step(i)
                self.done = i + 1
        except OSError as e:
            self.error = e

    def finish(self, timeout=100):
        self.join(timeout)
        assert not self.is_alive(), f"still waiting after {self.done} of {self.n} steps"
        if self.error:
            raise self.error


def payload(i):
    return bytes([i % 251]) * (MIB - 7) + i.to_bytes(7, "big")


def write_file(path, data):
    with open(path, "wb") as f:
        f.write(data)


def mounted(t, *options, query=""):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", *options, query=query)
    # A call that waits in a directory holds the kernel's lock of it: what must pass meanwhile is done in another one.
    os.mkdir(m.path("w"))
    m.stats()
    return volume, m


def frees(m, name):
    """Unlink and truncate are not held up, nor is looking."""
    os.truncate(m.path(name), 1)
    os.unlink(m.path(name))
    assert name not in os.listdir(m.dir)


def same(m, n):
    for i in range(n):
        with open(m.path(f"w/f{i}"), "rb") as f:
            assert f.read() == payload(i), f"f{i} has other bytes"


@test(timeout=240, needs=NEEDS)
def h60_p11_staging_is_used_up_while_redis_is_away(t):
    volume, m = mounted(t, "--cache-size", "48")
    write_file(m.path("victim"), payload(0))
    m.flush()
    volume.redis.pause()
    w = Worker(lambda i: write_file(m.path(f"w/f{i}"), payload(i)), 80)
    wait_until(lambda: m.stats()["budget_state"] == FULL and m.stats()["budget_waiting"], 60, "a writer that waits")
    assert w.is_alive() and w.done < 60
    assert "writers wait" in t.run(JFS, "status", m.dir)
    frees(m, "victim")
    same(m, w.done)
    os.mkdir(m.path("a directory needs no staging"))
    assert w.is_alive()
    volume.redis.resume()
    w.finish()
    same(m, 80)
    m.umount(flush=True)
    volume.check()
    m.mount()
    same(m, 80)


@test(timeout=240, needs=NEEDS)
def h60_p11_a_killed_writer_goes_and_a_crash_loses_nothing(t):
    volume, m = mounted(t, "--cache-size", "48")
    volume.redis.pause()
    child = t.spawn("dd", "if=/dev/zero", f"of={m.path('w/big')}", "bs=1M", "count=100", name="dd")
    wait_until(lambda: m.stats()["budget_waiting"], 60, "a writer that waits")
    child.kill()
    child.wait(20)  # it does not hang in the kernel until Redis comes back
    with open(m.path("w/big"), "rb") as f:
        have = len(f.read())
    assert 0 < have < 100 * MIB
    volume.redis.resume()
    m.kill()
    m.t.run("umount", "-l", m.dir)
    m.mount()
    with open(m.path("w/big"), "rb") as f:
        assert len(f.read()) == have
    m.umount(flush=True)
    volume.check()


@test(timeout=240, needs=NEEDS)
def h60_p11_the_log_is_used_up_while_redis_is_away(t):
    volume, m = mounted(t, "--log-limit", str(2 * MIB), "--retention", "100ms")
    write_file(m.path("victim"), b"v")
    m.flush()
    volume.redis.pause()
    w = Worker(lambda i: write_file(m.path(f"w/f{i}"), b""), 12000)
    wait_until(lambda: m.stats()["budget_state"] == FULL and m.stats()["budget_waiting"], 100, "an operation that waits")
    assert w.is_alive()
    frees(m, "victim")
    assert w.is_alive()
    used = m.stats()["budget_log_used_bytes"]
    assert used < 4 * MIB, used
    volume.redis.resume()
    w.finish()
    assert len(os.listdir(m.path("w"))) == 12000
    m.umount(flush=True)
    volume.check()


@test(timeout=240, needs=NEEDS)
def h60_p11_inode_numbers_are_used_up_while_redis_is_away(t):
    volume, m = mounted(t, query="inode_batch=1000")
    write_file(m.path("victim"), b"v")
    m.flush()
    volume.redis.pause()
    w = Worker(lambda i: write_file(m.path(f"w/f{i}"), payload(i)[:100]), 6000)
    wait_until(lambda: m.stats()["workers_busy_ids"] > 0, 60, "a creation that waits")
    made = w.done
    with open(m.path("w/f1"), "r+b") as f:  # not O_CREAT: the kernel would lock the directory
        f.write(b"no number is needed")
    frees(m, "victim")
    assert w.is_alive() and w.done == made
    volume.redis.resume()
    w.finish()
    assert len(os.listdir(m.path("w"))) == 6000
    m.umount(flush=True)
    volume.check()


@test(timeout=240, needs=NEEDS)
def h61_an_unlinked_file_larger_than_the_budget(t):
    """Nobody uploads it, and it ends only when it is closed: its writer gets ENOSPC, others just wait, and go on."""
    volume, m = mounted(t, "--cache-size", "48")
    fd = os.open(m.path("temp"), os.O_RDWR | os.O_CREAT)
    os.unlink(m.path("temp"))
    full = None
    for i in range(200):
        try:
            os.pwrite(fd, payload(i), i * MIB)
        except OSError as e:
            full = e
            break
    assert full and full.errno == errno.ENOSPC, full
    w = Worker(lambda k: write_file(m.path(f"w/f{k}"), payload(k)), 4)
    for k in range(i):
        assert os.pread(fd, MIB, k * MIB) == payload(k)
    os.close(fd)
    w.finish()
    same(m, 4)
    m.umount(flush=True)
    volume.check()


@test(timeout=240, needs=NEEDS)
def h62_the_log_stays_inside_its_budget(t):
    """With Redis and S3 healthy many times the budget goes through it; nobody is refused."""
    limit = 2 * MIB
    volume, m = mounted(t, "--log-limit", str(limit), "--retention", "100ms")
    workers = [Worker(lambda i, n=n: (write_file(m.path(f"w/{n}.{i % 50}"), b"x" * 10), os.utime(m.path(f"w/{n}.{i % 50}"), (i, i))), 6000)
               for n in range(2)]
    most = 0
    while any(w.is_alive() for w in workers):
        most = max(most, m.stats()["budget_log_used_bytes"])
    for w in workers:
        w.finish()
    t.note(f"log: at most {most} of {limit} bytes")
    assert 0 < most < 2 * limit, most
    m.umount(flush=True)
    volume.check()


if __name__ == "__main__":
    sys.exit(main())
