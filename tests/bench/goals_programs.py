"""Goals against ext4 on a loop image: unpacking, git, a real project, a large tree, programs that sync.

All sides run in turns on what the kernel has cached, as on a build host. `floor` lines have no goal: they show what FUSE itself makes of the work, with
nothing behind it."""
import os
import shutil
import sqlite3
import time

from bench import say
from goals_table import seconds

GIT_NAMES = dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"), "b")


def add_all(values, side, took):
    for name, value in took.items():
        values.setdefault(name, {}).setdefault(side, []).append(value)


def jfs_sides(sides):
    return [(transport, sides.jfs(transport)) for transport in sides.transports]


def floor_sides(sides):
    return [(f"floor, {transport}", sides.floor(transport, True)) for transport in sides.transports]


def make_tree(folder, count, folders=40, blocks=500):
    """Sources as a project has them: a few KiB each, some large."""
    for i in range(count):
        sub = os.path.join(folder, f"d{i % folders}")
        if i < folders:
            os.makedirs(sub)
        with open(os.path.join(sub, f"f{i}.c"), "w", encoding="ascii") as f:
            f.write(f"int f{i}(void)\n{{\n\treturn {i};\n}}\n" * (20 + (i * 7919) % blocks))


def unpack(sides, args, table):
    """A made archive, not compressed, and the Redis source as Debian has it."""
    source = sides.t.folder("source")
    make_tree(source, args.tree)
    made = sides.t.path("tree.tar")
    sides.t.run("tar", "-C", source, "-cf", made, ".")
    archives = {f"unpacking {args.tree:,} files, not compressed": made}
    redis, why = sides.source("redis")
    if redis:
        archives["unpacking the Redis source (.tar.gz)"] = redis
    else:
        table.missing("unpacking the Redis source", why)
    values = {}
    for turn in range(args.turns):
        say(f"[{turn + 1}/{args.turns}] unpacking")
        for side, top in (("ext4", sides.ext4()), *floor_sides(sides), *jfs_sides(sides)):
            for what, archive in archives.items():
                folder = sides.fresh(top)
                add_all(values, side, {what: seconds("tar", "-C", folder, "-xf", archive)})
                shutil.rmtree(folder)
    for what in archives:
        for side, _ in jfs_sides(sides):
            table.ratio(f"{what}, {side}", "ext4 on a loop image", values[what][side], values[what]["ext4"], 4)
        for side, _ in floor_sides(sides):
            table.ratio(f"{what}, {side}", "ext4", values[what][side], values[what]["ext4"])


def commits(folder, count, env):
    env = dict(env, HOME=folder)
    seconds("git", "-c", "init.defaultBranch=main", "init", "-q", folder, env=env)
    total = 0.0
    for i in range(count):
        with open(os.path.join(folder, f"f{i}"), "w", encoding="ascii") as f:
            f.write(f"{i}\n" * 50)
        total += seconds("git", "-c", "core.fsync=all", "add", f"f{i}", cwd=folder, env=env)
        total += seconds("git", "-c", "core.fsync=all", "-c", "gc.auto=0", "commit", "-qm", "x", cwd=folder, env=env)
    return total


def git(sides, args, table):
    """A clone begins with a second: git status reads the contents of each file that was written in the same second as the index, to the
    clock's chance all of them or few. So it is nearly all, on every side."""
    if not shutil.which("git"):
        table.missing("git", "git is not installed")
        return
    source, repo = sides.t.folder("source"), sides.t.path("repo")
    make_tree(source, args.tree)
    env = dict(os.environ, HOME=sides.t.dir, **GIT_NAMES)
    for words in (["init", "-q", repo], ["-C", repo, f"--work-tree={source}", "add", "-A"],
                  ["-C", repo, f"--work-tree={source}", "commit", "-qm", "all"]):
        seconds("git", *words, env=env)
    values = {}
    for turn in range(args.turns):
        say(f"[{turn + 1}/{args.turns}] git")
        for side, top in (("ext4", sides.ext4()), *jfs_sides(sides)):
            folder = sides.fresh(top)
            clone = os.path.join(folder, "clone")
            time.sleep(1 - time.time() % 1)
            took = {"clone": seconds("git", "clone", "-q", "--no-local", repo, clone, env=env)}
            took["status"] = seconds("git", "status", cwd=clone, env=env)
            os.mkdir(os.path.join(folder, "git"))
            took["commits"] = commits(os.path.join(folder, "git"), 10, env)
            add_all(values, side, took)
            shutil.rmtree(folder)
    for transport in sides.transports:
        for name, what in (("clone", f"git clone of {args.tree:,} files"), ("status", "git status after it")):
            table.ratio(f"{what}, {transport}", "ext4", values[name][transport], values[name]["ext4"], 2)
        table.rate(f"git add and commit, everything synced, {transport}", "ext4", values["commits"][transport], values["commits"]["ext4"], 0.7)


