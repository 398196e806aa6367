#!/usr/bin/env python3
"""The commands of .control that stock's tools send (spec 6.3): clone and compact, and what must be refused."""
import errno
import os
import stat
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "lib")]
import tree  # noqa: E402
from harness import *  # noqa: E402,F403

NEEDS = ("root", "fuse", "jfs")
CLONE, COMPACT, PRESERVE, ROOT_INODE = 1006, 1008, 2, 1


def request(verb, payload):
    return struct.pack(">II", verb, len(payload)) + payload


def clone_request(source, parent, name, umask=0o022, mode=0):
    name = os.fsencode(name)
    return request(CLONE, struct.pack(">QQQB", source, 0, parent, len(name)) + name + struct.pack(">HBB", umask, mode, 4))


def send(m, data, pieces=1, path=None):
    """The errno that a request is answered with. It may come in several writes."""
    step = -(-len(data) // pieces)
    fd = os.open(path or m.path(".control"), os.O_RDWR)
    try:
        for at in range(0, len(data), step):
            os.write(fd, data[at:at + step])
        return os.read(fd, 1)[0]
    finally:
        os.close(fd)


def send_as(m, user, data):
    pid = os.fork()
    if pid == 0:
        answer = 255
        try:
            os.chdir(m.dir)  # the way to it is root's alone
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            answer = send(m, data, path=".control")
        finally:
            os._exit(answer)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def clone(m, source, target, **options):
    """As a tool would: looks first whether the name is free, so the kernel knows that it is not there."""
    parent, name = os.path.split(m.path(target))
    assert not os.path.lexists(m.path(target))
    return send(m, clone_request(os.lstat(m.path(source)).st_ino, os.stat(parent).st_ino, name, **options))


def write(path, data, offset=0):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o640)
    os.pwrite(fd, data, offset)
    os.close(fd)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def make_tree(m):
    os.makedirs(m.path("src/deep/er"))
    write(m.path("src/file"), os.urandom(150000))
    write(m.path("src/sparse"), b"end", 70 << 20)
    write(m.path("src/deep/er/small"), b"small")
    write(m.path("src/deep/empty"), b"")
    os.link(m.path("src/file"), m.path("src/deep/link"))
    os.symlink("../file", m.path("src/deep/symlink"))
    os.mkfifo(m.path("src/fifo"))
    os.setxattr(m.path("src/file"), "user.a", b"value")
    os.setxattr(m.path("src/deep"), "user.b", b"of a directory")
    os.chown(m.path("src/deep/er/small"), 1234, 4321)
    os.chmod(m.path("src/deep/er"), 0o2771)
    for path in ("src/file", "src/deep/er", "src/deep"):
        os.utime(m.path(path), ns=(10**18 + 7, 10**18 + 9))


def same(a, b, owner):
    """The two trees hold the same; a file with several names has become several files."""
    for folder, names, files in os.walk(a):
        there = os.path.join(b, os.path.relpath(folder, a))
        assert sorted(os.listdir(there)) == sorted(os.listdir(folder))
        for name in names + files:
            x, y = os.path.join(folder, name), os.path.join(there, name)
            sx, sy = os.lstat(x), os.lstat(y)
            assert stat.S_IFMT(sx.st_mode) == stat.S_IFMT(sy.st_mode) and sx.st_size == sy.st_size, y
            assert sx.st_ino != sy.st_ino
            if stat.S_ISREG(sx.st_mode):
                assert read(x) == read(y), y
                assert sy.st_nlink == 1
            if stat.S_ISLNK(sx.st_mode):
                assert os.readlink(x) == os.readlink(y)
                continue
            assert {n: os.getxattr(x, n) for n in os.listxattr(x)} == {n: os.getxattr(y, n) for n in os.listxattr(y)}
            if owner:
                assert (sx.st_mode, sx.st_uid, sx.st_gid, sx.st_mtime_ns) == (sy.st_mode, sy.st_uid, sy.st_gid, sy.st_mtime_ns), y
            else:
                assert (sy.st_mode & 0o7777, sy.st_uid, sy.st_gid) == (sx.st_mode & 0o7777 & ~0o022, 0, 0), y


@test(timeout=90, needs=NEEDS)
def clone_copies_a_tree_by_reference(t):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0", "--block-size", "64")
    m = Mount(t, volume, "--writeback")
    make_tree(m)
    m.flush()
    before = m.stats()["object_request_data_bytes_PUT"]
    assert clone(m, "src", "copy") == 0
    assert clone(m, "src", "kept", mode=PRESERVE) == 0
    assert clone(m, "src/file", "src/one") == 0
    same(m.path("src/deep"), m.path("copy/deep"), False)
    os.unlink(m.path("src/one"))
    same(m.path("src"), m.path("kept"), True)
    m.flush()
    assert m.stats()["object_request_data_bytes_PUT"] == before, "a clone uploaded data"
    write(m.path("src/file"), b"changed", 100)  # the copies are independent
    assert read(m.path("kept/file")) != read(m.path("src/file"))
    wanted = tree.scan(m.dir)
    m.umount(flush=True)
    volume.check()
    other = Mount(t, volume, name="other")
    tree.assert_same(wanted, tree.scan(other.dir), "by an empty cache")
    other.umount(flush=True)


