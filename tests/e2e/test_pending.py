#!/usr/bin/env python3
"""What is still to come: who waits for S3 and Redis, who must not, and what is kept until it has arrived (P6, P7, P11)."""
import contextlib
import ctypes
import errno
import json
import os
import re
import signal
import struct
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "lib")]
from core import CommandError  # noqa: E402
from harness import *  # noqa: E402,F403

NEEDS = ("root", "fuse", "jfs")
MIB = 1 << 20
libc = ctypes.CDLL(None, use_errno=True)


class Bucket:
    """The bucket of a volume as something that can be away: then every request fails. It goes and comes in one step: between two,
    an upload that is tried again would make the folder anew."""

    def __init__(self, volume):
        self.dir = os.path.join(volume.bucket, volume.name)

    def swap(self):
        exchange = 2
        if libc.renameat2(-100, os.fsencode(self.dir), -100, os.fsencode(self.dir + ".away"), exchange):
            raise OSError(ctypes.get_errno(), "renameat2")

    def leave(self):
        with open(self.dir + ".away", "w", encoding="ascii"):
            pass
        self.swap()

    def come_back(self):
        self.swap()
        os.unlink(self.dir + ".away")


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


def commands(client):
    """How many commands Redis has carried out."""
    return int(re.search(rb"total_commands_processed:(\d+)", client("INFO", "stats"))[1])


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
    m = Mount(t, volume)
    put(m, "old", b"old" * 1000)
    # What is there can be read: by now `old` may be nowhere else.
    t.run("mount", "--bind", volume.bucket, volume.bucket)
    t.run("mount", "-o", "remount,bind,ro", volume.bucket)
    writer = threading.Thread(target=put, args=(m, "new", b"new" * 1000))
    writer.start()
    wait_until(lambda: m.stats()["object_request_errors"] > 0, what="a failed upload")
    os.chmod(m.path("old"), 0o600)
    os.utime(m.path("old"), (1, 2))
    assert get(m, "old") == b"old" * 1000  # touches the access time
    put(m, "empty", b"")
    assert writer.is_alive(), "close() did not wait for the data"
    t.run("umount", "-l", volume.bucket)
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


