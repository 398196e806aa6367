"""Goals against the floor and against libfuse's passthrough: what single operations, listings and data cost.

No operation of ours may cost more than a quarter above what FUSE itself costs on the same transport. The floor has no extended
attributes, which saves it a request for each file that is written; where that counts, a second line compares with one that has."""
import os
import shutil

from bench import say
from goals_table import seconds

WITH_XATTR = ("create", "ls -l")


def names_once(sides, args, top, threads, own):
    """{operation: seconds} of one turn in one mount."""
    folder = sides.fresh(top)
    took = sides.fsbench(folder, "create,stat,list", args.files, 1024, threads, *own, keep=True)
    if threads == 1:
        took["ls -l"] = seconds("ls", "-l", folder)
        took.update(sides.fsbench(folder, "rename,rename,chmod,link,symlink,mkdir", args.files, 1024, 1, keep=True))
        took["readdir"] = took.pop("list")
        took["unlink"] = sides.fsbench(top, "create,unlink", args.files, 1024, 1)["unlink"]
        took["rm -rf"] = seconds("rm", "-rf", folder)
    else:
        took.pop("list")
        shutil.rmtree(folder)
    return took


def with_xattr_once(sides, args, top, threads, own):
    folder = sides.fresh(top)
    took = {"create": sides.fsbench(folder, "create", args.files, 1024, threads, *own, keep=True)["create"]}
    if threads == 1:
        sides.fsbench(folder, "stat,list", args.files, 1024, 1, keep=True)
        took["ls -l"] = seconds("ls", "-l", folder)
    shutil.rmtree(folder)
    return took


def names(sides, args, table):
    values = {}
    shapes = [(threads, own) for threads in (1, 4, 16) for own in ((), ("--own-dirs",)) if threads > 1 or not own]
    for turn in range(args.turns):
        for threads, own in shapes:
            for transport in sides.transports:
                say(f"[{turn + 1}/{args.turns}] names, {transport}, {threads} threads {'one directory each' if own else ''}")
                for side, top, once in (("floor", sides.floor(transport), names_once), ("ours", sides.jfs(transport), names_once),
                                        ("floor with xattrs", sides.floor(transport, True), with_xattr_once)):
                    for name, value in once(sides, args, top, threads, own).items():
                        values.setdefault((transport, threads, own, name), {}).setdefault(side, []).append(value)
    for (transport, threads, own, name), took in sorted(values.items(), key=lambda item: (item[0][0], item[0][1])):
        what = f"{args.files:,} x {name}, {threads} thread{'s' * (threads > 1)}" + (", a directory each" if own else "") + f", {transport}"
        table.ratio(what, "floor", took["ours"], took["floor"], 1.25)
        if name in WITH_XATTR:
            table.ratio(what, "floor with xattrs", took["ours"], took["floor with xattrs"], 1.25)


def data(sides, args, table):
    below = sides.passthrough()
    if not below:
        for what in ("sequential write", "sequential read", "random 4 KiB"):
            table.missing(what, "libfuse3-dev's example passthrough_ll.c is not installed")
        return
    values = {}
    for turn in range(args.turns):
        say(f"[{turn + 1}/{args.turns}] data")
        for side, top in (("theirs", below), *((transport, sides.jfs(transport)) for transport in sides.transports)):
            folder = sides.fresh(top)
            took = sides.fsbench(folder, "seqwrite,seqread", args.big_mb, 1 << 20, 1, keep=True)
            sides.fsbench(folder, "seqwrite", args.blocks, 4096, 1, keep=True)
            took.update(sides.fsbench(folder, "randread,randwrite,randread", args.blocks, 4096, 1, keep=True))
            shutil.rmtree(folder)
            for name, value in took.items():
                values.setdefault(name, {}).setdefault(side, []).append(value)
    for name, what, limit in (("seqwrite", f"sequential write of {args.big_mb} MiB and fsync", 1.1),
                              ("seqread", "sequential read of it, warm", 1.0),
                              ("randread", "random 4 KiB read, warm", 1.1), ("randwrite", "random 4 KiB write", 1.1)):
        for transport in sides.transports:
            table.ratio(f"{what}, {transport}", "libfuse passthrough", values[name][transport], values[name]["theirs"], limit)