@test(timeout=90, needs=NEEDS)
def a_clone_of_what_was_never_here_loads_it(t):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0", "--block-size", "64")
    m = Mount(t, volume, "--writeback")
    make_tree(m)
    m.umount(flush=True)
    other = Mount(t, volume, "--writeback", name="other")
    assert clone(other, "src", "copy", mode=PRESERVE) == 0
    same(other.path("src"), other.path("copy"), True)
    other.umount(flush=True)
    volume.check()


@test(timeout=60, needs=NEEDS)
def clone_refuses_and_leaves_nothing(t):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0", "--inodes", "20")
    m = Mount(t, volume, "--writeback")
    os.mkdir(m.path("dir"))
    for i in range(12):
        write(m.path(f"dir/f{i}"), b"x")
    ino = os.stat(m.path("dir")).st_ino
    assert send(m, clone_request(ino, ROOT_INODE, "dir")) == errno.EEXIST
    assert send(m, clone_request(ino, os.stat(m.path("dir/f0")).st_ino, "x")) == errno.ENOTDIR
    assert send(m, clone_request(987654, ROOT_INODE, "x")) == errno.ENOENT
    assert send(m, clone_request(ino, ROOT_INODE, "copy")) == errno.ENOSPC
    assert os.listdir(m.dir) == ["dir"], "what had been copied was left"
    os.unlink(m.path("dir/f0"))
    m.umount(flush=True)
    volume.check()


@test(timeout=60, needs=NEEDS)
def clone_asks_for_permission(t):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback")
    os.mkdir(m.path("theirs"), 0o755)
    os.chown(m.path("theirs"), 1000, 1000)
    write(m.path("theirs/open"), b"data")
    os.chmod(m.path("theirs/open"), 0o644)
    write(m.path("secret"), b"data")
    os.chmod(m.path("secret"), 0o600)
    theirs = os.stat(m.path("theirs")).st_ino
    ino = os.stat(m.path("theirs/open")).st_ino
    os.mkdir(m.path("ours"), 0o755)
    assert send_as(m, 1000, clone_request(os.stat(m.path("secret")).st_ino, theirs, "x")) == errno.EACCES
    assert send_as(m, 1000, clone_request(ino, os.stat(m.path("ours")).st_ino, "x")) == errno.EACCES
    assert send_as(m, 1001, clone_request(ino, theirs, "x")) == errno.EACCES
    assert send_as(m, 1000, clone_request(ino, theirs, "mine")) == 0
    st = os.stat(m.path("theirs/mine"))
    assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (1000, 1000, 0o644)
    assert send_as(m, 1001, request(COMPACT, struct.pack(">QH", os.stat(m.path("secret")).st_ino, 1))) == errno.EACCES
    m.umount(flush=True)


@test(timeout=60, needs=NEEDS)
def compact_leaves_one_slice_a_chunk(t):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0", "--block-size", "64")
    m = Mount(t, volume, "--writeback")
    os.mkdir(m.path("d"))
    for name in ("d/many", "holes"):
        write(m.path(name), os.urandom(20000))
        for i in range(3):
            m.flush()
            write(m.path(name), os.urandom(100), 30000 * i + 500)
    write(m.path("one"), b"one")
    m.flush()
    lists = [len(records) for records in volume.keyspace().chunks.values()]
    assert max(lists) > 1, "nothing to compact"
    wanted = tree.scan(m.dir)
    assert send(m, request(COMPACT, struct.pack(">QH", ROOT_INODE, 2))) == 0
    lists = [len(records) for records in volume.keyspace().chunks.values()]
    assert lists == [1, 1, 1], f"lists of {lists} records"
    tree.assert_same(wanted, tree.scan(m.dir), "after compact")
    m.umount(flush=True)
    volume.check()
    other = Mount(t, volume, name="other")
    tree.assert_same(wanted, tree.scan(other.dir), "by an empty cache")
    other.umount(flush=True)


@test(timeout=60, needs=NEEDS)
def malformed_requests_are_answered(t):
    volume = Volume(t, RedisServer(t)).format()
    m = Mount(t, volume, "--writeback")
    good = clone_request(ROOT_INODE, ROOT_INODE, "x")
    bad = [request(4242, b""), request(CLONE, b""), request(COMPACT, b"1234"), request(CLONE, good[8:-4]),
           request(CLONE, good[8:] + b"more"), clone_request(ROOT_INODE, ROOT_INODE, "a/b"),
           clone_request(ROOT_INODE, ROOT_INODE, "a\0b"), clone_request(ROOT_INODE, ROOT_INODE, "")]
    for data in bad:
        assert send(m, data) == errno.EINVAL, data
    assert send(m, clone_request(ROOT_INODE, ROOT_INODE, ".stats")) != 0
    write(m.path("f"), b"data")
    assert send(m, clone_request(os.stat(m.path("f")).st_ino, ROOT_INODE, "g"), pieces=5) == 0
    assert read(m.path("g")) == b"data"
    m.umount(flush=True)
    volume.check()


@test(timeout=60, needs=NEEDS)
def a_tree_can_be_cloned_into_itself(t):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback")
    os.mkdir(m.path("d"))
    write(m.path("d/f"), b"data")
    assert clone(m, "d", "d/copy") == 0
    assert sorted(os.listdir(m.path("d/copy"))) == ["f"]
    m.umount(flush=True)
    volume.check()


if __name__ == "__main__":
    sys.exit(main())