def eager_copies(t, remount):
    """Files are copied by reference whose objects are still to come: the copies name the same slice, and when it is there
    nothing of either is only here."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    bucket = Bucket(volume)
    m = Mount(t, volume, "--writeback", "--publish", "eager")
    for name in ("b", "c"):
        put(m, name, b"")
    m.flush()
    bucket.leave()
    data = t.rng.randbytes(20000)
    put(m, "a", data)

    def lists():
        ks = volume.keyspace()
        inodes = [ks.entries.get(1, {}).get(name, (1, 0))[1] for name in (b"a", b"b", b"c")]
        return [ks.chunks.get((ino, 0), []) for ino in inodes]
    wait_until(lambda: lists()[0], what="the list of a in Redis")
    for name, off, n in (("b", 0, 20000), ("c", 5, 7000), ("b", 9000, 100)):
        with open(m.path("a"), "rb") as a, open(m.path(name), "r+b") as f:
            assert os.copy_file_range(a.fileno(), f.fileno(), n, off, off + (name == "c")) == n
    wait_until(lambda: all(lists()), what="all lists in Redis")
    if remount:
        m.kill()
        m.end()
        m.mount()
    put(m, "later", b"x")
    assert get(m, "b") == data
    bucket.come_back()
    m.umount(flush=True)
    ids = {record.id for one in lists() for record in one}
    assert len(ids) == 1, f"the same bytes are in slices {ids}"
    report = json.loads(t.run(JFS_RECOVER, "check", "--json", "--cache-dir", m.cache, volume.url()))
    assert report["staging"]["bytes"] == 0 and report["result"] == "clean", report
    volume.check()
    m.mount()
    assert get(m, "b") == data and get(m, "c") == b"\0" * 6 + data[5:7005]
    m.umount(flush=True)


@test(timeout=120, needs=NEEDS)
def eager_copies_of_what_s3_lacks_leave_nothing_staged(t):
    eager_copies(t, False)


@test(timeout=120, needs=NEEDS)
def eager_copies_leave_nothing_staged_after_a_kill(t):
    eager_copies(t, True)


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


def system_call(pid):
    with open(f"/proc/{pid}/syscall", encoding="ascii") as f:
        return f.read().split()[0]


@test(timeout=60, needs=NEEDS)
def who_waits_for_a_flush_can_be_killed(t):
    """Neither a flush nor an umount that waits for Redis keeps its caller in the kernel."""
    redis = RedisServer(t)
    volume = Volume(t, redis).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback")
    put(m, "a", b"1")
    m.flush()
    redis.kill()
    put(m, "b", b"2")
    for how in ([JFS, "flush", m.dir], [JFS, "umount", "--flush", m.dir]):
        p = t.spawn(*how)
        wait_until(lambda p=p: system_call(p.pid) == "17", what="a process that reads its answer")  # pread
        p.kill()
        assert p.wait(20) == -signal.SIGKILL
    assert get(m, "b") == b"2" and m.is_mounted()
    redis.start()
    m.umount(flush=True)
    volume.check()


@test(timeout=60, needs=NEEDS)
def an_offline_mount_that_has_never_seen_the_root_ends(t):
    """Whoever asks for the root waits for Redis; the daemon is not among them, and ends when it is told to, or killed."""
    redis = RedisServer(t)
    volume = Volume(t, redis).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback")
    m.umount()
    with redis.client() as c:
        c("INCR", "nextsession")  # somebody else may have been here: what is clean is not kept
    m.env = {"JFS_FAULT": "session.start.after:1:kill"}
    m.mount(status=1)
    redis.kill()
    for how, status in ((signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)):
        p = t.spawn(*m.command("-f", "--offline"), name=how.name)

        def ready(log=t.path("log", how.name + ".log")):
            with open(log, encoding="utf-8") as f:
                return "event=ready" in f.read()
        wait_until(ready, what="the daemon to say that it is ready")
        p.send_signal(how)
        assert p.wait(20) == status
    m.end()


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
        want[3000 * i:3000 * i + 2500] = bytes([65 + i]) * 2500  # so much that the list is put together
        with open(m.path("f"), "r+b") as f:
            f.seek(3000 * i)
            f.write(bytes([65 + i]) * 2500)
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
    theirs = {name: volume.made_beside(name, kind) for name, kind in (("f", 1), (long, 1), ("d", 2))}
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
    ino = volume.made_beside("f")
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
    volume.made_beside("f")
    before = volume.keys()
    fails(t, JFS, "flush", m.dir)
    after = volume.keys()
    assert {k for k in before if before[k] != after.get(k)} <= {"zjfs", "allSessions", "sessionInfos"}
    assert "somebody else" in t.run(JFS, "status", m.dir)


class Fsyncs(threading.Thread):
    """Writes and fsyncs until told to stop; `took`: seconds of each."""

    def __init__(self, path):
        super().__init__()
        self.path, self.took, self.stop = path, [], threading.Event()
        self.start()

    def run(self):
        with open(self.path, "wb", buffering=0) as f:
            while not self.stop.is_set():
                start = time.monotonic()
                f.write(b"x")
                os.fsync(f.fileno())
                self.took.append(time.monotonic() - start)


@test(timeout=240, needs=NEEDS)
def h24_find_over_directories_that_were_never_here(t):
    """2,500 directories are loaded one by one while somebody fsyncs: each fsync waits for a flush, none for the loading. With
    prime=1 all of them come at once, and are complete."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback")
    for i in range(50):
        for k in range(50):
            os.makedirs(m.path("tree", str(i), str(k)))
    m.umount(flush=True)
    other = Mount(t, volume, "--writeback", name="other")
    fsyncs, disk = Fsyncs(other.path("file")), Fsyncs(os.path.join(other.cache, "file"))
    start = time.monotonic()
    try:
        found = sum(len(dirs) for _, dirs, _ in os.walk(other.path("tree")))
        took, during = time.monotonic() - start, list(fsyncs.took)
    finally:
        for thread in (fsyncs, disk):
            thread.stop.set()
            thread.join()
    t.note(f"walk {took:.2f} s, {len(during)} fsyncs meanwhile, the slowest {max(during):.3f} s, of the disk {max(disk.took):.3f} s")
    assert found == 2550, found
    assert len(during) >= 10 and max(during) < took / 3 + 4 * max(disk.took), (took, during)
    other.umount(flush=True)
    primed = Mount(t, volume, name="primed", query="prime=1")
    with volume.redis.client() as c:
        before = commands(c)
        assert sum(len(dirs) for _, dirs, _ in os.walk(primed.path("tree"))) == 2550
        asked = commands(c) - before
    assert asked < 500, f"{asked} commands: what prime=1 had loaded was asked for again"
    primed.umount(flush=True)
    volume.check()


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
    volume.put_back(old)
    put(m, "later", b"3")
    m.flush()
    m.umount(flush=True)
    volume.check()
    fresh = Mount(t, volume, name="fresh")
    assert [get(fresh, n) for n in ("before", "after", "later")] == [b"1", b"2", b"3"]
    fresh.umount()


