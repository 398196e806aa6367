#!/usr/bin/env python3
"""What is still to come: who waits for S3 and Redis, who must not, and what is kept until it has arrived (P6, P7, P11)."""
import contextlib
import errno
import os
import re
import signal
import struct
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "lib")]
import keyspace  # noqa: E402
from core import CommandError  # noqa: E402
from harness import *  # noqa: E402,F403

NEEDS = ("root", "fuse", "jfs")
MIB = 1 << 20


class Bucket:
    """The bucket of a volume as something that can be away: then every request fails."""

    def __init__(self, volume):
        self.dir = os.path.join(volume.bucket, volume.name)

    def leave(self):
        os.rename(self.dir, self.dir + ".away")
        with open(self.dir, "w", encoding="ascii"):
            pass

    def come_back(self):
        os.unlink(self.dir)
        os.rename(self.dir + ".away", self.dir)


def put(m, name, data):
    with open(m.path(name), "wb") as f:
        f.write(data)


def get(m, name):
    with open(m.path(name), "rb") as f:
        return f.read()


def flushing(t, m):
    """A jfs flush that waits."""
    p = t.spawn(JFS, "flush", m.dir, name="flush")

    def asks():
        fds = f"/proc/{p.pid}/fd"
        return any(os.readlink(os.path.join(fds, n)).endswith("/.control") for n in os.listdir(fds))
    wait_until(asks, what="a waiting flush")
    return p


def fails(t, *argv, timeout=60):
    try:
        t.run(*argv, timeout=timeout)
    except CommandError as e:
        return str(e)
    raise AssertionError(f"{argv[1]} has succeeded")


@test(timeout=120, needs=NEEDS)
def close_waits_for_data_and_for_nothing_else(t):
    """Without --writeback a close() waits for S3, but a reader's does not, nor that of a file whose mode was changed."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    bucket = Bucket(volume)
    m = Mount(t, volume)
    put(m, "old", b"old" * 1000)
    bucket.leave()
    writer = threading.Thread(target=put, args=(m, "new", b"new" * 1000))
    writer.start()
    wait_until(lambda: m.stats()["object_request_errors"] > 0, what="a failed upload")
    os.chmod(m.path("old"), 0o600)
    os.utime(m.path("old"), (1, 2))
    assert get(m, "old") == b"old" * 1000  # touches the access time
    put(m, "empty", b"")
    assert writer.is_alive(), "close() did not wait for the data"
    bucket.come_back()
    writer.join()
    m.umount(flush=True)
    volume.check()


@test(timeout=180, needs=NEEDS)
def p7_eager_keeps_what_redis_names_and_s3_lacks(t):
    """publish=eager while S3 is away: whole segments of published files die here; Redis still needs their objects."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    bucket = Bucket(volume)
    m = Mount(t, volume, "--writeback", "--publish", "eager")
    put(m, "first", b"1")
    m.flush()
    bucket.leave()
    data = os.urandom(MIB)
    for i in range(3):
        put(m, f"big{i}", data * 50)
    names = {f"big{i}".encode() for i in range(3)}

    def published():
        with volume.redis.client() as c:
            return names <= set(c("HKEYS", "d1"))

    wait_until(published, what="names in Redis")
    for i in range(3):
        os.unlink(m.path(f"big{i}"))
    put(m, "last", data)
    with volume.redis.client() as c:
        wait_until(lambda: b"last" in c("HKEYS", "d1"), what="the last name in Redis")
    # with all of it still to be uploaded, nothing is given away: not the lease, and not the bytes
    m.umount()
    other = Mount(t, volume, name="other", start=False)
    assert "held" in other.mount(status=1)
    m.mount()
    assert get(m, "last") == data
    bucket.come_back()
    m.umount(flush=True)
    volume.check()
    other.mount()
    assert get(other, "last") == data
    other.umount(flush=True)


