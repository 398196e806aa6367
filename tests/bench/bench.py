#!/usr/bin/env python3
"""Small files on every file system of the comparison, in one run: create, stat, read, unlink, and shell loops.

Needs root, FUSE, loop devices, redis-server, and for --storage=s3 Debian's Swift. Rows whose program is missing are left
out and named. All times are wall clock; the table shows medians over --reps repetitions, interleaved over the rows."""
import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rows as bench_rows  # noqa: E402
from rows import ROOT, core, harness, ring, tool  # noqa: E402

OPS = ("create", "stat", "read", "unlink")
LOOPS = {"touch": 'touch "f$i"', "echo >": 'echo line > "f$i"', "rm": 'rm "f$i"'}
SIZE = 1024
FULL = {"files": 10000, "waiting_files": 300, "loop": 1000, "waiting_loop": 100, "reps": 3, "waiting_reps": 1}
QUICK = {"files": 1000, "waiting_files": 60, "loop": 200, "waiting_loop": 20, "reps": 1, "waiting_reps": 1}


def say(*words):
    print(*words, file=sys.stderr, flush=True)


class Results:
    """us per operation by (row key, threads, what); threads 0: a shell loop."""

    def __init__(self):
        self.values = {}
        self.notes = {}

    def add(self, row, threads, what, value):
        self.values.setdefault((row.key, threads, what), []).append(value)

    def median(self, key, threads, what):
        found = self.values.get((key, threads, what))
        return statistics.median(found) if found else None

    def to_json(self):
        return [{"row": k, "threads": t, "what": w, "us": v} for (k, t, w), v in self.values.items()]


def run_fsbench(row, results, count, threads, rep):
    directory = os.path.join(row.dir, f"rep{rep}-{threads}")
    os.mkdir(directory)

    def run(ops):
        out = subprocess.run([tool("tests/bench/fsbench"), ops, directory, str(count), str(SIZE), str(threads)],
                             stdout=subprocess.PIPE, text=True, check=True).stdout
        for line in out.splitlines():
            name, _, us, _, _ = line.split()
            results.add(row, threads, name, float(us))
    run("create")
    if threads == 1:
        results.notes[row.key] = row.after_create()
    run(",".join(OPS[1:]))
    os.rmdir(directory)


def run_loops(row, results, count, rep):
    directory = os.path.join(row.dir, f"loop{rep}")
    os.mkdir(directory)
    for name, command in LOOPS.items():
        script = f'cd "$1"; i=0; while [ $i -lt {count} ]; do {command} || exit 1; i=$((i+1)); done'
        if name == "echo >":  # over new names: the files of `touch` are there
            script = script.replace('"f$i"', '"g$i"')
        start = time.perf_counter()
        subprocess.run(["sh", "-c", script, "sh", directory], check=True)
        results.add(row, 0, name, (time.perf_counter() - start) / count * 1e6)
    bench_rows.remove_tree(directory)


def run_drain(row, results, count):
    """Creates files and takes the time until Redis and S3 have them, counted from the end of the last create."""
    if not row.drains:
        return
    directory = os.path.join(row.dir, "drain")
    os.mkdir(directory)
    subprocess.run([tool("tests/bench/fsbench"), "create", directory, str(count), str(SIZE), "1"],
                   stdout=subprocess.DEVNULL, check=True)
    for what, seconds in zip(("redis", "s3"), row.drain(directory, count)):
        results.add(row, 0, what, seconds)
    bench_rows.remove_tree(directory)


def start_rows(wanted):
    """A row that does not start is named, the others still run; the exit status tells."""
    started, skipped, failed = [], [], False
    for row in wanted:
        why = row.missing()
        if not why:
            say(f"mounting {row.label}")
            try:
                row.start()
                started.append(row)
                continue
            except core.CommandError as e:
                why, failed = str(e).strip().splitlines()[-1], True
        skipped.append((row, why))
    return started, skipped, failed


