#!/usr/bin/env python3
"""What jfs-recover rebase must not do to others: overwrite what they changed since, or remove what is nowhere else."""
import os
import shutil
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *  # noqa: E402,F403
from op import acl_bytes, acl_text  # noqa: E402
from rebasing import asides, changes, objects_of, only_objects, put, rebase, seen_elsewhere  # noqa: E402
from recovering import BROKEN, CANNOT, REPAIRED, bytes_of, kill, listing, without_private  # noqa: E402

NEEDS = ("root", "fuse", "jfs")


def replaced_beside(volume, name):
    """A client that takes no lease replaces a file in the root; its inode, dated by this moment."""
    now = time.time_ns()
    with volume.redis.client(volume.db) as c:
        c("HDEL", "d1", name)
        ino = volume.made_beside(name)
        record = bytearray(c("GET", f"i{ino}"))
        struct.pack_into(">qI", record, 35, now // 10**9, now % 10**9)
        c("SET", f"i{ino}", bytes(record))
    return ino


@test(timeout=120, needs=NEEDS)
def a_file_of_another_host_outlives_our_later_work(t):
    """This host went on for hours after another had taken over. What that one changed meanwhile is older than our last work, but
    newer than our copy of it."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    for name in ("clean", "both"):
        put(m.path(name), name.encode() * 1000)
    os.mkdir(m.path("dir"))
    put(m.path("dir/removed"), b"removed here, later changed there")
    m.flush()
    dump = without_private(volume.keys())
    put(m.path("both"), b"ours")
    os.unlink(m.path("dir/removed"))
    volume.put_back(dump)
    other = Mount(t, volume, "--writeback", name="other")
    for name in ("clean", "both", "dir/removed"):
        put(other.path(name), name.encode() + b", theirs")
    os.chmod(other.path("dir"), 0o711)
    theirs = listing(other.dir)
    other.umount(flush=True)
    put(m.path("later"), b"our last work")
    kill(m)
    r = rebase(t, m, "--apply", "--delete", "--trust-objects", status=REPAIRED)
    got = seen_elsewhere(t, volume, "after")
    for name in theirs:
        assert got.get(name) == theirs[name], (name, changes(r))
    assert changes(r)["/later"] == "new" and "ours" in [bytes_of(p).decode() for p in conflicts(t, volume, "both")], changes(r)
    volume.check()


@test(timeout=120, needs=NEEDS)
def a_directory_that_others_made_is_theirs(t):
    """Even an empty one, deep in what was removed here."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    os.makedirs(m.path("gone/sub"))
    for name in ("gone/file", "gone/sub/file"):
        put(m.path(name), b"removed here")
    m.flush()
    dump = without_private(volume.keys())
    shutil.rmtree(m.path("gone"))
    volume.put_back(dump)
    other = Mount(t, volume, "--writeback", name="other")
    os.mkdir(other.path("gone/sub/theirs"))
    other.umount(flush=True)
    kill(m)
    r = rebase(t, m, "--apply", "--delete", "--trust-objects", status=REPAIRED)
    got = seen_elsewhere(t, volume, "after")
    assert "gone/sub/theirs" in got and "gone/file" not in got, (sorted(got), r)
    volume.check()


def conflicts(t, volume, name):
    m = Mount(t, volume, "--read-only", name="conflicts")
    return [m.path(n) for n in os.listdir(m.dir) if n.startswith(name + ".conflict-")]


@test(timeout=120, needs=NEEDS)
def what_others_change_between_two_runs_is_theirs(t):
    """The first run could not finish; until the second, hours later, clients that take no lease have written."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m, dump, _, _ = only_objects(t, volume)
    m.mount()
    for name in ("mine", "again"):
        put(m.path(name), name.encode() * 100)
    kill(m)
    volume.put_back(dump)
    r = rebase(t, m, "--apply", status=BROKEN)
    assert changes(r)["/mine"] == "new" and asides(m), r
    end = time.time() + 2.5 # the last run may have gone on for a moment after what it noted
    wait_until(lambda: time.time() > end, what="a later moment")
    ino = replaced_beside(volume, "mine")
    r = rebase(t, m, "--apply", "--trust-objects", "--delete", status=REPAIRED)
    assert [w for p, w in changes(r).items() if p.startswith("/mine")] == ["conflict"], r
    seen = Mount(t, volume, "--read-only", name="seen")
    assert os.stat(seen.path("mine")).st_ino == ino, changes(r)
    assert bytes_of(seen.path("again")) == b"again" * 100
    kept = [n for n in os.listdir(seen.dir) if n.startswith("mine.conflict-")]
    assert [bytes_of(seen.path(n)) for n in kept] == [b"mine" * 100], kept


@test(timeout=120, needs=NEEDS)
def another_volume_is_no_place_to_go_on(t):
    """A rebase that was cut off goes on only in the volume that its journal is of."""
    redis = RedisServer(t)
    volume, other = Volume(t, redis).format(), Volume(t, redis, name="other", db=1).format()
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    put(m.path("f"), b"only here")
    kill(m)
    with redis.client() as c:
        c("DEL", "zjfs")
    rebase(t, m, "--apply", status=CANNOT, env={"JFS_FAULT": "recover.rebase.after_aside:1:kill"})
    before, m.volume = other.keys(), other
    text = rebase(t, m, "--apply", status=CANNOT)
    assert "journal is of" in text and other.keys() == before, text
    m.volume = volume
    rebase(t, m, "--apply", status=REPAIRED)
    assert set(seen_elsewhere(t, volume)) == {"f"} and not seen_elsewhere(t, other, "seen")


@test(timeout=120, needs=NEEDS)
def nothing_is_removed_while_something_is_missing(t):
    """A file and a directory that were renamed, but whose bytes and names were never here: the old names are all there is."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    first = Mount(t, volume, "--writeback", name="first")
    os.makedirs(first.path("d/sub"))
    put(first.path("file"), os.urandom(100000))
    put(first.path("d/sub/deep"), os.urandom(100000))
    put(first.path("gone"), b"gone")
    first.umount(flush=True)
    dump = without_private(volume.keys())
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    os.rename(m.path("file"), m.path("renamed"))
    os.rename(m.path("d"), m.path("e"))
    os.unlink(m.path("gone"))
    kill(m)
    volume.put_back(dump)
    want = seen_elsewhere(t, volume, "before")
    r = rebase(t, m, "--apply", "--delete", status=BROKEN)
    assert {b["path"] for b in r["broken"]} == {"/renamed", "/e"}, r
    assert {p: w for p, w in changes(r).items() if w == "kept"} == {"/file": "kept", "/d": "kept", "/gone": "kept"}, r
    got = seen_elsewhere(t, volume, "after")
    assert {p: v for p, v in got.items() if p in want} == want
    volume.check()


@test(timeout=120, needs=NEEDS)
def a_lost_object_of_the_volume_costs_nothing(t):
    """The backup names an object that was deleted since. Ours has other bytes of the same length: they take its place."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--retention", "1ms")
    put(m.path("f"), b"1" * 100000)
    m.flush()
    backup, old = without_private(volume.keys()), objects_of(volume)
    put(m.path("f"), b"2" * 100000)
    put(m.path("last"), b"last")
    m.flush()
    m.umount(flush=True)
    for path in old:
        if os.path.exists(path):
            os.unlink(path)
    volume.put_back(backup)
    rebase(t, m, "--apply", "--trust-objects", status=REPAIRED)
    m.mount()
    assert bytes_of(m.path("f")) == b"2" * 100000 and bytes_of(m.path("last")) == b"last"
    m.umount(flush=True)
    volume.check()


@test(timeout=120, needs=NEEDS)
def the_name_beside_may_be_taken(t):
    """By a file of ours or by one of somebody else's: a conflict replaces neither."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    for name in ("f", "g"):
        put(m.path(name), b"first")
    ino = {name: os.stat(m.path(name)).st_ino for name in ("f", "g")}
    m.flush()
    dump = without_private(volume.keys())
    for name in ("f", "g"):
        put(m.path(name), name.encode() + b", ours")
    taken = {"f": f"f.conflict-{ino['f']}", "g": f"g.conflict-{ino['g']}"}
    put(m.path(taken["f"]), b"our own")
    kill(m)
    volume.put_back(dump)
    other = Mount(t, volume, "--writeback", name="other")
    for name in ("f", "g", taken["g"]):
        put(other.path(name), b"theirs")
    other.umount(flush=True)
    for status in (REPAIRED, None):
        if status is not None:
            rebase(t, m, "--apply", status=status)
        seen = Mount(t, volume, "--read-only", name=f"seen{status}")
        have = {n: bytes_of(seen.path(n)) for n in os.listdir(seen.dir)}
        assert have["f"] == have["g"] == have[taken["g"]] == b"theirs" and have[taken["f"]] == b"our own", have
        assert sorted(v for n, v in have.items() if n not in ("f", "g", *taken.values())) == [b"f, ours", b"g, ours"], have
        seen.umount()
    volume.check()


@test(timeout=120, needs=NEEDS)
def numbers_are_sure_only_while_nobody_else_came(t):
    """Redis was restored with our own position, but a client has mounted and written since: it was given numbers of slices that
    our journal had, and its objects must not be taken for ours."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--retention", "1ms")
    put(m.path("old"), b"old")
    m.flush()
    backup, old = volume.keys(), objects_of(volume)
    put(m.path("f"), b"ours" * 25000)
    m.flush()
    put(m.path("last"), b"last")
    m.flush()
    done = m.stats()["sequence_applied"]
    wait_until(lambda: m.stats()["sequence_trim"] >= done, what="trim")
    m.umount(flush=True)
    m.mount() # what was uploaded is now known by its objects alone
    m.umount(flush=True)
    volume.put_back(backup)
    with volume.redis.client(volume.db) as c:
        c("INCR", "nextsession")
        c("INCRBY", "nextchunk", 4096)
    for path in objects_of(volume) - old:
        size = os.path.getsize(path)
        put(path, b"T" * size)
    r = rebase(t, m, "--apply", status=BROKEN)
    assert "/f" in {b["path"] for b in r["broken"]} and "--trust-objects" in r["advice"], r


@test(timeout=120, needs=NEEDS)
def our_own_clamped_dates_are_no_change_of_others(t):
    """Replay dates what it writes late by half an hour before it does. Such a date is not somebody else's."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    put(m.path("f"), b"first")
    m.flush()
    dump = without_private(volume.keys())
    put(m.path("f"), b"second")
    ino = os.stat(m.path("f")).st_ino
    kill(m)
    volume.put_back(dump)
    with volume.redis.client(volume.db) as c:
        record = bytearray(c("GET", f"i{ino}"))
        struct.pack_into(">qI", record, 35, int(time.time()) + 600, 0)
        c("SET", f"i{ino}", bytes(record))
    r = rebase(t, m, "--apply", status=REPAIRED)
    assert changes(r) == {"/f": "changed"}, r


@test(timeout=120, needs=NEEDS)
def redis_may_be_set_back_once_more(t):
    """While a rebase was cut off: what it had brought is gone again, and its own journal cannot be replayed either."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    put(m.path("old"), b"old")
    m.flush()
    dump = without_private(volume.keys())
    for i in range(10):
        put(m.path(f"later{i}"), b"later" * 1000)
    want = listing(m.dir)
    kill(m)
    volume.put_back(dump)
    for point in ("before_rename:5", "before_done:1", "after_lost:1"):
        rebase(t, m, "--apply", status=CANNOT, env={"JFS_FAULT": f"recover.rebase.{point}:kill"})
        volume.put_back(dump)
    rebase(t, m, "--apply", status=REPAIRED)
    assert seen_elsewhere(t, volume, "after") == want
    volume.check()
    m.mount()
    assert listing(m.dir) == want
    m.umount(flush=True)


@test(timeout=120, needs=NEEDS)
def what_must_not_be_changed_waits(t):
    """An immutable file of the volume: ours cannot take its place, all else is brought, and it is not called done."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    for name in ("f", "g"):
        put(m.path(name), b"first")
    m.flush()
    ino = os.stat(m.path("f")).st_ino
    dump = without_private(volume.keys())
    for name in ("f", "g"):
        put(m.path(name), b"second, longer")
    kill(m)
    volume.put_back(dump)

    def immutable(flag):
        with volume.redis.client(volume.db) as c:
            c("SET", f"i{ino}", bytes([flag]) + c("GET", f"i{ino}")[1:])
            c("INCR", "nextsession") # as whoever does that has one
    immutable(1)
    r = rebase(t, m, "--apply", status=BROKEN)
    assert changes(r) == {"/g": "changed"} and {b["path"] for b in r["broken"]} == {"/f"} and asides(m)[0].endswith(".rebase"), r
    immutable(0)
    r = rebase(t, m, "--apply", status=REPAIRED)
    assert changes(r) == {"/f": "changed"} and not any(n.endswith(".rebase") for n in asides(m)), r


@test(timeout=120, needs=NEEDS)
def acls_and_the_trash_are_kept(t):
    """On a volume that has both: rules of files and directories are brought, what is replaced lies in the trash."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "1", "--enable-acl")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    put(m.path("f"), b"first")
    put(m.path("gone"), b"gone")
    m.flush()
    dump = without_private(volume.keys())
    rule = acl_bytes("u::rw-,u:1001:r--,g::r--,m::r--,o::---")
    os.mkdir(m.path("d"))
    os.setxattr(m.path("d"), "system.posix_acl_default", rule)
    for name in ("f", "d/inherits", "d/own"):
        put(m.path(name), b"second, longer")
    os.removexattr(m.path("d/inherits"), "system.posix_acl_access")
    os.setxattr(m.path("f"), "system.posix_acl_access", rule)
    os.unlink(m.path("gone"))

    def rules(top):
        out = {}
        for path in ("f", "d", "d/inherits", "d/own", "gone"):
            full = os.path.join(top, path)
            names = [n for n in os.listxattr(full) if "acl" in n] if os.path.exists(full) else None
            out[path] = names and {n: acl_text(os.getxattr(full, n)) for n in names}
        return out
    want, tree = rules(m.dir), listing(m.dir)
    assert want["f"] and want["d"] and want["d/own"] and not want["d/inherits"], want
    kill(m)
    volume.put_back(dump)
    rebase(t, m, "--apply", "--delete", status=REPAIRED)
    m.mount()
    assert rules(m.dir) == want and listing(m.dir) == tree
    trash = [n for _, _, names in os.walk(m.path(".trash")) for n in names]
    assert sorted(n.rpartition("-")[2] for n in trash) == ["f", "gone"], trash
    m.umount(flush=True)
    volume.check()


if __name__ == "__main__":
    sys.exit(main())