@test(timeout=120, needs=NEEDS)
def p8_redis_falls_back_to_where_trim_stands(t):
    """Idle for longer than the retention, unmounted, mounted, and what is done then Redis forgets: under the mount, and while
    its daemon is dead. All that is lost is one moment's work, and the position is the oldest that the journal can still know."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", start=False)
    m.mount("--retention", "100ms")
    for name in ("alive", "dead"):
        put(m, "before-" + name, b"1")
        m.flush()
        m.wait_stat("sequence_trim", lambda n: n >= m.stats()["sequence_applied"])
        m.umount()
        m.mount("--retention", "1h")
        assert m.stats()["sequence_trim"] == m.stats()["sequence_applied"], "trim was overtaken"
        old = volume.keys()
        put(m, "after-" + name, b"2")
        m.flush()
        if name == "dead":
            m.kill()
        volume.put_back(old)
        if name == "dead":
            m.mount("--retention", "1h")
        put(m, "later-" + name, b"3")
        m.flush()
        m.umount()
        m.mount("--retention", "100ms")
    m.umount(flush=True)
    volume.check()
    fresh = Mount(t, volume, name="fresh")
    for name in ("alive", "dead"):
        assert [get(fresh, f"{n}-{name}") for n in ("before", "after", "later")] == [b"1", b"2", b"3"]
    fresh.umount()


@test(timeout=120, needs=NEEDS)
def p8_who_looks_at_a_redis_that_is_never_healed_gets_an_error(t):
    """Redis falls back further than the log is kept: what is here is shown, and what would have to be asked for is refused, as it
    would be of a time before."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    first = Mount(t, volume, "--writeback", name="first")
    os.mkdir(first.path("d"))
    first.umount(flush=True)
    m = Mount(t, volume, "--writeback", "--retention", "100ms", "--heartbeat", "1s")
    put(m, "a", b"1")
    m.flush()
    old = volume.keys()
    for name in ("b", "c"):
        put(m, name, b"2")
        m.flush()
    m.wait_stat("sequence_trim", lambda n: n >= m.stats()["sequence_applied"])
    volume.put_back(old)
    put(m, "later", b"3")
    wait_until(lambda: m.stats()["fenced"] or m.stats()["replay_stopped"], what="an end of replay")
    t.run("ls", m.path("d"), status=2, timeout=30)
    assert get(m, "a") == b"1" and "see jfs-recover rebase" in t.run(JFS, "status", m.dir)
    m.umount()


def copied_between_two_windows(t, retention):
    """A volume whose trim stands between the window of a file and that of its copy, which was made before the first was
    applied; the mount, and Redis as it was between them. None: trim has overtaken that."""
    volume = Volume(t, RedisServer(t, name=f"redis{retention}"), name=f"vol{retention}").format("--trash-days", "0")
    bucket = Bucket(volume)
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h", "--cache-size", "256", "--heartbeat", "1s", name=f"m{retention}",
              start=False)
    m.mount("--retention", f"{retention}s")
    put(m, "first", b"1")
    m.flush()
    data = os.urandom(MIB)
    put(m, "file", data)
    bucket.leave()
    errors = m.stats()["object_request_errors"]
    p = flushing(t, m)
    wait_until(lambda: m.stats()["object_request_errors"] > errors, what="a failed upload")
    with open(m.path("file"), "rb") as f, open(m.path("copy"), "wb") as g:
        assert os.copy_file_range(f.fileno(), g.fileno(), MIB) == MIB
    put(m, "filler", os.urandom(40 * MIB))  # fills the segment
    bucket.come_back()
    assert p.wait(60) == 0
    between, start = m.stats()["sequence_applied"], time.monotonic()
    old = volume.keys()
    wait_until(lambda: time.monotonic() > start + retention, what="the retention")
    m.flush()
    m.wait_stat("sequence_trim", lambda n: n >= between)
    m.umount()
    with volume.redis.client(volume.db) as c:
        c("INCR", "nextsession")  # somebody else may have been here: what is clean is not kept
    m.mount("--retention", "1h")
    s = m.stats()
    return (volume, m, old, data) if s["sequence_trim"] == between < s["sequence_applied"] else None


