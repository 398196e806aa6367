#!/usr/bin/env python3
"""The goals, one line each: what was measured, against what, the goal, and whether it is reached.

Both sides of a ratio run in turns, in one run, and the median of the turns' ratios counts; quartiles show the spread, and "best" is
the ratio of each side's best turn, which says more where other work goes on. The floor
is nullfs, a FUSE file system in memory that does no work, on the same transport as the mount it is compared with. Both transports
are measured, each with mounts of its own; --transport=auto, the default of `jfs mount`, takes rings where the kernel has them turned
on, as they are for this run. Needs root, FUSE, loop devices, redis-server. What cannot be measured here is named with its reason."""
import argparse
import contextlib
import fnmatch
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import rows as bench_rows  # noqa: E402
from bench import machine  # noqa: E402
from goals_costs import drain, idle  # noqa: E402
from goals_files import data, names  # noqa: E402
from goals_packed import S3_MS, packed  # noqa: E402
from goals_programs import git, many, project, syncs, unpack  # noqa: E402
from goals_sides import TRANSPORTS, Sides  # noqa: E402
from goals_table import Table  # noqa: E402
from rows import core, ring  # noqa: E402

FULL = {"files": 10000, "turns": 5, "big_mb": 1024, "blocks": 20000, "tree": 1475, "many": 40000, "packed": 10000, "alone": 10000}
QUICK = {"files": 500, "turns": 2, "big_mb": 16, "blocks": 500, "tree": 100, "many": 400, "packed": 500, "alone": 50}

PARTS = {"names": names, "data": data, "unpack": unpack, "git": git, "syncs": syncs, "project": project, "many": many,
         "drain": drain, "idle": idle, "packed": packed}


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="small and few: whether it runs, not how fast it is")
    p.add_argument("--only", default="*", metavar="PATTERN", help=f"of {', '.join(PARTS)}")
    p.add_argument("--transport", choices=tuple(TRANSPORTS), help="only this one (default: both, if the kernel has rings)")
    p.add_argument("--json", metavar="FILE", help="write the table there")
    for option in FULL:
        p.add_argument("--" + option.replace("_", "-"), type=int, help=f"default {FULL[option]}, quick {QUICK[option]}")
    args = p.parse_args()
    for option, value in (QUICK if args.quick else FULL).items():
        if getattr(args, option) is None:
            setattr(args, option, value)
    if not any(fnmatch.fnmatch(name, args.only) for name in PARTS):
        p.error(f"no such part; there are {', '.join(PARTS)}")
    args.storage, args.redis_rtt, args.s3_rtt = "file", 1000, 0  # for the header
    return args


def main():
    args = parse_args()
    for need in ("root", "fuse", "jfs"):
        if core.missing(need):
            sys.exit(f"goals: cannot run: {core.missing(need)}")
    table = Table()
    no_rings = ring.missing()
    if args.transport == "rings" and no_rings:
        sys.exit(f"goals: cannot run: {no_rings}")
    transports = [args.transport] if args.transport else [name for name in TRANSPORTS if name == "classic" or not no_rings]
    with ring.turned_on() if "rings" in transports else contextlib.nullcontext(), bench_rows.bench_test() as t:
        sides = Sides(t, transports)
        header = machine(args, t.dir)
        if fnmatch.fnmatch("packed", args.only):
            header.append(f"packed   {S3_MS} ms to an S3 server in memory")
        for name, part in PARTS.items():
            if fnmatch.fnmatch(name, args.only):
                part(sides, args, table)
    if no_rings and not args.transport:
        table.missing("everything on rings", no_rings)
    print("\n".join(["", *header, f"medians of {args.turns} turns, quartiles in brackets", ""]))
    table.print()
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump({"header": header, "lines": table.lines}, f, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
