#!/usr/bin/env python3
"""/.trash on a mount of ours: looked at, removed from, moved out of; nothing else."""
import errno
import os
import re
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *  # noqa: E402,F403

NEEDS = ("root", "fuse", "jfs")


def fails(code, function, *args, **more):
    try:
        function(*args, **more)
    except OSError as e:
        assert e.errno == code, f"{function.__name__}: {e.strerror} instead of {os.strerror(code)}"
        return
    raise AssertionError(f"{function.__name__} succeeded, expected {os.strerror(code)}")


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def trash_of(m):
    """{the name that something had: its path in the trash}"""
    out = {}
    for hour in os.listdir(m.path(".trash")):
        for name in os.listdir(m.path(".trash", hour)):
            out[re.fullmatch(r"\d+-\d+-(.*)", name, re.DOTALL)[1]] = m.path(".trash", hour, name)
    return out


def busy(m):
    return sum(v for k, v in m.stats().items() if k.startswith("workers_busy"))


def mounted(t, *options, trash_days=1):
    volume = Volume(t, RedisServer(t)).format("--block-size", "64", "--trash-days", str(trash_days))
    return Mount(t, volume, *options)


@test(timeout=60, needs=NEEDS)
def whole_trees_go_in_one_window(t):
    m = mounted(t)
    os.makedirs(m.path("a/b/c"))
    os.makedirs(m.path("a/d"))
    m.flush()
    for name in ("a/b/c", "a/b", "a/d", "a"):
        os.rmdir(m.path(name))
    m.flush()
    assert {name: os.lstat(path).st_nlink for name, path in trash_of(m).items()} == {"a": 2, "b": 2, "c": 2, "d": 2}
    m.umount(flush=True)
    m.volume.check()


@test(timeout=60, needs=NEEDS)
def deleted_things_can_be_looked_at(t):
    m = mounted(t)
    big = t.rng.randbytes(300_000)
    write(m.path("big"), big)
    with open(m.path("sparse"), "wb") as f:
        f.write(b"begin")
        f.seek((64 << 20) - 3)
        f.write(b"over the chunk's end")
    os.symlink("where to", m.path("link"))
    write(m.path("marked"), b"x")
    os.setxattr(m.path("marked"), "user.a", b"1")
    os.setxattr(m.path("marked"), "user.bc", b"")
    os.mkdir(m.path("dir"), 0o750)
    inodes = {n: os.lstat(m.path(n)).st_ino for n in ("big", "sparse", "link", "marked", "dir")}
    m.flush()
    for name in ("big", "sparse", "link", "marked"):
        os.unlink(m.path(name))
    os.rmdir(m.path("dir"))
    m.flush()
    trash = trash_of(m)
    assert {n: os.lstat(p).st_ino for n, p in trash.items()} == inodes
    assert read(trash["big"]) == big
    with open(trash["big"], "rb") as f:  # from the middle, and at and behind the end
        assert os.pread(f.fileno(), 70000, 123457) == big[123457:193457]
        assert os.pread(f.fileno(), 100, 299_990) == big[-10:]
        assert os.pread(f.fileno(), 100, 300_000) == b""
        assert os.lseek(f.fileno(), 5, os.SEEK_DATA) == 5 and os.lseek(f.fileno(), 5, os.SEEK_HOLE) == 300_000
    sparse = read(trash["sparse"])
    assert sparse[:5] == b"begin" and sparse[-20:] == b"over the chunk's end" and not any(sparse[5:-20])
    assert os.readlink(trash["link"]) == "where to"
    assert sorted(os.listxattr(trash["marked"])) == ["user.a", "user.bc"]
    assert os.getxattr(trash["marked"], "user.a") == b"1" and os.getxattr(trash["marked"], "user.bc") == b""
    fails(errno.ENODATA, os.getxattr, trash["marked"], "user.c")
    assert os.lstat(trash["dir"]).st_mode & 0o7777 == 0o750 and os.listdir(trash["dir"]) == []
    fails(errno.ENOENT, os.lstat, m.path(".trash", "nothing"))
    t.run("cp", trash["big"], m.path("back"))
    assert read(m.path("back")) == big
    assert ".trash" not in os.listdir(m.dir)
    m.umount(flush=True)
    m.volume.check()