@test(timeout=240, needs=NEEDS)
def p8_a_copy_of_bytes_whose_window_trim_has_passed(t):
    """Redis forgets the copy. Its bytes are not staged any more, only the first file's object has them, and which that is must
    be known for as long as the copy is in the log."""
    found = None
    for retention in (2, 8, 30):  # the longest is for a machine on which everything takes seconds
        found = found or copied_between_two_windows(t, retention)
    volume, m, old, data = found
    segment = os.path.join(m.cache, os.listdir(m.cache)[0], "staging", "0000000000000001.seg")
    os.mkdir(m.path("look-again"))
    wait_until(lambda: not os.path.exists(segment), what="the end of the segment")
    volume.put_back(old)
    put(m, "later", b"3")
    m.flush()
    m.umount(flush=True)
    volume.check()
    fresh = Mount(t, volume, name="fresh")
    assert [get(fresh, n) for n in ("file", "copy", "later")] == [data, data, b"3"]
    fresh.umount()


@test(timeout=60, needs=NEEDS)
def p8_what_redis_has_not_got_again_is_waited_for(t):
    """A target is loaded just when Redis has fallen back to before the link was there: it is no damage, and comes with the replay."""
    volume = Volume(t, RedisServer(t)).format()
    m = Mount(t, volume, "--writeback", "--heartbeat", "1s")
    put(m, "first", b"1")
    m.flush()
    old = volume.keys()
    os.symlink("first", m.path("link"))
    m.flush()
    m.umount()
    with volume.redis.client(volume.db) as c:
        c("INCR", "nextsession")  # somebody else may have been here: what is clean is not kept
    m.mount()
    assert os.path.islink(m.path("link"))
    volume.put_back(old)
    assert os.readlink(m.path("link")) == "first"
    m.umount(flush=True)
    volume.check()


@test(timeout=60, needs=NEEDS)
def p8_redis_is_healed_although_nothing_is_to_be_sent(t):
    """Connections stay, and nobody does anything: the heartbeat finds Redis where it was."""
    volume = Volume(t, RedisServer(t)).format()
    m = Mount(t, volume, "--writeback", "--heartbeat", "1s")
    put(m, "first", b"1")
    m.flush()
    old = volume.keys()
    put(m, "second", b"2")
    m.flush()
    volume.put_back(old)
    wait_until(lambda: b"second" in volume.keyspace().entries[1], what="what Redis forgot")
    m.umount(flush=True)
    volume.check()


def slice_record(pos, slice_id, size):
    return struct.pack(">IQIII", pos, slice_id, size, 0, size)


@test(timeout=120, needs=NEEDS)
def p8_bytes_that_are_staged_no_more_in_a_window_of_other_slices(t):
    """Redis falls back to where somebody has compacted a file meanwhile. What we wrote into it then becomes part of another slice
    than before, and is only in the object that it went to."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--cache-size", "256", "--heartbeat", "1s", "--pack-below=0")
    parts = [os.urandom(16384) for _ in range(4)]
    for name, data in (("file", b"".join(parts)), *((f"part{i}", data) for i, data in enumerate(parts))):
        put(m, name, data)
    m.flush()
    old, ks = volume.keys(), volume.keyspace()
    chunks = {name: (ks.entries[1][name.encode()][1], 0) for name in ("file", *(f"part{i}" for i in range(4)))}
    found = [ks.chunks[chunks[f"part{i}"]][0] for i in range(4)]
    old["c%d_%d" % chunks["file"]] = {"list": [slice_record(16384 * i, r.id, r.size).hex() for i, r in enumerate(found)]}
    old["sliceRef"] = {"hash": {f"k{r.id}_{r.size}": b"1".hex() for r in found}}
    late = os.urandom(65536)
    with open(m.path("file"), "r+b") as f:
        f.seek(131072)
        f.write(late)
    put(m, "filler", os.urandom(40 * MIB))  # fills the segment
    m.flush()
    segment = os.path.join(m.cache, os.listdir(m.cache)[0], "staging", "0000000000000001.seg")
    wait_until(lambda: not os.path.exists(segment), what="the end of the segment")
    volume.put_back(old)
    put(m, "later", b"3")
    m.flush()
    m.umount(flush=True)
    volume.check()
    fresh = Mount(t, volume, name="fresh")
    assert get(fresh, "file") == b"".join(parts).ljust(131072, b"\0") + late and get(fresh, "later") == b"3"
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
    a.freeze()
    b = Mount(t, volume, "--writeback", "--takeover", "--heartbeat", "1s", name="b")
    put(b, "theirs", b"2")
    b.flush()
    volume.put_back(old)
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
