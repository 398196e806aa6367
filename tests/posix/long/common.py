"""What the long runs share: a volume with small windows that is replayed and uploaded meanwhile, and what must hold after
each: drained, an empty cache shows the same tree, the volume is consistent, and the stock client finds nothing."""
import itertools
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../e2e/lib"))
import tree  # noqa: E402
from harness import BUILD, Mount, RedisServer, Stock, Volume  # noqa: E402

NEEDS = ("root", "fuse", "jfs", "tools")
NATIVE_SIZE = "12G"


def program(name):
    return os.path.join(BUILD, "tests/posix/long", name)


def report(t, text):
    """A figure worth keeping: also into the file JFS_LONG_RESULTS."""
    t.note(text)
    if os.environ.get("JFS_LONG_RESULTS"):
        with open(os.environ["JFS_LONG_RESULTS"], "a", encoding="utf-8") as f:
            f.write(f"{t.name}, seed {t.seed}: {text}\n")


def mounted(t, *options, query="batch_size=500", trash_days=0, **more):
    volume = Volume(t, RedisServer(t)).format("--block-size", "64", "--trash-days", str(trash_days))
    return Mount(t, volume, "--writeback", "--log", os.path.join(t.log_dir, "daemon.log"), *options, query=query, **more)


def links(nodes):
    """The names of each file that has several, as lists: inode numbers themselves are not compared."""
    by_ino = {}
    for path, node in nodes.items():
        if node["type"] != "dir":
            by_ino.setdefault(node["ino"], []).append(path)
    return sorted(sorted(paths) for paths in by_ino.values() if len(paths) > 1)


def assert_same_as_native(native, seen):
    """Names, types, modes, owners, sizes, link counts, contents, xattrs, and which names are one file. Not the sizes of
    directories, which are each file system's own business, nor times and inode numbers."""
    for nodes in (native, seen):
        nodes["/"] = {"type": "dir"}  # ext4 has a lost+found, which is left out
        nodes.pop("/lost+found", None)
        for node in nodes.values():
            if node["type"] == "dir":
                node.pop("size", None)
    tree.assert_same(native, seen, "the tree on the native file system and on the mount", ignore=("ino", "mtime"))
    assert links(native) == links(seen), "names of the same file differ"


def drained(t, m):
    """Unmounts with a flush and verifies all that must hold then. The tree."""
    idle(m)
    before = tree.scan(m.dir)
    m.umount(flush=True, timeout=900)
    volume = m.volume
    volume.check()
    fresh = Mount(t, volume, name="fresh")
    tree.assert_same(before, tree.scan(fresh.dir), "the tree before and with an empty cache")
    fresh.umount(flush=True)
    ks = volume.check()
    assert not ks.sustained and not volume.sessions(), "sessions or open files are left"
    assert not [k for k in ks.keys if k.startswith(("lockf", "lockp", "locked"))], "locks are left"
    if os.environ.get("JUICEFS"):
        Stock(t, volume.url()).find_nothing()
        report(t, "stock's fsck and gc find nothing")
    else:
        t.note("JUICEFS is not set: the stock client was not asked")
    return before


def idle(m):
    """No request is left in any queue of the daemon, and it is not stuck."""
    for name in ("workers_busy_net", "workers_busy_room", "workers_busy_data", "workers_busy_ids", "budget_waiting"):
        m.wait_stat(name, timeout=60)
    s = m.stats()
    assert not s["journal_failed"] and not s["fenced"] and not s["replay_stopped"], s


def native_folder(t, loop=True):
    """A folder on ext4; `loop`: on a fresh image, as large as needed for the long runs."""
    if not loop:
        return t.folder("native")
    image, folder = t.path("native.img"), t.folder("native")
    t.run("truncate", "-s", NATIVE_SIZE, image)
    t.run("mkfs.ext4", "-q", "-F", image)
    t.run("mount", "-o", "loop", image, folder)
    t.defer(t.run, "umount", folder)
    return folder


def exercise_trees(t, m, ops, procs, loop, timeout):
    """The same operations on the mount and on ext4: equal answers, equal trees."""
    native = native_folder(t, loop)
    seen = {}
    for folder, name in ((native, "on-native"), (m.dir, "on-mount")):
        seen[name] = t.folder(name)
        start = time.monotonic()
        t.note(t.run(program("exercise_tree"), "--ops", ops, "--seed", t.seed, "--procs", procs, "--trace", seen[name],
                     folder, timeout=timeout))
        report(t, f"{ops} operations {name}: {time.monotonic() - start:.1f} s")
    for k in map(str, range(procs)):
        assert_same_answers(*(os.path.join(seen[n], k) for n in ("on-native", "on-mount")))
    native_tree = tree.scan(native)
    assert_same_as_native(native_tree, tree.scan(m.dir))
    report(t, f"equal trees of {len(native_tree)} paths")


def exercise_files(t, m, ops, timeout):
    start = time.monotonic()
    text = t.run(program("exercise_file"), "--ops", ops, "--seed", t.seed, m.dir, timeout=timeout)
    report(t, f"{text.splitlines()[-1]}: {time.monotonic() - start:.1f} s")


def assert_same_answers(native, mount):
    """Of two traces; the first difference is shown with what led to it."""
    with open(native, encoding="ascii") as a, open(mount, encoding="ascii") as b:
        before = []
        for x, y in itertools.zip_longest(a, b):
            assert x == y, f"answers differ:\n{''.join(before[-30:])}native: {x}mount:  {y}"
            before.append(x)