def sql(folder, count):
    start = time.perf_counter()
    db = sqlite3.connect(os.path.join(folder, "db"))
    db.execute("create table t (a integer primary key, b text)")
    for i in range(count):
        db.execute("insert into t values (?, ?)", (i, "x" * 200))
        db.commit()
    db.close()
    return time.perf_counter() - start


def syncs(sides, args, table):
    values = {}
    for turn in range(args.turns):
        say(f"[{turn + 1}/{args.turns}] syncs")
        for side, top in (("ext4", sides.ext4()), *jfs_sides(sides)):
            folder = sides.fresh(top)
            took = {"appendsync": sides.fsbench(folder, "appendsync", 200, 4096, 1, keep=True)["appendsync"], "sqlite": sql(folder, 100)}
            add_all(values, side, took)
            shutil.rmtree(folder)
    for transport in sides.transports:
        for name, what in (("appendsync", "4 KiB append and fsync"), ("sqlite", "sqlite commits")):
            table.rate(f"{what}, {transport}", "ext4", values[name][transport], values[name]["ext4"], 0.7)


def project(sides, args, table):
    """zlib: unpack, configure, make, make test."""
    what = "zlib: unpack, configure, make, test"
    archive, why = sides.source("zlib")
    if not archive:
        table.missing(what, why)
        return
    env = dict(os.environ, CCACHE_DISABLE="1")
    values = {}
    for turn in range(args.turns):
        say(f"[{turn + 1}/{args.turns}] zlib")
        for side, top in (("ext4", sides.ext4()), *jfs_sides(sides)):
            folder = sides.fresh(top)
            steps = (("tar", "-xf", archive, "--strip-components=1"), ("sh", "./configure"), ("make", "-j2"), ("make", "test"))
            add_all(values, side, {"all": sum(seconds(*step, cwd=folder, env=env) for step in steps)})
            shutil.rmtree(folder)
    for transport in sides.transports:
        table.ratio(f"{what}, {transport}", "ext4 on a loop image", values["all"][transport], values["all"]["ext4"], 1.15)


def many(sides, args, table):
    """A tree of small files that is copied there, looked at, searched, and removed."""
    source = sides.t.folder("many")
    make_tree(source, args.many, folders=min(args.many, 400), blocks=60)
    values = {}
    for turn in range(args.turns):
        say(f"[{turn + 1}/{args.turns}] a tree of {args.many:,} files")
        for side, top in (("ext4", sides.ext4()), *floor_sides(sides), *jfs_sides(sides)):
            folder = os.path.join(sides.fresh(top), "tree")
            took = {"create (cp -r)": seconds("cp", "-r", source, folder), "stat (find -newer)": seconds("find", folder, "-newer", source),
                    "grep -r": seconds("grep", "-rc", "return 7;", folder), "remove (rm -rf)": seconds("rm", "-rf", folder)}
            add_all(values, side, {"all": sum(took.values()), **took})
            os.rmdir(os.path.dirname(folder))
    for name, took in values.items():
        for side, _ in jfs_sides(sides):
            table.ratio(f"tree of {args.many:,} files: {name}, {side}", "ext4", took[side], took["ext4"], 2)
        for side, _ in floor_sides(sides):
            table.ratio(f"tree of {args.many:,} files: {name}, {side}", "ext4", took[side], took["ext4"])