def measure(rows, args):
    results = Results()
    for rep in range(args.reps):
        for row in rows:
            if row.waits and rep >= args.waiting_reps:
                continue
            count = args.waiting_files if row.waits else args.files
            for threads in args.threads:
                say(f"[{rep + 1}/{args.reps}] {row.label}: {count} files, {threads} thread{'s' * (threads > 1)}")
                run_fsbench(row, results, count, threads, rep)
                row.settle()
            run_loops(row, results, args.waiting_loop if row.waits else args.loop, rep)
            row.settle()
    for row in rows:
        if row.drains:
            say(f"draining {row.label}")
        run_drain(row, results, args.waiting_files if row.waits else args.files)
    return results


# the report

def number(x, digits=1):
    if x is None:
        return "-"
    return f"{x:,.0f}" if x >= 100 else f"{x:.{digits}f}"


def ratio(a, b):
    return "-" if not a or not b else number(a / b, 2) + "x"


def columns(row, threads, results, args):
    create = results.median(row.key, threads, "create")
    cells = [row.label, str(threads), number(args.waiting_files if row.waits else args.files, 0)]
    cells += [number(results.median(row.key, threads, op)) for op in OPS]
    cells.append(ratio(create, results.median("ext4", threads, "create")))
    cells.append(ratio(create, results.median(row.floor or args.floor, threads, "create")))
    cells.append(ratio(results.median("neither", threads, "create"), create))
    cells.append(ratio(results.median("stock", threads, "create"), create))
    if threads == 1:
        cells += [number(results.median(row.key, 0, name)) for name in LOOPS]
        cells += [number(results.median(row.key, 0, what), 2) for what in ("redis", "s3")]
        cells.append(row.durable)
    return cells


HEAD = ["file system", "thr", "files", *OPS, "/ext4", "/floor", "neither/", "stock/", *LOOPS, "Redis s", "S3 s",
        "durable when the time was taken"]


def table(lines):
    widths = [max(len(line[i]) for line in lines if i < len(line)) for i in range(len(HEAD))]
    out = []
    for n, line in enumerate(lines):
        last = len(HEAD) - 1
        cells = [c.ljust(w) if i in (0, last) else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))]
        out.append("  ".join(cells).rstrip())
        if n == 0:
            out.append("  ".join("-" * w for w in widths))
    return "\n".join(out)


def targets(results, args):
    """The goals for the cell with both, judged on one thread's create."""
    out = []
    for key in ("both", "both-later"):
        mine = results.median(key, 1, "create")
        for what, value, good in (
                ("x faster than the cell with neither, at least 80", (results.median("neither", 1, "create"), mine), 80),
                ("x faster than JuiceFS's default mount, at least 150", (results.median("stock", 1, "create"), mine), 150),
                (f"x the floor ({args.floor}), at most 1.5", (mine, results.median(args.floor, 1, "create")), -1.5)):
            if None in value:
                out.append(f"  {key}: not measured: {what}")
                continue
            got = value[0] / value[1]
            reached = got >= good if good > 0 else got <= -good
            out.append(f"  {key}: {'reached' if reached else 'MISSED'}: {got:.2f} {what}")
    return out


def git(*words):
    r = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=False)
    return r.stdout.strip() if r.returncode == 0 else ""


def sync_cost(directory):
    """Median microseconds of a 4 KiB overwrite and fdatasync: what a flush costs on this disk."""
    path, times = os.path.join(directory, "sync-cost"), []
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    for _ in range(50):
        start = time.perf_counter()
        os.pwrite(fd, b"x" * 4096, 0)
        os.fdatasync(fd)
        times.append((time.perf_counter() - start) * 1e6)
    os.close(fd)
    os.unlink(path)
    return statistics.median(times)


