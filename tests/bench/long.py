#!/usr/bin/env python3
"""Does a mount stay fast as it fills? Files are created through one mount, 10,000 to a directory, until there are --files of them.
At 10,000 files, and each time their number has grown tenfold, the same sample is taken in new directories, once replay and uploads
have caught up: us and the daemon's CPU for a created file, and its page faults. The daemon's anonymous memory is looked at after
each directory.

Needs root, FUSE, loop devices, redis-server; for a million files some 3 GB of disk and 0.4 GB of memory for Redis. What the kernel
remembers of the files (1 KB each and more) it is told to drop every --remember files, or memory might not be enough; the daemon's own
count of what the kernel remembers is largest just before."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from backlog import rss_anon_mib  # noqa: E402
from bench import machine, say  # noqa: E402
from rows import bench_test, contextlib, core, harness, loop_image, ring, tool  # noqa: E402

FOLDER = 10_000


class Daemon:
    def __init__(self, pid):
        self.pid, self.most = pid, 0.0

    def cpu_us(self):
        """Of all threads, those that have ended included; in ticks of the scheduler, which are fine enough for a sample."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as f:
            words = f.read().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) * 1e6 / os.sysconf("SC_CLK_TCK")

    def faults(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as f:
            words = f.read().rsplit(")", 1)[1].split()
        return int(words[7]), int(words[9])

    def memory(self):
        now = rss_anon_mib(self.pid)
        self.most = max(self.most, now)
        return now


class Filling:
    def __init__(self, t, args):
        self.t, self.args, self.made, self.points = t, args, 0, []
        redis = harness.RedisServer(t)
        volume = harness.Volume(t, redis).format("--trash-days", "0")
        self.cache = os.path.join(loop_image(t, "cache", args.disk << 30), "cache")
        os.mkdir(self.cache, 0o700)
        self.mount = m = harness.Mount(t, volume, "--writeback", "--pack-below=128K", cache=self.cache, start=False)
        # In the foreground: a session of its own would have its own share of a busy machine.
        process = t.spawn(*m.command("--foreground", f"--transport={args.transport}"), name="jfs")
        t.defer(process.wait, 600)
        t.defer(subprocess.run, ["umount", m.dir])
        core.wait_until(lambda: os.path.exists(m.path(".config")), what="the mount")
        self.daemon = Daemon(process.pid)

    def folder(self, threads):
        """Creates a directory's worth of files; us for each."""
        path = self.mount.path(f"d{self.made // FOLDER}")
        os.mkdir(path)
        out = subprocess.run([tool("tests/bench/fsbench"), "create", path, str(FOLDER), str(self.args.size), str(threads)],
                             stdout=subprocess.PIPE, text=True, check=True).stdout
        self.made += FOLDER
        self.daemon.memory()
        return float(out.split()[2])

    def sample(self):
        files, start = self.made, time.perf_counter()
        self.mount.flush(timeout=7200)
        caught_up = time.perf_counter() - start
        cpu, faults, took = self.daemon.cpu_us(), self.daemon.faults(), []
        for _ in range(self.args.turns):
            took.append(self.folder(1))
        each = FOLDER * self.args.turns
        after = self.daemon.faults()
        base = subprocess.run(["du", "-s", "--block-size=1M", self.cache], stdout=subprocess.PIPE, text=True, check=True).stdout
        self.points.append({"files": files, "us": statistics.median(took), "least": min(took),
                            "cpu": (self.daemon.cpu_us() - cpu) / each, "minor": (after[0] - faults[0]) / each,
                            "major": (after[1] - faults[1]) / each, "anon": self.daemon.memory(), "caught_up": caught_up,
                            "cache_mib": int(base.split()[0])})
        say(f"  {self.points[-1]}")

    def fill(self):
        goal, dropped = FOLDER, 0
        while True:
            start = time.perf_counter()
            before = self.made
            while self.made < goal:
                self.folder(self.args.threads)
                if self.made - dropped >= self.args.remember:
                    dropped = self.made
                    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
                        f.write("2")
            say(f"{self.made:,} files; the last {self.made - before:,} took {time.perf_counter() - start:.0f} s")
            self.sample()
            if goal >= self.args.files:
                return
            goal = min(goal * 10, self.args.files)


def show(filling, args):
    print("| files | us (least) for a created one | daemon's CPU, us | page faults, minor / major | RssAnon, MiB | cache directory, MiB |")
    print("|---|---|---|---|---|---|")
    for p in filling.points:
        print(f"| {p['files']:,} | {p['us']:.1f} ({p['least']:.1f}) | {p['cpu']:.1f} | {p['minor']:.2f} / {p['major']:.3f} "
              f"| {p['anon']:.0f} | {p['cache_mib']:,} |")
    first, last = filling.points[0], filling.points[-1]
    rate, most = first["us"] / last["us"], filling.daemon.most
    print(f"\ncreate rate at {last['files']:,} files against at {first['files']:,}: {rate:.2f}x (at least 0.8x: "
          f"{'reached' if rate >= 0.8 else 'MISSED'}); by the daemon's CPU {first['cpu'] / last['cpu']:.2f}x")
    print(f"RssAnon at most {most:.0f} MiB (at most 200 MiB: {'reached' if most <= 200 else 'MISSED'})")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump({"points": filling.points, "anon_most": most}, f, indent=1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--files", type=int, default=10_000_000)
    p.add_argument("--size", type=int, default=100, help="bytes of each (default 100: it is the number that counts)")
    p.add_argument("--threads", type=int, default=2, help="that fill between samples; samples take one")
    p.add_argument("--turns", type=int, default=5, help="directories of a sample")
    p.add_argument("--remember", type=int, default=1_000_000)
    p.add_argument("--disk", type=int, default=64, help="GiB of the cache's file system (sparse)")
    p.add_argument("--transport", choices=("classic", "io_uring"), default="classic")
    p.add_argument("--json", metavar="FILE")
    args = p.parse_args()
    if args.files < FOLDER:
        p.error(f"at least {FOLDER:,} files")
    for need in ("root", "fuse", "jfs", *(("ring",) if args.transport == "io_uring" else ())):
        if core.missing(need):
            sys.exit(f"cannot run: {core.missing(need)}")
    args.storage, args.redis_rtt, args.s3_rtt = "file", 0, 0  # for the header
    with ring.turned_on() if args.transport == "io_uring" else contextlib.nullcontext(), bench_test() as t:
        header = machine(args, t.dir)
        filling = Filling(t, args)
        filling.fill()
    print("\n".join(["", *header, ""]))
    show(filling, args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
