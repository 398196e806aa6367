#!/usr/bin/env python3
"""Mounts that only look (--read-only): beside a writer, whose lease they neither need nor take, and never far behind it."""
import contextlib
import errno
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tree  # noqa: E402
from harness import *  # noqa: E402,F403

NEEDS = ("root", "fuse", "jfs")


def write(path, data, mode="wb"):
    with open(path, mode) as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def fails_with(number, function, *args):
    try:
        function(*args)
    except OSError as e:
        assert e.errno == number, e
    else:
        raise AssertionError(f"no error, expected {errno.errorcode[number]}")


def lease(v):
    fields = v.keys()["zjfs"]["hash"]
    return {n: bytes.fromhex(fields[n]) for n in ("epoch", "holder", "released", "journal")}


def sessions(v):
    return v.keys()["allSessions"]["zset"].keys()


def volume(t):
    return Volume(t, RedisServer(t)).format("--block-size", "64", "--trash-days", "0")


@test(timeout=90, needs=NEEDS)
def a_reader_beside_a_writer(t):
    v = volume(t)
    m = Mount(t, v, "--writeback")
    os.mkdir(m.path("d"))
    body = t.rng.randbytes(200_000)
    for name in ("d/kept", "d/changed", "d/gone", "d/renamed", "d/replaced", "other"):
        write(m.path(name), body)
    m.flush()
    held, listed = lease(v), sessions(v)
    readers = [Mount(t, v, "--read-only", name=f"r{i}", query=q) for i, q in enumerate(("", "prime=1"))]
    for r in readers:
        assert sorted(os.listdir(r.path("d"))) == ["changed", "gone", "kept", "renamed", "replaced"]
        assert all(read(r.path("d", n)) == body for n in os.listdir(r.path("d")))
        for change in (lambda r=r: write(r.path("new"), b""), lambda r=r: os.unlink(r.path("d/kept")),
                       lambda r=r: os.mkdir(r.path("e")), lambda r=r: os.truncate(r.path("d/kept"), 0)):
            fails_with(errno.EROFS, change)
    assert (lease(v), sessions(v)) == (held, listed), "a mount that only looks left a trace"
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(open(r.path("d/renamed"), "rb", buffering=0)) for r in readers]
        write(m.path("d/changed"), b"short")
        with open(m.path("other"), "r+b") as f:  # the same length
            f.seek(1000)
            f.write(b"#" * 1000)
        os.unlink(m.path("d/gone"))
        os.mkdir(m.path("d/sub"))
        os.rename(m.path("d/renamed"), m.path("d/sub/in"))
        os.rename(m.path("d/replaced"), m.path("d/kept"))
        write(m.path("d/new"), b"new")
        os.chmod(m.path("d/new"), 0o600)
        m.flush()
        for r in readers:
            wait_until(lambda r=r: sorted(os.listdir(r.path("d"))) == ["changed", "kept", "new", "sub"], what="the new names")
            wait_until(lambda r=r: read(r.path("d/changed")) == b"short", what="a file that was written anew")
            wait_until(lambda r=r: read(r.path("other"))[1000:2000] == b"#" * 1000, what="a page that was written anew")
            wait_until(lambda r=r: read(r.path("d/sub/in")) == body and not os.path.exists(r.path("d/gone")), what="the move")
            tree.assert_same(tree.scan(m.dir), tree.scan(r.dir), "writer and reader")
        assert all(f.read(10) == body[:10] for f in opened)
    for r in readers:
        r.umount(flush=True)
    assert (lease(v), sessions(v)) == (held, listed)
    write(m.path("still"), b"mine")
    m.umount(flush=True)
    v.check()


@test(timeout=120, needs=NEEDS)
def what_nobody_changes_is_always_there(t):
    """The view is emptied again and again while programs look: no error, no stale byte, no name missing."""
    v = volume(t)
    m = Mount(t, v, "--writeback")
    os.mkdir(m.path("d"))
    files = {f"f{i:02}": t.rng.randbytes(t.rng.randrange(1, 70_000)) for i in range(60)}
    for name, data in files.items():
        write(m.path("d", name), data)
    many = {f"g{i:04}" for i in range(2000)}  # more than are dropped at once
    for name in many:
        os.mknod(m.path("d", name))
    os.setxattr(m.path("d/f00"), "user.a", b"1")
    os.symlink("f00", m.path("d/link"))
    m.flush()
    r = Mount(t, v, "--read-only", "--heartbeat", "20ms", name="r")
    stop, wrong, rounds = threading.Event(), [], [0, 0, 0]

    def look(k):
        try:
            while not stop.is_set():
                assert set(os.listdir(r.path("d"))) == files.keys() | many | {"link"}, "a name is missing"
                for name in t.rng.sample(sorted(many), 20):
                    assert os.stat(r.path("d", name)).st_size == 0
                for name in files if k == 0 else t.rng.sample(sorted(files), 5):
                    assert read(r.path("d", name)) == files[name], name
                assert os.getxattr(r.path("d/f00"), "user.a") == b"1" and os.readlink(r.path("d/link")) == "f00"
                rounds[k] += 1
        except Exception as e:
            wrong.append(e)
    threads = [threading.Thread(target=look, args=(k,)) for k in range(3)]
    for th in threads:
        th.start()
    made = 0
    while not wrong and (made < 60 or min(rounds) < 3):
        write(m.path(f"n{made}"), b"x")
        m.flush()
        made += 1
    stop.set()
    for th in threads:
        th.join()
    assert not wrong, wrong
    t.note(made, "changes,", rounds, "rounds")
    wait_until(lambda: len(os.listdir(r.dir)) == made + 1, what="the last change")
    r.umount()
    m.umount(flush=True)


@test(timeout=60, needs=NEEDS)
def it_needs_no_lease(t):
    """The writer's host has crashed, and holds the lease: who only looks sees what Redis has, and leaves it to the writer."""
    v = volume(t)
    m = Mount(t, v, "--writeback")
    write(m.path("f"), b"1")
    m.flush()
    m.kill()
    held = lease(v)
    r = Mount(t, v, "--read-only", name="r", cache=m.cache)  # on the same host, even
    assert read(r.path("f")) == b"1"
    m.mount()
    write(m.path("g"), b"2")
    m.flush()
    wait_until(lambda: os.path.exists(r.path("g")), what="the writer's next file")
    r.kill()
    r.mount()
    assert sorted(os.listdir(r.dir)) == ["f", "g"]
    text = r.t.run(JFS, "status", r.dir)
    r.t.note(text)
    r.umount()
    assert lease(v)["holder"] == held["holder"]
    t.run(*r.command("--takeover"), status=2)
    m.umount(flush=True)
    t.run(JFS_RECOVER, "check", v.url(), "--cache-dir", m.cache)


@test(timeout=60, needs=NEEDS)
def a_volume_that_stock_made(t):
    v = Volume(t, RedisServer(t)).load_fixture("small")
    before = v.keys()
    r = Mount(t, v, "--read-only")
    tree.assert_same(tree.read(os.path.join(ROOT, "tests/golden/fixtures/small/tree.json")), tree.scan(r.dir), "small")
    r.umount()
    assert v.keys() == before, "looking changed the volume"


if __name__ == "__main__":
    sys.exit(main())