@test(timeout=60, needs=NEEDS)
def nothing_else_can_be_changed(t):
    m = mounted(t)
    for name in ("f", "live"):
        write(m.path(name), b"text")
    os.mkdir(m.path("d"))
    m.flush()
    os.unlink(m.path("f"))
    os.rmdir(m.path("d"))
    m.flush()
    before = m.volume.keys()
    trash = trash_of(m)
    f, d = trash["f"], trash["d"]
    new = os.path.join(os.path.dirname(f), "new")
    for make in (lambda: write(new, b""), lambda: os.mkdir(new), lambda: os.symlink("x", new), lambda: os.mkfifo(new),
                 lambda: os.link(m.path("live"), new), lambda: os.link(f, m.path("other")),
                 lambda: os.rename(m.path("live"), new), lambda: os.rename(f, new), lambda: os.rename(d, new),
                 lambda: os.truncate(f, 0), lambda: os.chmod(f, 0o600),
                 lambda: os.utime(f), lambda: os.setxattr(f, "user.a", b"1"), lambda: os.removexattr(f, "user.a"),
                 lambda: write(f, b"other"), lambda: os.rmdir(m.path(".trash")),
                 lambda: os.rename(m.path(".trash"), m.path("other"))):
        fails(errno.EPERM, make)
    fails(errno.EEXIST, os.mkdir, m.path(".trash"))
    fails(errno.EXDEV, os.rename, f, m.path("other"))
    fails(errno.EISDIR, os.unlink, d)
    fails(errno.ENOTDIR, os.rmdir, f)
    fails(errno.ENOTEMPTY, os.rmdir, os.path.dirname(f))
    fails(errno.ENOENT, os.unlink, new)
    m.flush()
    assert read(f) == b"text"
    ours = ("zjfs", "allSessions", "sessionInfos", "setting")
    now = m.volume.keys()
    assert {k: v for k, v in now.items() if k not in ours} == {k: v for k, v in before.items() if k not in ours}


def fill(t, m):
    """Things of every kind, deleted and replayed. Of `two` the name `other` lives on."""
    with open(m.path("big"), "wb") as f:
        f.write(t.rng.randbytes(300_000))
        f.seek((64 << 20) + 5)
        f.write(b"in the second chunk")
    t.run("cp", "--reflink=never", m.path("big"), m.path("copy"))
    write(m.path("two"), b"two names")
    os.link(m.path("two"), m.path("other"))
    os.symlink("where to", m.path("link"))
    os.mkfifo(m.path("pipe"))
    write(m.path("marked"), b"x")
    os.setxattr(m.path("marked"), "user.a", b"1")
    os.mkdir(m.path("dir"))
    m.flush()
    for name in ("big", "two", "link", "pipe", "marked"):
        os.unlink(m.path(name))
    os.rmdir(m.path("dir"))
    m.flush()


def free_of(m):
    st = os.statvfs(m.dir)
    return st.f_files - st.f_ffree, (st.f_blocks - st.f_bavail) * st.f_frsize