def machine(args, disk):
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), platform.machine())
    with open("/proc/meminfo", encoding="ascii") as f:
        memory = int(f.readline().split()[1]) >> 20
    commit = git("rev-parse", "--short", "HEAD") or "unknown"
    if git("status", "--porcelain", "--untracked-files=no"):
        commit += " with changes"
    lines = [f"machine  {os.cpu_count()} CPUs {model}, {memory} GiB, load {os.getloadavg()[0]:.1f} at the start",
             f"kernel   {platform.release()}",
             f"commit   {commit}",
             f"network  {args.redis_rtt / 1000:g} ms to Redis, "
             + (f"{args.s3_rtt / 1000:g} ms to S3 (Swift)" if args.storage == "s3" else
                "OBJECTS IN A LOCAL FOLDER (--storage=file): no figure here says anything about S3"),
             f"disk     4 KiB and fdatasync: {sync_cost(disk):.0f} us"]
    if os.environ.get("JUICEFS"):
        version = subprocess.run([os.environ["JUICEFS"], "version"], capture_output=True, text=True, check=False)
        lines.append(f"stock    {version.stdout.strip()}")
    return lines


def report(rows, skipped, results, args, header):
    out = ["", *header,
           f"files of {SIZE} bytes in one directory, us per operation (threads: elapsed time / files), median of "
           f"{args.reps} (rows that wait: {args.waiting_reps})",
           f"rows that wait for the network run {args.waiting_files} files, the others {args.files}; shell loops "
           f"{args.waiting_loop} and {args.loop}, us per round (touch and rm start a process)",
           "/ext4, /floor: create relative to them, of rows on rings to nullfs on rings (smaller is better); neither/, stock/: how many times faster than "
           "the cell with neither and than JuiceFS's default mount", ""]
    out.append(table([HEAD] + [columns(row, threads, results, args) for row in rows for threads in args.threads]))
    for key, note in results.notes.items():
        if note:
            out.append(f"  right after creating, {key}: {note}")
    out += ["", *(f"not run: {row.label}: {why}" for row, why in skipped), "goals:", *targets(results, args)]
    return "\n".join(out)


def parse_args():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--quick", action="store_true", help="fewer files and repetitions")
    for option in FULL:
        p.add_argument("--" + option.replace("_", "-"), type=int, help=f"default {FULL[option]}, quick {QUICK[option]}")
    p.add_argument("--storage", choices=("s3", "file"), default="s3")
    p.add_argument("--redis-rtt", type=int, default=1000, metavar="US")
    p.add_argument("--s3-rtt", type=int, default=10000, metavar="US")
    p.add_argument("--floor", choices=("null-mt", "null-st", "null-classic"), default="null-mt",
                   help="the loop that /floor compares with; rows on rings: null-ring")
    p.add_argument("--threads", type=lambda s: tuple(int(n) for n in s.split(",")), default=(1, 4), metavar="N,...")
    p.add_argument("--rows", help="comma-separated keys, e.g. ext4,null-mt,both")
    p.add_argument("--json", metavar="FILE", help="write every single value there")
    args = p.parse_args()
    for option, value in (QUICK if args.quick else FULL).items():
        if getattr(args, option) is None:
            setattr(args, option, value)
    return args


def main():
    args = parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: mounting needs root")
    if args.storage == "s3" and core.missing("swift"):
        sys.exit("bench: swift-proxy is not installed (apt-get install swift-proxy swift-account swift-container swift-object "
                 "memcached), or choose --storage=file")
    # Turned on for the whole run where it can be: only the rows on rings ask for them.
    rings = contextlib.nullcontext() if ring.missing() else ring.turned_on()
    with rings, bench_rows.bench_test() as t:
        rows = bench_rows.all_rows(t, bench_rows.Environment(t, args.storage, args.redis_rtt, args.s3_rtt))
        if args.rows:
            keys = args.rows.split(",")
            if set(keys) - {r.key for r in rows}:
                sys.exit(f"bench: no such row; there are {', '.join(r.key for r in rows)}")
            rows = [r for r in rows if r.key in keys]
        rows, skipped, failed = start_rows(rows)
        header = machine(args, next((r.dir for r in rows if r.key == "ext4"), t.dir))
        results = measure(rows, args)
        print(report(rows, skipped, results, args, header))
        if args.json:
            with open(args.json, "w", encoding="utf-8") as f:
                json.dump({"header": header, "args": vars(args), "values": results.to_json()}, f, indent=1)
        return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
