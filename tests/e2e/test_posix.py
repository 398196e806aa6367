#!/usr/bin/env python3
"""The checks of tests/posix on a mount of ours, a group of families on each; afterwards everything is drained, the counters
and objects must be exact, and stock's fsck and gc content. tests/posix/run runs the same on any other file system."""
import ctypes
import errno
import json
import os
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *  # noqa: E402,F403

import tree  # noqa: E402

sys.path.insert(0, os.path.join(ROOT, "tests/posix/checks"))
import base  # noqa: E402

GROUPS = {
    "names": ("link", "mkdir", "mkfifo", "mknod", "names", "rename", "rmdir", "symlink", "unlink"),
    "attributes": ("chmod", "chown", "flags", "rights", "times", "utimensat", "xattr"),
    "data": ("data", "exclusive", "locks", "open", "posix_fallocate", "sparse", "truncate"),
    "directories": ("directories",),
}
TRASH_DAYS = {"names": "1"}


def run_group(t, name):
    volume = Volume(t, RedisServer(t)).format("--block-size", "64", "--trash-days", TRASH_DAYS.get(name, "0"))
    m = Mount(t, volume, "--writeback", "-o", "allow_other")
    os.chmod(t.dir, 0o755)
    os.chmod(m.dir, 0o755)
    failed = []
    for family in GROUPS[name]:
        passed, bad, _ = base.run_family(family, m.dir, t.seed)
        t.note(f"{family}: {passed} passed, {len(bad)} failed")
        for check, text in bad.items():
            t.note(f"FAIL {family}.{check}\n{text}")
            failed.append(f"{family}.{check}")
    m.umount(flush=True)
    volume.check()
    if os.environ.get("JUICEFS"):
        Stock(t, volume.url()).find_nothing()
    assert not failed, " ".join(failed)


