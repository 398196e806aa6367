#!/usr/bin/env python3
"""jfs-recover rebase: Redis came back as it once was, or without knowing this journal, and the volume gets back by path what
only the journal knows."""
import errno
import json
import os
import socket
import stat
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from core import descendants_of  # noqa: E402
from harness import *  # noqa: E402,F403
from rebasing import asides, changes, only_objects, put, rebase, seen_elsewhere  # noqa: E402
from recovering import (BACKLOG, BROKEN, CANNOT, CAPABILITY, CLEAN, REPAIRED, bytes_of, check, fill, kill, lease, listing,  # noqa: E402
                        recover, without_private)

NEEDS = ("root", "fuse", "jfs")


def every_kind(m):
    """One of each kind of thing that a name can mean."""
    os.makedirs(m.path("kinds/dir"), mode=0o2750)
    for i in range(3):
        put(m.path(f"kinds/dir/{i}"), bytes([i]) * 5000)
    with open(m.path("kinds/sparse"), "wb") as f:
        f.write(b"head")
        f.seek(70 << 20)
        f.write(b"tail")
    os.chmod(m.path("kinds/sparse"), 0o4711)
    os.chown(m.path("kinds/sparse"), 12, 34)
    os.chmod(m.path("kinds/sparse"), 0o4711)
    os.setxattr(m.path("kinds/sparse"), "user.colour", b"\x00blue")
    os.setxattr(m.path("kinds/sparse"), "security.capability", CAPABILITY)
    os.setxattr(m.path("kinds/dir"), "user.of", b"a directory")
    os.link(m.path("kinds/sparse"), m.path("kinds/dir/again"))
    os.symlink("a target \xff".encode("latin-1"), os.fsencode(m.path("kinds/link")))
    os.mkfifo(m.path("kinds/fifo"), 0o640)
    os.mknod(m.path("kinds/null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(m.path("kinds/socket"))
    os.utime(m.path("kinds/dir"), ns=(10**18 + 7, 10**18 + 9))
    put(m.path("kinds/new\nline"), b"n")


@test(timeout=180, needs=NEEDS)
def p8_a_backup_older_than_the_log_is_rebased(t):
    """Redis was restored from a backup that is older than what the log keeps: a mount is refused and says what to run, the dry
    run lists what the volume lacks, and afterwards it has all of that."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--retention", "1ms")
    fill(m)
    put(m.path("old"), b"1" * 10000)
    put(m.path("gone"), b"gone")
    put(m.path("program"), b"a program")
    m.flush()
    backup = volume.keys()
    every_kind(m)
    os.setxattr(m.path("program"), "security.capability", CAPABILITY)
    put(m.path("old"), b"2" * 20000)
    os.unlink(m.path("gone"))
    os.chmod(m.path("a"), 0o700)
    os.rename(m.path("big"), m.path("larger"))
    m.flush()
    put(m.path("last"), b"never uploaded" * 1000)
    m.flush()
    gone = m.stats()["sequence_applied"]
    wait_until(lambda: m.stats()["sequence_trim"] >= gone, what="trim")
    m.umount(flush=True)
    want = seen_elsewhere(t, volume, "before")
    volume.put_back(backup)
    keys = volume.keys()
    text = m.mount(status=1)
    assert "jfs-recover rebase" in text, text
    r = check(t, m, m.url(), status=BROKEN)
    assert "rebase" in r["advice"], r
    recover(t, "replay", "--apply", "--cache-dir", m.cache, m.url(), status=BROKEN)
    r = rebase(t, m, status=BACKLOG)
    dry = changes(r)
    assert dry["/kinds"] == dry["/kinds/dir/2"] == dry["/larger"] == dry["/last"] == "new", dry
    assert dry["/old"] == dry["/a"] == dry["/program"] == "changed" and dry["/gone"] == dry["/big"] == "kept", dry
    assert volume.keys() == keys and asides(m) == [], "a dry run has changed something"
    r = rebase(t, m, "--apply", "--delete", status=REPAIRED)
    done = changes(r)
    assert {p: w for p, w in done.items() if w != "removed"} == {p: w for p, w in dry.items() if w != "kept"}, (done, dry)
    assert done["/gone"] == done["/big"] == "removed", done
    assert asides(m) == [os.path.basename(r["rebased"]["journal"])], (asides(m), r)
    got = seen_elsewhere(t, volume, "after")
    assert got == want, [(p, got.get(p), want.get(p)) for p in {*got, *want} if got.get(p) != want.get(p)]
    m.mount()
    assert listing(m.dir) == want
    assert os.stat(m.path("kinds/sparse")).st_ino == os.stat(m.path("kinds/dir/again")).st_ino
    assert os.getxattr(m.path("kinds/sparse"), "user.colour") == b"\x00blue"
    assert os.getxattr(m.path("kinds/dir"), "user.of") == b"a directory"
    for name in ("kinds/sparse", "program"):
        assert os.getxattr(m.path(name), "security.capability") == CAPABILITY, name
    put(m.path("goes on"), b"yes")
    m.umount(flush=True)
    volume.check()


@test(timeout=120, needs=NEEDS)
def what_was_acknowledged_fits_whatever_is_full(t):
    """The Redis that came back has a quota and limits of its own that leave no room: what was acknowledged is brought all the
    same, counted, and then nothing more fits."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--retention", "1ms")
    os.mkdir(m.path("q"))
    put(m.path("q/first"), b"1" * 5000)
    m.flush()
    backup = volume.keys()
    for i in range(20):
        put(m.path(f"q/f{i}"), bytes([i]) * 10000)
    put(m.path("q/first"), b"2" * 50000)
    m.flush()
    gone = m.stats()["sequence_applied"]
    wait_until(lambda: m.stats()["sequence_trim"] >= gone, what="trim")
    m.umount(flush=True)
    want = seen_elsewhere(t, volume, "before")
    volume.put_back(backup)
    ks = volume.keyspace()
    with volume.redis.client() as c:
        ino = ks.entries[1][b"q"][1]
        c("HSET", "dirQuota", ino, struct.pack(">qq", 12288, 2))
        c("HSET", "dirQuotaUsedSpace", ino, 8192)
        c("HSET", "dirQuotaUsedInodes", ino, 1)
        setting = json.loads(c("GET", "setting"))
        c("SET", "setting", json.dumps({**setting, "Capacity": 20480, "Inodes": 3}, indent=0))
    rebase(t, m, "--apply", status=REPAIRED)
    got = seen_elsewhere(t, volume, "after")
    assert got == want, [(p, got.get(p), want.get(p)) for p in {*got, *want} if got.get(p) != want.get(p)]
    volume.check()

    def refused(path):
        try:
            os.mkdir(m.path(path))
            return 0
        except OSError as e:
            return e.errno
    m.mount()
    assert refused("more") == errno.ENOSPC
    m.umount(flush=True)
    with volume.redis.client() as c:
        c("SET", "setting", json.dumps({**setting, "Capacity": 0, "Inodes": 0}, indent=0))
    m.mount()
    assert refused("q/more") == errno.EDQUOT and refused("more") == 0
    m.umount(flush=True)
    volume.check()


@test(timeout=180, needs=NEEDS)
def history_56_a_reloaded_redis_is_rebased(t):
    """The private key does not survive a dump and a load, and ids are handed out again. What another client changed since
    keeps its name."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    fill(m)
    for name in ("mine", "both", "kind", "theirs"):
        put(m.path(name), name.encode() * 1000)
    m.flush()
    dump = without_private(volume.keys())
    put(m.path("mine"), b"mine, later")
    put(m.path("both"), b"both, mine")
    os.unlink(m.path("kind"))
    os.mkdir(m.path("kind"))
    put(m.path("kind/inside"), b"inside")
    put(m.path("a/new"), b"new" * 100000)
    mine = listing(m.dir)
    ino = {name: os.stat(m.path(name)).st_ino for name in ("both", "kind", "theirs")}
    kill(m)
    volume.put_back(dump)
    other = Mount(t, volume, "--writeback", name="other")
    for name in ("both", "kind", "theirs", "added"):
        put(other.path(name), name.encode() + b", theirs")
    theirs = listing(other.dir)
    other.umount(flush=True)
    assert "jfs-recover" in m.mount(status=1)
    r = rebase(t, m, "--apply", "--delete", "--trust-objects", status=REPAIRED)
    done = changes(r)
    assert done["/mine"] == "changed" and done["/a/new"] == "new", done
    conflicts = {p for p, w in done.items() if w == "conflict"}
    assert conflicts == {f"/{name}.conflict-{n}" for name, n in ino.items()}, done
    assert "/added" not in done, done
    got = seen_elsewhere(t, volume, "after")
    for name in ("both", "kind", "theirs", "added"):
        assert got[name] == theirs[name], name
    assert got[f"both.conflict-{ino['both']}"] == mine["both"]
    assert got[f"kind.conflict-{ino['kind']}/inside"] == mine["kind/inside"]
    for name in ("mine", "a/new", "big", "a/c/f"):
        assert got[name] == mine[name], name
    volume.check()


@test(timeout=300, needs=NEEDS)
def a_rebase_may_be_killed_at_any_point(t):
    """And is gone on with: nothing is copied twice, nothing is lost. While it is cut off the volume cannot be mounted here."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    fill(m)
    m.flush()
    dump = without_private(volume.keys())
    every_kind(m)
    for i in range(20):
        put(m.path(f"later{i}"), os.urandom(30000))
    want = listing(m.dir)
    kill(m)
    volume.put_back(dump)
    for at, (point, n) in enumerate((("before_aside", 1), ("after_aside", 1), ("before_rename", 5), ("before_rename", 9), ("before_done", 1))):
        text = rebase(t, m, "--apply", status=CANNOT, env={"JFS_FAULT": f"recover.rebase.{point}:{n}:kill"})
        assert "interrupted" in text, text
        begun = [n for n in asides(m) if n.endswith(".rebase")]
        assert len(begun) == (point != "before_aside"), (point, begun)
        text = m.mount(status=1)
        assert "rebase" in text, text
        if begun and at < 3:
            rebase(t, m, status=BACKLOG)
    r = rebase(t, m, "--apply", status=CLEAN)
    assert not changes(r), r
    got = seen_elsewhere(t, volume)
    assert got == want, [(p, got.get(p), want.get(p)) for p in {*got, *want} if got.get(p) != want.get(p)]
    volume.check()
    m.mount()
    assert listing(m.dir) == want
    m.umount(flush=True)


@test(timeout=180, needs=NEEDS)
def its_own_mount_may_die(t):
    """The daemon that the rebase works through is killed in a flush: the rebase fails, the next one goes on."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    fill(m)
    want = listing(m.dir)
    kill(m)
    with volume.redis.client(volume.db) as c:
        c("DEL", "zjfs")
    for point in ("redis.replay.before_script", "redis.replay.after_script"):
        rebase(t, m, "--apply", status=CANNOT, env={"JFS_FAULT": f"{point}:1:kill"})
        assert [n for n in asides(m) if n.endswith(".rebase")], asides(m)
    # How much was copied before the first script, which began as soon as there was something to replay, is left to chance.
    t.run(JFS_RECOVER, "rebase", "--apply", "--cache-dir", m.cache, "--hot-dir", m.hot, m.url(), status=None)
    assert t.status in (CLEAN, REPAIRED), t.status
    got = seen_elsewhere(t, volume)
    assert got == want, [(p, got.get(p), want.get(p)) for p in {*got, *want} if got.get(p) != want.get(p)]
    volume.check()


@test(timeout=180, needs=NEEDS)
def objects_are_read_only_where_their_numbers_are_sure(t):
    """After a reload the numbers of slices are handed out again. Bytes that are only in objects are taken when Redis's counter
    has not reached their slice; else only if the operator says that nobody has written since. No upload of the rebase's own
    may replace such an object."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m, dump, want, _ = only_objects(t, volume)
    volume.put_back(dump)
    r = rebase(t, m, "--apply", status=BROKEN)
    assert {b["path"] for b in r["broken"]} == {"/lost", "/whole"} and "--trust-objects" in r["advice"], r
    assert [n for n in asides(m) if n.endswith(".rebase")], "it must be possible to say so now"
    r = rebase(t, m, "--apply", "--trust-objects", status=REPAIRED)
    assert changes(r) == {"/lost": "new", "/whole": "new"}, r
    assert seen_elsewhere(t, volume, "trusted") == want
    volume.check()


@test(timeout=180, needs=NEEDS)
def what_cannot_be_had_is_named(t):
    """A missing object costs the file that needs it, and is a finding; all others are brought."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m, dump, want, objects = only_objects(t, volume)
    os.unlink(objects[-1])
    volume.put_back(dump)
    r = rebase(t, m, "--apply", "--trust-objects", status=BROKEN)
    assert changes(r) == {"/whole": "new"} and r["broken"][0]["path"] == "/lost" and "missing" in r["broken"][0]["text"], r
    del want["lost"]
    got = seen_elsewhere(t, volume, "after")
    assert got == want, (got.keys(), want.keys())
    volume.check()


@test(timeout=120, needs=NEEDS)
def it_is_refused_where_replay_does(t):
    """At a place of its own history, behind a newer copy, of another volume, and while a daemon lives."""
    redis = RedisServer(t)
    volume = Volume(t, redis).format()
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h", query="batch_interval=1m")
    fill(m)
    text = rebase(t, m, "--apply", status=CANNOT)
    assert "in use" in text or "pid" in text, text
    kill(m)
    text = rebase(t, m, "--apply", status=CANNOT)
    assert "replay" in text, text
    have = lease(volume)
    lease(volume, seq="999999")
    recover(t, "rebase", "--apply", "--cache-dir", m.cache, m.url(), status=BROKEN)
    lease(volume, **have)
    other = Volume(t, redis, name="other", db=1).format()
    assert "journal is of" in recover(t, "rebase", "--apply", "--cache-dir", m.cache, other.url(), status=CANNOT)
    assert asides(m) == []
    m.mount()
    assert bytes_of(m.path("a/c/f")) == b"hello\n"
    m.umount(flush=True)


@test(timeout=120, needs=NEEDS)
def another_mount_can_end_meanwhile(t):
    """The volume is mounted where nobody else sees it, beside no copies of what is mounted elsewhere."""
    redis = RedisServer(t)
    volume = Volume(t, redis).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--retention", "1ms")
    put(m.path("old"), b"1")
    m.flush()
    backup = volume.keys()
    for name in ("new", "newer"):
        put(m.path(name), b"2")
        m.flush()
    m.wait_stat("sequence_trim", lambda n: n >= m.stats()["sequence_applied"])
    m.umount(flush=True)
    volume.put_back(backup)
    other = Mount(t, Volume(t, redis, name="other", db=1).format(), name="other")
    put(t.path("hold"), b"")
    p = t.spawn(JFS_RECOVER, "rebase", "--apply", "--cache-dir", m.cache, "--hot-dir", m.hot, m.url(), name="rebase",
                env={"JFS_FAULT": "session.start.after:1:wait", "JFS_FAULT_WAIT": t.path("hold")})
    wait_until(lambda: descendants_of(p.pid), what="the rebase's own mount")
    other.umount(timeout=30)
    os.unlink(t.path("hold"))
    assert p.wait(60) == REPAIRED


if __name__ == "__main__":
    sys.exit(main())