@test(timeout=120, needs=NEEDS)
def a_window_of_any_number_of_extents_is_applied(t):
    """With little logs the extents of this file exceed what a record may hold."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h", "--hot-size", "4M")
    places = list(range(12000))
    t.rng.shuffle(places)
    with open(m.path("f"), "wb", buffering=0) as f:
        for i in places:
            os.pwrite(f.fileno(), b"%010d" % i, 10 * i)
    m.flush()
    assert get(m, "f") == b"".join(b"%010d" % i for i in range(12000))
    m.umount(flush=True)
    volume.check()


@test(timeout=120, needs=NEEDS)
def p12_a_full_disk_holds_replay_up_and_does_not_end_it(t):
    """Flushes of the journal find no room, a few at a time, wherever a window is just then."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    first = t.rng.randrange(30, 50)
    hits = [n + k for n in range(first, first + 160, 20) for k in (0, 1)]  # two: the first one gives the reserve up
    m = Mount(t, volume, "--writeback", env={"JFS_FAULT": ",".join(f"journal.flush.before_commit:{n}:ENOSPC" for n in hits)})
    for i in range(60):
        with contextlib.suppress(OSError):
            put(m, f"f{i}", b"%d" % i)
        m.flush(timeout=30)
    put(m, "end", b"end")
    m.umount(flush=True)
    volume.check()


@test(timeout=120, needs=NEEDS)
def a_flush_that_cannot_end_says_so(t):
    """Replay stops for good, because somebody moved Redis's position, while a flush waits for it."""
    redis = RedisServer(t)
    net = t.enter(TcpFault(redis.port))
    volume = Volume(t, redis).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", port=net.port)
    put(m, "a", b"1")
    m.flush()
    net("refuse")
    put(m, "b", b"2")
    flush = flushing(t, m)
    with redis.client() as c:
        c("HSET", "zjfs", "chain", "0" * 32)
    net("pass")
    assert flush.wait(30) != 0
    assert "jfs status" in fails(t, JFS, "umount", "--flush", m.dir, timeout=30)
    seen = t.run(JFS, "status", m.dir)
    assert re.search(r"^replay +stopped: .*history", seen, re.M), seen
    m.umount(timeout=30)


@test(timeout=120, needs=NEEDS)
def a_mount_ends_though_somebody_waits_for_redis(t):
    redis = RedisServer(t)
    volume = Volume(t, redis).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback")
    put(m, "a", b"1")
    redis.kill()
    put(m, "b", b"2")
    flush = flushing(t, m)
    m.signal(signal.SIGTERM)
    wait_until(lambda: not m.is_mounted(), what="the mount to be detached")
    m.signal(signal.SIGTERM)
    m.wait_daemon(60)
    assert flush.wait(30) != 0
    redis.start()
    m.mount()
    assert get(m, "b") == b"2"
    m.umount(flush=True)
    volume.check()


def deleted_past_retention(t, volume, m):
    """Writes and deletes a file, both published; waits until the retention of that is over. Its object's path."""
    put(m, "f", b"x" * 1000)
    m.flush()
    before = set(objects(volume))
    os.unlink(m.path("f"))
    m.flush()
    gone = m.stats()["sequence_applied"]
    wait_until(lambda: m.stats()["sequence_trim"] >= gone, 30, "the end of the retention")
    assert len(before) == 1
    return before.pop()


def objects(volume):
    return [os.path.join(d, f) for d, _, files in os.walk(volume.bucket) for f in files if d.find("/chunks/") > 0]


@test(timeout=60, needs=NEEDS)
def p10_an_object_goes_when_the_retention_is_over(t):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--retention", "1s")
    path = deleted_past_retention(t, volume, m)
    wait_until(lambda: not os.path.exists(path), 30, "the object to be deleted")
    m.umount(flush=True)


