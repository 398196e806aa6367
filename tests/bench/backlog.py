#!/usr/bin/env python3
"""After a crash with a large backlog: how long a mount takes, how much memory, how long jfs-recover check. And how often a
second fsync comes back, against native ext4 on the same kind of disk, both in this run.

Needs root, FUSE, loop devices, redis-server."""
import argparse
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rows import bench_test, core, harness, loop_image  # noqa: E402


def rss_anon_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon")) / 1024


def seconds(function, *args, **more):
    start = time.perf_counter()
    function(*args, **more)
    return time.perf_counter() - start


def fill(top, operations, pid):
    """create, write, utimes: three operations a file, a thousand files a directory. The most anonymous memory that was seen."""
    most = 0
    for n in range(operations // 3):
        if n % 1000 == 0:
            most = max(most, rss_anon_mib(pid))
            folder = os.path.join(top, f"d{n // 1000}")
            os.mkdir(folder)
        path = os.path.join(folder, f"f{n}")
        fd = os.open(path, os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"x" * 100)
        os.close(fd)
        os.utime(path, (1, 2))
    return max(most, rss_anon_mib(pid))


def backlog(t, operations):
    """[(what, value, goal)]"""
    volume = harness.Volume(t, harness.RedisServer(t)).format("--trash-days", "0")
    cache = os.path.join(loop_image(t, "cache", 8 << 30), "cache")
    os.mkdir(cache, 0o700)
    m = harness.Mount(t, volume, "--writeback", "--upload-delay", "10h", cache=cache)
    start = time.perf_counter()
    busy = fill(m.dir, operations, m.pid)
    took = time.perf_counter() - start
    m.kill()
    t.run("umount", "-l", m.dir)
    mount = seconds(m.mount)
    after = rss_anon_mib(m.pid)
    pending = m.stats()["backlog_operations"]
    m.kill()
    t.run("umount", "-l", m.dir)
    check = seconds(t.run, harness.JFS_RECOVER, "check", "--cache-dir", cache, status=2, timeout=600)
    return [(f"operations not replayed, made in {took:.0f} s", f"{pending:,}", f"at least {operations // 3 * 3:,}", pending >= operations // 3 * 3),
            ("mount after kill -9", f"{mount:.2f} s", "under 1 s and the hot logs", mount < 1.5),
            ("RssAnon at most while they were made", f"{busy:.0f} MiB", "at most 200 MiB", busy <= 200),
            ("RssAnon after the mount", f"{after:.0f} MiB", "at most 200 MiB", after <= 200),
            ("jfs-recover check", f"{check:.1f} s", "seconds", check < 30)]


def fsyncs(f, count):
    """The median of seconds for a 4 KiB write and its fsync."""
    took = []
    for _ in range(count):
        start = time.perf_counter()
        f.write(b"x" * 4096)
        os.fsync(f.fileno())
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def fsync_rate(t, count):
    """Twenty here, twenty there, in turns, so that other work on the machine meets both alike; the spread is that of the turns."""
    native = loop_image(t, "native", 1 << 30)
    volume = harness.Volume(t, harness.RedisServer(t, name="redis2"), name="fsync").format("--trash-days", "0")
    cache = os.path.join(loop_image(t, "cache2", 2 << 30), "cache")
    os.mkdir(cache, 0o700)
    m = harness.Mount(t, volume, "--writeback", "--upload-delay", "10h", cache=cache, name="mnt2")
    ext4, ours = [], []
    with open(os.path.join(native, "f"), "wb", buffering=0) as theirs, open(m.path("f"), "wb", buffering=0) as mine:
        for turn in range(-2, max(4, count // 20)):
            a, b = fsyncs(theirs, 20), fsyncs(mine, 20)
            if turn >= 0:
                ext4.append(a)
                ours.append(b)
    m.umount()
    a, b = statistics.median(ext4), statistics.median(ours)
    low, ratio, high = statistics.quantiles([x / y for x, y in zip(ext4, ours)], n=4)
    return [("fsync of 4 KiB, ext4 on a loop image", f"{1 / a:,.0f} /s", "", True),
            ("fsync of 4 KiB, jfs with its cache on another", f"{1 / b:,.0f} /s", "", True),
            (f"ratio, median of {len(ours)} turns (quartiles {low:.2f}, {high:.2f})", f"{ratio:.2f}x", "at least 0.7x", ratio >= 0.7)]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--operations", type=int, default=1_000_000, help="of the backlog; 0: fsync alone")
    p.add_argument("--fsyncs", type=int, default=1000)
    args = p.parse_args()
    for need in ("root", "fuse", "jfs"):
        if core.missing(need):
            sys.exit(f"cannot run: {core.missing(need)}")
    with bench_test() as t:
        rows = (backlog(t, args.operations) if args.operations else []) + fsync_rate(t, args.fsyncs)
    for what, value, goal, reached in rows:
        print(f"{what:48} {value:>12}  {goal + (': reached' if reached else ': MISSED') if goal else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
