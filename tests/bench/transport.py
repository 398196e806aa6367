#!/usr/bin/env python3
"""What the way of the requests costs: the in-memory file system (nullfs) and a jfs mount without Redis, each over the device, over
rings, and over the device with --poll, in turns in one run: create, write 1 KB and close; stat; unlink. With --placing instead: what
it brings that the serving threads choose their scheduling class and CPU by what there is to do (daemon/thread_class.h, follow.h), which
they don't where the daemon is started in a class of its own (chrt --batch); without and with programs that want every CPU. Needs
root, and a kernel with FUSE over io_uring.

All daemons stay in this program's session: the scheduler shares a busy machine out between sessions first, and a daemon in one
of its own is another matter than one beside its callers."""
import argparse
import os
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bench  # noqa: E402
import rows as bench_rows  # noqa: E402
from rows import core, harness, ring, tool  # noqa: E402

WAYS = {"classic": ("--transport=classic",), "rings": ("--transport=io_uring",), "poll": ("--transport=classic", "--poll")}
PLACING = {"as they are": ("chrt", "--batch", "0"), "placed": ()}
OPS = ("create", "stat", "unlink")


class Bare(bench_rows.Row):
    """jfs --local-only in the foreground, its cache on a loop image: journal and front, and nothing behind them."""

    def __init__(self, t, way, placing="placed"):
        super().__init__(f"jfs-{way}-{placing.split()[0]}", f"jfs, {way}", "the local journal")
        self.t, self.options, self.before, self.process = t, WAYS[way], PLACING[placing], None

    def start(self):
        self.dir = self.t.folder(self.key)
        cache = os.path.join(bench_rows.loop_image(self.t, "cache-" + self.key, 4 << 30), "cache")
        os.mkdir(cache, 0o700)
        hot = os.path.join("/dev/shm", os.path.basename(self.t.dir) + "-" + self.key)
        self.process = self.t.spawn(*self.before, harness.JFS, "mount", "--foreground", "--local-only", "--cache-dir", cache, "--hot-dir", hot,
                                    *self.options, "local", self.dir, name=self.key)
        self.t.defer(subprocess.run, ["rm", "-rf", hot])
        self.t.defer(self.process.wait, 60)
        self.t.defer(subprocess.run, ["umount", self.dir])
        core.wait_until(lambda: os.path.exists(os.path.join(self.dir, ".config")), what="the mount")


def null_row(t, way):
    """nullfs understands --transport NAME, and four threads are what the daemon has on two CPUs."""
    options = [word for option in WAYS[way] for word in option.split("=")]
    return bench_rows.Null(t, "null-" + way, "", *options, *(() if way == "rings" else ("--threads", "4")))


def run(row, folder, threads, args, values, key):
    directory = os.path.join(row.dir, folder)
    os.mkdir(directory)
    out = subprocess.run([tool("tests/bench/fsbench"), ",".join(OPS), directory, str(args.files), "1024", str(threads)],
                         stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in out.splitlines():
        name, _, us, _, _ = line.split()
        values.setdefault((name, threads, *key), []).append(float(us))
    os.rmdir(directory)


def figure(values):
    return f"{statistics.median(values):.1f} ({min(values):.1f})"


def compare_ways(t, args):
    rows = {(who, way): make(t, way) for who, make in (("nullfs", null_row), ("jfs", Bare)) for way in WAYS}
    values = {}
    for row in rows.values():
        row.start()
    for rep in range(args.reps):
        for threads in args.threads:
            for key, row in rows.items():
                run(row, f"{rep}-{threads}", threads, args, values, key)
    print(f"us per operation, {args.files} files of 1 KB in one directory, median (least) of {args.reps} turns\n")
    print("| work | threads |" + "".join(f" {who} {way} |" for who, way in rows)
          + "".join(f" jfs/nullfs {way} |" for way in WAYS) + " jfs classic/rings |\n" + "|---" * (len(rows) + len(WAYS) + 3) + "|")
    for op in OPS:
        for threads in args.threads:
            cells = {key: values[(op, threads, *key)] for key in rows}
            middle = {key: statistics.median(cell) for key, cell in cells.items()}
            ratios = [middle["jfs", way] / middle["nullfs", way] for way in WAYS] + [middle["jfs", "classic"] / middle["jfs", "rings"]]
            print(f"| {op} | {threads} | " + " | ".join([*map(figure, cells.values()), *(f"{r:.2f}" for r in ratios)]) + " |")
    ratio = statistics.median(values["create", 1, "jfs", "poll"]) / statistics.median(values["create", 1, "nullfs", "poll"])
    print(f"\ncreate on one thread with --poll, against nullfs with --poll: {ratio:.2f}x (<= 1.3x: "
          f"{'reached' if ratio <= 1.3 else 'MISSED'})")


def compare_placing(t, args):
    rows = {(way, placing): Bare(t, way, placing) for way in ("classic", "rings") for placing in PLACING}
    values = {}
    for row in rows.values():
        row.start()
    for hogs in (0, os.cpu_count()):
        busy = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(hogs)]
        try:
            for rep in range(args.reps):
                for threads in args.threads:
                    for key, row in rows.items():
                        run(row, f"{hogs}-{rep}-{threads}", threads, args, values, (hogs, *key))
        finally:
            for p in busy:
                p.kill()
                p.wait()
    print(f"us per operation, {args.files} files of 1 KB in one directory, median (least) of {args.reps} turns\n")
    print("| work | threads | busy programs |" + "".join(f" {way}, {placing} |" for way, placing in rows) + "\n" + "|---" * (3 + len(rows)) + "|")
    for op in OPS:
        for threads in args.threads:
            for hogs in (0, os.cpu_count()):
                print(f"| {op} | {threads} | {hogs} | " + " | ".join(figure(values[op, threads, hogs, *key]) for key in rows) + " |")


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--files", type=int, default=3000)
    p.add_argument("--reps", type=int, default=7)
    p.add_argument("--threads", type=lambda s: tuple(int(n) for n in s.split(",")), default=(1, 4, 16), metavar="N,...")
    p.add_argument("--placing", action="store_true", help="compare serving threads that are placed with such as are not")
    args = p.parse_args()
    args.redis_rtt, args.s3_rtt, args.storage = 0, 0, "none"
    why = ring.missing() or core.missing("cpu_dma_latency")
    if why:
        sys.exit(f"transport: {why}")
    with ring.turned_on(), bench_rows.bench_test() as t:
        print("\n".join(line for line in bench.machine(args, t.dir) if not line.startswith("network")))
        (compare_placing if args.placing else compare_ways)(t, args)


if __name__ == "__main__":
    main()