@test(timeout=90, needs=NEEDS)
def h36_a_copy_of_a_rewritten_file_refers_to_what_is_still_there(t):
    """A list that grew too long is rewritten as one slice and the old slices are deleted; what is copied from the file
    afterwards must not refer to them."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0", "--block-size", "64")
    m = Mount(t, volume, "--writeback", "--retention", "1s")
    want = bytearray(b"base" * 5000)
    put(m, "f", bytes(want))
    m.flush()
    first = set(objects(volume))
    for i in range(6):
        want[3000 * i:3000 * i + 100] = bytes([65 + i]) * 100
        with open(m.path("f"), "r+b") as f:
            f.seek(3000 * i)
            f.write(bytes([65 + i]) * 100)
        m.flush()
    wait_until(lambda: not first & set(objects(volume)), 30, "the end of the first slice")
    want[:19000] = b"over" * 4750  # few pieces again: a copy of them is a list of two records
    with open(m.path("f"), "r+b") as f:
        f.write(want[:19000])
    with open(m.path("f"), "rb") as a, open(m.path("g"), "wb") as b:
        assert os.copy_file_range(a.fileno(), b.fileno(), len(want)) == len(want)
    assert get(m, "g") == want
    m.umount(flush=True)
    volume.check()
    other = Mount(t, volume, name="other")
    assert get(other, "f") == want
    assert get(other, "g") == want
    other.umount(flush=True)


@test(timeout=60, needs=NEEDS)
def max_deletes_0_leaves_objects_alone(t):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--retention", "1s", "--max-deletes", "0")
    path = deleted_past_retention(t, volume, m)
    put(m, "g", b"y")  # a whole window later it is still there
    m.flush()
    m.umount(flush=True)
    assert os.path.exists(path)


@test(timeout=60, needs=NEEDS)
def another_bucket_for_this_mount(t):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume)
    put(m, "f", b"where it was")
    m.umount(flush=True)
    moved = t.folder("moved")
    os.rename(os.path.join(volume.bucket, volume.name), os.path.join(moved, volume.name))
    other = Mount(t, volume, "--bucket", moved, name="other")
    assert get(other, "f") == b"where it was"
    put(other, "g", b"and here")
    other.umount(flush=True)
    assert len([f for _, _, files in os.walk(moved) for f in files]) == 3  # with juicefs_uuid
    assert not objects(volume)


def stock_makes(volume, name, kind=1):
    """What a stock client writes when it makes an empty file or directory in the root."""
    now = int(time.time())
    mode = kind << 12 | (0o755 if kind == 2 else 0o644)
    with volume.redis.client() as c:
        ino = int(c("INCR", "nextinode"))
        record = struct.pack(">BHIIqIqIqIIQIQ", 0, mode, 0, 0, now, 0, now, 0, now, 0, kind == 2 and 2 or 1, 4096 if kind == 2 else 0, 0, 1)
        c("SET", f"i{ino}", record + b"\0")
        c("HSET", "d1", name, struct.pack(">BQ", kind, ino))
        c("INCRBY", "usedSpace", 4096)
        c("INCR", "totalInodes")
        c("HINCRBY", "dirUsedSpace", 1, 4096)
        c("HINCRBY", "dirUsedInodes", 1, 1)
        if kind == 2:
            root = bytearray(c("GET", "i1"))
            root[47:51] = struct.pack(">I", struct.unpack(">I", root[47:51])[0] + 1)
            c("SET", "i1", bytes(root))
            for h in ("dirDataLength", "dirUsedSpace", "dirUsedInodes"):
                c("HSET", h, ino, 0)
    return ino


@test(timeout=120, needs=NEEDS)
def h57_both_made_the_same_names(t):
    """A client beside us makes files and a directory under names that we made and have not replayed: theirs keep the names,
    ours are beside them, replay goes on; also over a kill between."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    long = "n" * 255
    put(m, "f", b"ours")
    put(m, long, b"long")
    os.mkdir(m.path("d"))
    put(m, "d/in", b"inside")
    theirs = {name: stock_makes(volume, name, kind) for name, kind in (("f", 1), (long, 1), ("d", 2))}
    put(m, "other", b"later")
    m.flush()
    kept = {}
    for name in os.listdir(m.dir):
        base = name.split(".conflict-")[0]
        if base != name:
            kept[base] = name
    assert {k[0]: len(k) > 200 for k in kept} == {"f": False, "d": False, "n": True}, kept
    for name, ino in theirs.items():
        assert os.stat(m.path(name)).st_ino == ino, name
    assert get(m, kept["f"]) == b"ours" and get(m, kept["d"] + "/in") == b"inside" and get(m, "f") == b""
    put(m, "f", b"and it can be written")
    os.rmdir(m.path("d"))
    m.umount(flush=True)
    volume.check()
    fresh = Mount(t, volume, name="fresh")
    assert get(fresh, "f") == b"and it can be written" and get(fresh, kept["f"]) == b"ours"
    assert sorted(os.listdir(fresh.dir)) == sorted([*kept.values(), "f", long, "other"])
    fresh.umount()


