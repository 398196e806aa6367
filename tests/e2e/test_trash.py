#!/usr/bin/env python3
"""/.trash on a mount of ours: to be looked at, not to be changed."""
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
def nothing_can_be_changed(t):
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
                 lambda: os.rename(f, m.path("other")), lambda: os.rename(m.path("live"), new), lambda: os.rename(f, new),
                 lambda: os.unlink(f), lambda: os.rmdir(d), lambda: os.truncate(f, 0), lambda: os.chmod(f, 0o600),
                 lambda: os.utime(f), lambda: os.setxattr(f, "user.a", b"1"), lambda: os.removexattr(f, "user.a"),
                 lambda: write(f, b"other"), lambda: os.rmdir(m.path(".trash")),
                 lambda: os.rename(m.path(".trash"), m.path("other"))):
        fails(errno.EPERM, make)
    fails(errno.EEXIST, os.mkdir, m.path(".trash"))
    m.flush()
    assert read(f) == b"text"
    ours = ("zjfs", "allSessions", "sessionInfos", "setting")
    now = m.volume.keys()
    assert {k: v for k, v in now.items() if k not in ours} == {k: v for k, v in before.items() if k not in ours}


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