def huge_files(t, query):
    """Lengths and their sums beyond what a double holds: every counter exact to the byte after each window."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "1")
    m = Mount(t, volume, "--writeback", query=query)

    def length(name, size):
        with open(m.path(name), "ab") as f:
            f.truncate(size)

    def drained():
        m.flush()
        volume.check()
    os.mkdir(m.path("d"))
    for n, size in enumerate(((1 << 57) - 1, (1 << 56) + 12345, (1 << 53) + 1, 10**16 + 7, 10**15 + 3, (1 << 50) + 4095, 999999999999999, 5)):
        length(f"f{n}", size)
        length(f"d/f{n}", size - 1)
    drained()
    os.link(m.path("f0"), m.path("d/linked"))
    for n, size in enumerate(((1 << 57) - 3, 1, (1 << 53) - 1, 10**16 + 8, (1 << 57) - 1, 10**9, 0, (1 << 54) + 1)):
        length(f"f{n}", size)
        if n % 4 == 0:
            drained()
    os.rename(m.path("f4"), m.path("d/f4"))
    for name in ("f0", "f3", "f7", "d/f1", "d/f4"):
        os.unlink(m.path(name))
    drained()
    os.unlink(m.path("d/linked"))
    length("d/f2", 3)
    with open(m.path("open"), "wb") as f:
        f.truncate((1 << 55) + 1)
        drained()
        os.unlink(m.path("open"))
        f.truncate((1 << 56) + 1)
        drained()
    m.umount(flush=True)
    volume.check()


@test(timeout=60, needs=("root", "fuse", "jfs"))
def huge_files_are_counted_exactly(t):
    huge_files(t, "")


@test(timeout=60, needs=("root", "fuse", "jfs"))
def huge_files_are_counted_exactly_without_the_script(t):
    huge_files(t, "unsafe_batch=1")


@test(timeout=60, needs=("root", "fuse", "jfs"))
def more_than_counters_can_hold_is_refused(t):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback")
    made = 0
    try:
        for n in range(40):
            with open(m.path(f"f{n}"), "wb") as f:
                f.truncate((1 << 57) - 1)
            made += 1
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
    assert made == 32, made
    os.truncate(m.path("f3"), 0)
    with open(m.path("small"), "wb") as f:
        f.write(b"x" * 10000)
    m.umount(flush=True)
    volume.check()


@test(timeout=60, needs=("root", "fuse", "jfs", "tools"))
def copies_of_what_is_on_its_way_leave_nothing_staged(t):
    """A file is copied by reference while its own window travels to Redis; then nothing of either is only here."""
    redis = RedisServer(t)
    volume = Volume(t, redis).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", port=t.enter(DelayProxy(redis.port, 80000)).port)
    data = t.rng.randbytes(20000)
    for name in ("b", "c", "a"):
        with open(m.path(name), "wb") as f:
            f.write(data if name == "a" else b"")
    wait_until(lambda: any(files for _, _, files in os.walk(os.path.join(volume.bucket, "vol", "chunks"))), what="the object of a")
    with base.opened(m.path("a"), os.O_RDONLY) as a:
        for name, off, n in (("b", 0, 20000), ("c", 5, 7000), ("b", 9000, 100)):
            with base.opened(m.path(name)) as fd:
                assert os.copy_file_range(a, fd, n, off, off + (name == "c")) == n
    m.umount(flush=True)
    report = json.loads(t.run(JFS_RECOVER, "check", "--json", "--cache-dir", m.cache, volume.url()))
    assert report["staging"]["bytes"] == 0 and report["result"] == "clean", report
    volume.check()
    m.mount()
    with open(m.path("b"), "rb") as b, open(m.path("c"), "rb") as c:
        assert b.read() == data and c.read() == b"\0" * 6 + data[5:7005]


@test(timeout=120, needs=("root", "fuse", "jfs"))
def a_subdirectory_is_a_file_system_of_its_own(t):
    """--subdir: what lies below, and nothing else; the rest of the volume stays as it is, the counters of both are exact."""
    volume = Volume(t, RedisServer(t)).format("--block-size", "64", "--trash-days", "0")
    m = Mount(t, volume, "--writeback")
    os.makedirs(m.path("top/sub/d"))
    os.mkdir(m.path("beside"))
    with open(m.path("outside"), "wb") as f:
        f.write(b"outside" * 1000)
    os.link(m.path("outside"), m.path("top/sub/linked"))
    m.umount(flush=True)
    beside = [n for n in tree.scan(Mount(t, volume, "--read-only", name="look").dir) if not n.startswith("/top/sub")]
    sub = Mount(t, volume, "--writeback", "-o", "allow_other", name="sub", start=False)
    text = sub.mount("--subdir", "/outside", status=1)
    assert "/outside" in text and os.strerror(errno.ENOTDIR) in text, text
    sub.mount("--subdir", "/top/sub")
    os.chmod(t.dir, 0o755)
    assert sorted(os.listdir(sub.dir)) == ["d", "linked"]
    assert os.path.samefile(sub.path("d/.."), sub.dir) and not os.path.exists(sub.path("outside"))
    with open(sub.path(".stats"), encoding="ascii") as f:
        assert "juicefs_" in f.read()
    for name in (".stats", ".config", ".accesslog"):
        assert base.fails((errno.EPERM, errno.EEXIST, errno.EACCES), os.rename, sub.path("linked"), sub.path(name)) is None
    with open(sub.path("linked"), "r+b") as f:  # has a name outside, too
        f.truncate(100_000)
    failed = [f"{family}.{check}\n{text}" for family in ("rmdir", "symlink") for check, text in base.run_family(family, sub.dir, t.seed)[1].items()]
    assert not failed, "\n".join(failed)
    sub.kill()
    sub.end()
    sub.mount("--subdir", "/top/sub")
    os.rename(sub.path("linked"), sub.path("d/linked"))
    os.mkdir(sub.path("new"))
    seen = tree.scan(sub.dir)
    sub.umount(flush=True)
    volume.check()
    whole = Mount(t, volume, name="whole")
    assert sorted(n for n in tree.scan(whole.dir) if not n.startswith("/top/sub")) == sorted(beside)
    assert os.path.getsize(whole.path("outside")) == 100_000
    below = tree.scan(whole.path("top/sub"))
    assert (seen["/"].pop("ino"), below["/"].pop("ino")) == (1, os.stat(whole.path("top/sub")).st_ino)
    tree.assert_same(seen, below, "the subdirectory and the same in the whole volume")
    whole.umount(flush=True)
    if os.environ.get("JUICEFS"):
        stock = StockMount(t, volume.url(), "--subdir", "/top/sub")
        below = tree.scan(stock.dir)
        assert below["/"].pop("ino") == 1
        tree.assert_same(seen, below, "the subdirectory here and in stock")
        stock.umount()
    sub.mount("--subdir", "/top/new/one")  # one that is not there is made, as by stock
    assert os.listdir(sub.dir) == []
    sub.umount(flush=True)
    volume.check()


def handle_of(path):
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136)
    base.call("name_to_handle_at", -100, path, handle, ctypes.byref(ctypes.c_int()), 0)
    return handle


def open_handle(m, handle):
    with base.opened(m.dir, os.O_RDONLY) as mount:
        return base.call("open_by_handle_at", mount, handle, os.O_RDONLY)


@test(timeout=60, needs=("root", "fuse", "jfs"))
def handles_outlive_mounts(t):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume)
    os.makedirs(m.path("d/e"))
    handles = {}
    for name in ("f", "d/f", "d/e/f", "gone", "d/e/gone"):
        with open(m.path(name), "wb") as f:
            f.write(name.encode())
        handles[name] = handle_of(m.path(name))
    handles["d/e"] = handle_of(m.path("d/e"))
    os.rename(m.path("d/f"), m.path("d/g"))
    os.unlink(m.path("gone"))
    for number in range(2):
        m.remount(flush=number == 1)
        if number == 1:
            os.unlink(m.path("d/e/gone"))
        for name in ("f", "d/f", "d/e/f"):
            fd = open_handle(m, handles[name])
            base.same(os.read(fd, 100), name.encode())
            os.close(fd)
        fd = open_handle(m, handles["d/e"])
        base.same(sorted(os.listdir(fd)), ["f"] if number else ["f", "gone"])
        base.same(os.readlink(f"/proc/self/fd/{fd}"), m.path("d/e"))
        os.close(fd)
        base.fails(errno.ESTALE, open_handle, m, handles["gone"])
    base.fails(errno.ESTALE, open_handle, m, handles["d/e/gone"])


@test(timeout=60, needs=("root", "fuse", "jfs"))
def overlay_file_systems_lie_on_it(t):
    """As containers have it: changes of an image's files land in a directory of the mount."""
    with open("/proc/filesystems", encoding="ascii") as f:
        if "\toverlay\n" not in f.read():
            raise Skip("the kernel has no overlay file system")
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback")
    lower, merged = t.folder("lower"), t.folder("merged")
    for name in ("kept", "changed", "removed", "renamed"):
        with open(os.path.join(lower, name), "w", encoding="ascii") as f:
            f.write(name)
    os.mkdir(os.path.join(lower, "folder"))

    def merge():
        t.run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={m.path('upper')},workdir={m.path('work')}", merged)

    def found():
        texts = {}
        for name in sorted(os.listdir(merged)):
            path = os.path.join(merged, name)
            if os.path.isfile(path):
                with open(path, encoding="ascii") as f:
                    texts[name] = f.read()
        return texts
    os.mkdir(m.path("upper"))
    os.mkdir(m.path("work"))
    t.defer(lambda: subprocess.run(["umount", "-l", merged], stderr=subprocess.DEVNULL, check=False))
    merge()
    with open(os.path.join(merged, "changed"), "a", encoding="ascii") as f:
        f.write(" above")
    os.unlink(os.path.join(merged, "removed"))
    os.rmdir(os.path.join(merged, "folder"))
    os.rename(os.path.join(merged, "renamed"), os.path.join(merged, "name"))
    after = {"changed": "changed above", "kept": "kept", "name": "renamed"}
    base.same(found(), after)
    t.run("umount", merged)
    for name in ("removed", "renamed", "folder"):
        base.same(os.lstat(m.path("upper", name)).st_rdev, 0, name)
    m.kill()
    m.mount()
    merge()
    base.same(found(), after, "after a crash")
    base.same(sorted(os.listdir(merged)), sorted(after))
    t.run("umount", merged)
    m.umount(flush=True)
    volume.check()


families = base.load()
unknown = sorted(set(families) ^ {f for group in GROUPS.values() for f in group})
assert not unknown, f"in a group or in tests/posix/checks, not in both: {unknown}"
for group in GROUPS:
    add(group, lambda t, name=group: run_group(t, name), 120, ("root", "fuse", "jfs"))

if __name__ == "__main__":
    sys.exit(main())