@test(timeout=60, needs=NEEDS)
def root_can_remove_what_lies_there(t):
    volume = Volume(t, RedisServer(t)).format("--block-size", "64", "--trash-days", "1", "--capacity", "1", "--inodes", "100")
    m = Mount(t, volume, "--writeback")
    fill(t, m)
    trash = trash_of(m)
    used = free_of(m)
    assert sorted(trash) == ["big", "dir", "link", "marked", "pipe", "two"]
    os.unlink(trash["big"])
    assert free_of(m)[0] == used[0] - 1 and free_of(m)[1] == used[1] - ((64 << 20) + 4096), "what it took is free again"
    fails(errno.ENOENT, os.lstat, trash["big"])
    fails(errno.ENOENT, os.unlink, trash["big"])
    volume.check()
    for name in ("link", "pipe", "marked", "two"):
        os.unlink(trash[name])
        volume.check()
    os.rmdir(trash["dir"])
    volume.check()
    assert trash_of(m) == {}
    assert read(m.path("other")) == b"two names" and os.stat(m.path("other")).st_nlink == 1
    write(m.path("other"), b"goes on")
    for hour in os.listdir(m.path(".trash")):
        os.rmdir(m.path(".trash", hour))
    assert os.listdir(m.path(".trash")) == []
    write(m.path("next"), b"into a new hour's directory")
    m.flush()
    os.unlink(m.path("next"))
    m.flush()
    wait_until(lambda: list(trash_of(m)) == ["next"], what="the kernel to look again")
    write(m.path("more"), b"into the same")
    m.flush()
    os.unlink(m.path("more"))
    m.flush()
    wait_until(lambda: sorted(trash_of(m)) == ["more", "next"], what="the kernel to look again")
    m.umount(flush=True)
    volume.check()


@test(timeout=60, needs=NEEDS)
def a_whole_trash_can_be_removed_and_stays_so_after_a_crash(t):
    m = mounted(t, "--writeback")
    os.mkdir(m.path("d"))
    for i in range(300):
        write(m.path("d", f"f{i}"), b"x" * i)
    m.flush()
    t.run("rm", "-r", m.path("d"))
    m.flush()
    assert len(trash_of(m)) == 301
    write(m.path("not replayed"), b"yet")
    t.run("rm", "-r", *(m.path(".trash", hour) for hour in os.listdir(m.path(".trash"))))
    m.kill()
    t.run("umount", "-l", m.dir)
    m.mount()
    assert os.listdir(m.path(".trash")) == [] and os.listdir(m.dir) == ["not replayed"]
    m.umount(flush=True)
    assert m.volume.check().counter("usedSpace") == 4096


@test(timeout=60, needs=NEEDS)
def what_is_open_here_is_busy_until_it_is_closed(t):
    m = mounted(t, "--writeback")
    write(m.path("f"), b"text")
    m.flush()
    with open(m.path("f"), "r+b") as f:
        os.unlink(m.path("f"))
        m.flush()
        trash = trash_of(m)
        fails(errno.EBUSY, os.unlink, trash["f"])
        f.write(b"changed while it lies in the trash")
    # The close's record is waited for, not met half-way by it.
    wait_until(lambda: removed(trash["f"]), what="the last reference of the closed file to go")
    assert trash_of(m) == {}
    m.umount(flush=True)
    m.volume.check()


def removed(path):
    """The kernel tells of the last close when it likes."""
    try:
        os.unlink(path)
    except OSError as e:
        assert e.errno == errno.EBUSY, e
        return None
    return True


@test(timeout=60, needs=NEEDS)
def history_26_mv_out_of_the_trash(t):
    m = mounted(t, "--writeback", "--upload-delay", "10m")
    data = t.rng.randbytes(200_000)
    os.mkdir(m.path("dir"))
    write(m.path("dir", "f"), data)
    os.symlink("where to", m.path("link"))
    write(m.path("late"), data[:1000])
    m.flush()
    t.run("rm", "-r", m.path("dir"), m.path("link"), m.path("late"))
    m.flush()
    trash = trash_of(m)
    t.run("mv", trash["f"], m.path("f"))
    t.run("mv", trash["link"], m.path("link"))
    t.run("mv", trash["dir"], m.path("dir"))
    # Somebody else's turn between the copy and the removal: the copy stays, and mv would say that the original is gone.
    fails(errno.EXDEV, os.rename, trash["late"], m.path("late"))
    write(m.path("late"), read(trash["late"]))
    if os.environ.get("JUICEFS"):
        past = os.path.basename(os.path.dirname(trash["late"]))
        with m.volume.redis.client(m.volume.db) as c:
            root = "d9223372032828243968"
            entry = c("HGET", root, past)
            c("HDEL", root, past)
            c("HSET", root, "2001-01-01-00", entry)
        Stock(t, m.volume.url()).run("gc", "--delete")
    else:
        os.unlink(trash["late"])
    fails(errno.ENOENT, os.unlink, trash["late"])
    assert trash_of(m) == {}
    m.kill()  # nothing of the copies is in S3 yet, all of it is in the journal
    t.run("umount", "-l", m.dir)
    m.mount()
    assert read(m.path("f")) == data and read(m.path("late")) == data[:1000]
    assert os.readlink(m.path("link")) == "where to" and os.listdir(m.path("dir")) == []
    m.umount(flush=True)
    m.volume.check()