@test(timeout=120, needs=NEEDS)
def h57_killed_after_the_repair(t):
    """The repair is recorded, and then we are killed: the window that was refused is merged through it at the next mount."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h", env={"JFS_FAULT": "redis.conflict.after_repair:1:kill"})
    put(m, "f", b"ours")
    put(m, "g", b"also")
    ino = stock_makes(volume, "f")
    with contextlib.suppress(CommandError):
        m.flush()
    m.wait_daemon()
    t.run("umount", "-l", m.dir)
    m.env = {}
    m.mount()
    m.flush()
    kept, = (n for n in os.listdir(m.dir) if n.startswith("f.conflict-"))
    assert os.stat(m.path("f")).st_ino == ino and get(m, kept) == b"ours" and get(m, "g") == b"also"
    m.umount(flush=True)
    volume.check()


@test(timeout=120, needs=NEEDS)
def h57_what_only_they_can_know_stops_replay(t):
    """We removed what they have replaced meanwhile: nothing is written, and the status says what it is about."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    put(m, "f", b"both know it")
    m.flush()
    os.unlink(m.path("f"))
    stock_makes(volume, "f")
    before = volume.keys()
    fails(t, JFS, "flush", m.dir)
    after = volume.keys()
    assert {k for k in before if before[k] != after.get(k)} <= {"zjfs", "allSessions", "sessionInfos"}
    assert "somebody else" in t.run(JFS, "status", m.dir)


def forget(volume, keys):
    """Redis is what it was when `keys` were taken: it restarted without its last second, or a replica that lagged took over."""
    with volume.redis.client(volume.db) as c:
        c("FLUSHDB")
        keyspace.load_db(c, keys)


@test(timeout=120, needs=NEEDS)
def h41_open_for_longer_than_the_retention(t):
    """A published file is unlinked while it is open: its objects stay as long as it is, whatever the retention, and then go."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0", "--block-size", "64")
    m = Mount(t, volume, "--writeback", "--retention", "100ms")
    put(m, "f", os.urandom(200_000))
    want = get(m, "f")

    def objects():
        return sorted(n for _, _, files in os.walk(os.path.join(volume.bucket, volume.name, "chunks")) for n in files)
    m.flush()
    held = objects()
    assert len(held) == 4
    with open(m.path("f"), "rb") as f:
        os.unlink(m.path("f"))
        for i in range(5):  # each is deleted itself, which shows that the retention has passed
            put(m, "other", b"%d" % i)
            m.flush()
            with open(m.path("other"), "wb"):
                pass
            os.unlink(m.path("other"))
            m.flush()
            wait_until(lambda: len(objects()) <= len(held), what="the end of another file's object")
        assert objects() == held
        assert f.read() == want
    m.flush()
    wait_until(lambda: objects() == [], what="the end of the objects")
    m.umount(flush=True)
    volume.check()


@test(timeout=120, needs=NEEDS)
def h52_redis_forgot_the_lease(t):
    """Redis restarts without its last second and shows the lease before ours: we take it back, and send again what it lost."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--heartbeat", "1s")
    put(m, "before", b"1")
    m.umount(flush=True)
    old = volume.keys()
    m.mount()
    put(m, "after", b"2")
    m.flush()
    forget(volume, old)
    put(m, "later", b"3")
    m.flush()
    m.umount(flush=True)
    volume.check()
    fresh = Mount(t, volume, name="fresh")
    assert [get(fresh, n) for n in ("before", "after", "later")] == [b"1", b"2", b"3"]
    fresh.umount()


@test(timeout=120, needs=NEEDS)
def h51_p9_redis_fell_back_behind_a_takeover(t):
    """A holds the lease and is frozen; B takes it over; Redis falls back to before that; A goes on. B must get it back, and A
    must find itself fenced: nothing that A wrote since appears."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    a = Mount(t, volume, "--writeback", "--heartbeat", "1s", name="a")
    put(a, "first", b"1")
    a.flush()
    old = volume.keys()
    a.signal(signal.SIGSTOP)
    b = Mount(t, volume, "--writeback", "--takeover", "--heartbeat", "1s", name="b")
    put(b, "theirs", b"2")
    b.flush()
    forget(volume, old)
    put(b, "more", b"3")
    b.flush()
    a.signal(signal.SIGCONT)

    def fenced():
        try:
            put(a, "late", b"x")
        except OSError as e:
            return e.errno == errno.EROFS
        return False
    wait_until(fenced, 30, "the end of writing at A")
    b.umount(flush=True)
    volume.check()
    fresh = Mount(t, volume, name="fresh")
    assert sorted(os.listdir(fresh.dir)) == ["first", "more", "theirs"], os.listdir(fresh.dir)
    fresh.umount()
    a.kill()


if __name__ == "__main__":
    sys.exit(main())