@test(timeout=90, needs=(*NEEDS, "juicefs"))
def stock_finds_nothing_after_removals(t):
    m = mounted(t, "--writeback")
    fill(t, m)
    t.run("rm", "-r", *(m.path(".trash", hour) for hour in os.listdir(m.path(".trash"))))
    m.umount(flush=True)
    m.volume.check()
    Stock(t, m.volume.url()).find_nothing()


@test(timeout=60, needs=NEEDS)
def others_than_root_remove_nothing(t):
    m = mounted(t, "-o", "allow_other")
    write(m.path("f"), b"text")
    m.flush()
    os.unlink(m.path("f"))
    m.flush()
    f = trash_of(m)["f"]
    os.chmod(t.dir, 0o755)
    for command in (["unlink", f], ["rmdir", os.path.dirname(f)], ["mv", f, "/nowhere"]):
        assert subprocess.run(command, user=65534, stderr=subprocess.DEVNULL, check=False).returncode != 0
    assert read(f) == b"text"


@test(timeout=60, needs=NEEDS)
def a_large_hour_is_listed_completely(t):
    m = mounted(t, "--writeback")
    names = {f"file{i}" for i in range(3000)}
    os.mkdir(m.path("d"))
    for name in names:
        write(m.path("d", name), b"")
    m.flush()
    for name in names:
        os.unlink(m.path("d", name))
    m.flush()
    seen = [e.name.split("-", 2)[2] for hour in os.scandir(m.path(".trash")) for e in os.scandir(hour.path)
            if e.stat(follow_symlinks=False).st_size == 0]
    assert len(seen) == 3000 and set(seen) == names


@test(timeout=60, needs=NEEDS)
def there_is_none_where_there_should_be_none(t):
    m = mounted(t, trash_days=0)
    fails(errno.ENOENT, os.listdir, m.path(".trash"))
    m.umount(flush=True)
    volume = Volume(t, m.volume.redis, name="two", db=1).format()
    m = Mount(t, volume, name="two")
    os.mkdir(m.path("sub"))
    assert os.listdir(m.path(".trash")) == []
    m.umount(flush=True)
    m.mount("--subdir", "sub")
    fails(errno.ENOENT, os.listdir, m.path(".trash"))


@test(timeout=60, needs=NEEDS)
def who_looks_while_redis_is_away_waits_and_can_be_killed(t):
    m = mounted(t, "--writeback")
    write(m.path("f"), b"text")
    m.flush()
    os.unlink(m.path("f"))
    m.flush()
    os.kill(m.volume.redis.process.pid, signal.SIGSTOP)
    t.defer(os.kill, m.volume.redis.process.pid, signal.SIGCONT)
    ls = subprocess.Popen(["ls", m.path(".trash")], stdout=subprocess.DEVNULL)
    wait_until(lambda: busy(m) or None, what="ls to ask Redis")
    write(m.path("g"), b"the root is free")
    assert ls.poll() is None
    ls.kill()
    assert ls.wait(20) == -signal.SIGKILL
    os.kill(m.volume.redis.process.pid, signal.SIGCONT)
    assert list(trash_of(m)) == ["f"]


if __name__ == "__main__":
    sys.exit(main())
