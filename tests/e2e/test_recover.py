#!/usr/bin/env python3
"""jfs-recover: what it finds, what it says, what it repairs, and what it leaves alone."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from core import descendants_of  # noqa: E402
from crashes import loop_folder  # noqa: E402
from harness import *  # noqa: E402,F403
from recovering import (BACKLOG, BROKEN, CANNOT, CAPABILITY, CLEAN, REPAIRED, USAGE, bytes_of, cache_of, check, exported, fill, kill,  # noqa: E402
                        lease, listing, recover, states)

LOCAL = ("root", "fuse", "jfs")


class LocalMount(Mount):
    """A mount without Redis and S3: all that is in its journal is a backlog."""

    def __init__(self, t, *options):
        super().__init__(t, NoVolume, *options, start=False)

    def mount(self, *extra, **more):
        return super().mount("--local-only", *extra, **more)


class NoVolume:
    s3 = None

    @staticmethod
    def url(_query="", _port=None):
        return "redis://127.0.0.1:1/0"


def tree_of_cache(m):
    """Bytes of everything that counts in a cache directory: what a dry run must not change."""
    out = {}
    for top, _, files in os.walk(m.cache):
        for name in files:
            if name not in ("lock", "lock.mdb"):  # pid and reader table
                with open(os.path.join(top, name), "rb") as f:
                    out[os.path.join(top, name)] = hash(f.read())
    for top, _, files in os.walk(m.hot):
        for name in files:
            with open(os.path.join(top, name), "rb") as f:
                out[os.path.join(top, name)] = hash(f.read())
    return out


def damage(path, needle):
    """Flips a bit in every copy of `needle` in a file."""
    with open(path, "r+b") as f:
        data = f.read()
        at = data.find(needle)
        assert at >= 0 or not needle, path
        while at >= 0:
            f.seek(at)
            f.write(bytes([data[at] ^ 1]))
            at = data.find(needle, at + 1)


@test(timeout=60, needs=LOCAL)
def a_backlog_is_listed_by_path(t):
    m = LocalMount(t)
    m.mount()
    fill(m)
    os.sync()
    kill(m)
    before = tree_of_cache(m)
    r = check(t, m, status=BACKLOG)
    assert states(r) == {p: "new" for p in ("/a", "/a/c", "/a/c/f", "/a/c/link", "/a/odd\\012\\134name", "/big")}, r
    sizes = {e["path"]: e["bytes"] for e in r["only_here"]}
    assert sizes["/big"] == 3 << 20 and sizes["/a/c/f"] == 6, sizes
    assert r["backlog"]["bytes"] == (3 << 20) + 7 and r["backlog"]["operations"] > 10, r
    assert r["journal"]["hot_records"] + r["journal"]["durable"] == r["journal"]["committed"], r
    assert not r["journal"]["clean"] and not r["journal"]["power_cut"] and r["redis"] is None, r
    text = recover(t, "check", "--cache-dir", cache_of(m), status=BACKLOG)
    assert "only here  new      /a/c/f (6 bytes)" in text and "replay --apply" in text, text
    assert tree_of_cache(m) == before, "check has changed something"
    m.mount()
    with open(m.path("a/c/f"), "rb") as f:
        assert f.read() == b"hello\n"
    os.unlink(m.path("big"))
    m.umount()
    r = check(t, m, status=BACKLOG)
    assert r["journal"]["clean"] and r["journal"]["hot_records"] == 0, r
    assert "/big" not in states(r) and r["backlog"]["bytes"] == 7, r


@test(timeout=60, needs=LOCAL)
def damaged_bytes_are_named_by_path(t):
    m = LocalMount(t)
    m.mount()
    fill(m)
    m.umount()
    staging = os.path.join(cache_of(m), "staging")
    for name in os.listdir(staging):
        with open(os.path.join(staging, name), "rb") as f:
            if b"hello\n" in f.read():
                damage(os.path.join(staging, name), b"hello\n")
    r = check(t, m, status=BROKEN)
    assert [b["path"] for b in r["broken"]] == ["/a/c/f"] and "damaged" in r["broken"][0]["text"], r
    assert r["staging"]["damaged"] == 6, r
    assert "broken     /a/c/f: " in recover(t, "check", "--cache-dir", m.cache, status=BROKEN)
    shutil.rmtree(staging)
    os.mkdir(staging, 0o700)
    r = check(t, m, status=BROKEN)
    assert {b["path"] for b in r["broken"]} == {"/a/c/f", "/big", "/a/odd\\012\\134name"}, r
    assert all("gone" in b["text"] for b in r["broken"]), r


@test(timeout=60, needs=LOCAL)
def a_damaged_record_is_found(t):
    """In the hot log, where all behind it would be set aside, and in base."""
    m = LocalMount(t, "--sync-interval", "60s")
    m.mount()
    for name in ("first", "needle-in-the-log", "behind"):
        os.mkdir(m.path(name))
    kill(m)
    for top, _, files in os.walk(m.hot):
        for name in files:
            with open(os.path.join(top, name), "rb") as f:
                found = b"needle-in-the-log" in f.read()
            if found:
                damage(os.path.join(top, name), b"needle-in-the-log")
    r = check(t, m, status=BROKEN)
    assert r["journal"]["hot_bad"] >= 2 and "/first" in states(r) and "/behind" not in states(r), r
    assert "would be set aside" in r["broken"][0]["text"], r
    m.mount()
    m.umount()
    r = check(t, m, status=BROKEN)  # now it is set aside
    assert r["journal"]["set_aside"] >= 2 and r["journal"]["hot_bad"] == 0, r
    assert {"path": "/behind", "text": "acknowledged, but set aside by recovery: new"} in r["broken"], r
    assert any("cannot be told" in b["text"] for b in r["broken"]), r  # the damaged one itself
    shutil.rmtree(os.path.join(cache_of(m), "setaside"))
    check(t, m, status=BACKLOG)
    damage(os.path.join(cache_of(m), "base", "data.mdb"), b"first")
    r = check(t, m, status=BROKEN)
    assert any("damaged" in b["text"] for b in r["broken"]), r


@test(timeout=60, needs=LOCAL)
def a_living_daemon_is_respected(t):
    m = LocalMount(t)
    m.mount()
    for command in ("check", "replay"):
        text = recover(t, command, "--cache-dir", m.cache, status=CANNOT)
        assert f"process {m.pid}" in text, text
    os.mkdir(m.path("still-works"))


@test(timeout=60, needs=LOCAL)
def a_power_cut_is_reported(t):
    m = LocalMount(t)
    m.mount()
    os.mkdir(m.path("kept"))
    fd = os.open(m.path("kept"), os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    kill(m)
    shutil.rmtree(m.hot)
    r = check(t, m, status=BACKLOG)
    assert r["journal"]["power_cut"] and states(r) == {"/kept": "new"}, r


def set_version(m, old, new):
    """Of the state of base, of which there are several pages. Up to version 2 it is 8 bytes shorter: LMDB keeps a value's length in
    the first two of the 8 bytes in front of its key."""
    def value(version):
        return bytes((65 if version > 2 else 57, 0, 0, 0, 0, 0, 5, 0)) + b"state" + bytes((version,))
    with open(os.path.join(cache_of(m), "base", "data.mdb"), "r+b") as f:
        data = f.read()
        assert data.count(value(old)) >= 1
        f.seek(0)
        f.write(data.replace(value(old), value(new)))


@test(timeout=60, needs=LOCAL)
def a_journal_of_an_older_version_is_read(t):
    """Version 1 had no table of parents: a hard link that was made then has none there. It goes on as the current version."""
    m = LocalMount(t)
    m.mount()
    os.mkdir(m.path("kept"))
    with open(m.path("kept/file"), "wb") as f:
        f.write(b"from then")
    m.umount()
    set_version(m, 3, 1)
    assert states(check(t, m, status=BACKLOG)) == {"/kept": "new", "/kept/file": "new"}
    m.mount()
    assert bytes_of(m.path("kept/file")) == b"from then"
    os.link(m.path("kept/file"), m.path("link"))
    kill(m)
    m.mount()
    assert os.stat(m.path("link")).st_nlink == 2
    with open(m.path("kept/file"), "wb") as f:
        f.write(b"from now")
        os.fsync(f.fileno())
    m.umount()
    set_version(m, 3, 3)


@test(timeout=60, needs=LOCAL)
def a_journal_of_a_newer_version_is_refused(t):
    """By its number, with what to do, and with every byte as it was; whoever has the newer version goes on with it."""
    m = LocalMount(t)
    m.mount()
    os.mkdir(m.path("kept"))
    m.umount()
    set_version(m, 3, 4)
    before = tree_of_cache(m)
    told = [t.run(*m.command(), "--local-only", status=None)]
    assert t.status not in (0, None), told
    for words in (["check"], ["replay", "--apply"], ["export", "--apply"], ["discard", "--apply"]):
        more = {"replay": [m.url()], "export": [t.path("out")], "discard": ["/kept"]}.get(words[0], [])
        told.append(recover(t, *words, "--cache-dir", m.cache, *more, status=CANNOT))
    for text in told:
        assert "its journal has format version 4, this program reads up to 3: use the newer jfs" in text, text
    assert tree_of_cache(m) == before and not os.path.exists(t.path("out"))
    set_version(m, 4, 3)
    m.mount()
    assert os.listdir(m.path()) == ["kept"]
    m.umount()


@test(timeout=60, needs=("jfs",))
def wrong_usage_changes_nothing(t):
    empty = t.folder("empty")
    for words in ((), ("frobnicate",), ("check",), ("check", "--cache-dir"), ("check", "--bogus", "--cache-dir", empty),
                  ("check", "--cache-dir", empty, "redis://127.0.0.1:1/0", "more"), ("replay", "--apply", "--cache-dir", empty), ("rebase", "--cache-dir", empty)):
        recover(t, *words, status=USAGE)
    assert "no journal here" in recover(t, "check", "--cache-dir", empty, status=CANNOT)
    recover(t, "check", "--cache-dir", t.path("missing"), status=CANNOT)
    for words in (("--help",), ("--version",), ("check", "--help"), ("help",)):
        recover(t, *words, status=CLEAN)
    assert os.listdir(empty) == []


@test(timeout=120, needs=LOCAL)
def a_damaged_database_is_reported_not_crashed_on(t):
    """LMDB trusts its pages. Whatever becomes of the reader, the exit status is one of ours."""
    # the child that a damaged page kills is no finding of a sanitizer
    t.env["ASAN_OPTIONS"] += ":handle_segv=0:handle_sigbus=0:handle_abort=0:detect_leaks=0"
    m = LocalMount(t)
    m.mount()
    for name in range(300):
        os.mkdir(m.path(str(name)))
    m.umount()
    base = os.path.join(cache_of(m), "base", "data.mdb")
    with open(base, "rb") as f:
        good = f.read()
    seen = set()
    for _ in range(40):
        bad = bytearray(good)
        for _ in range(t.rng.choice((1, 8, 64))):
            bad[t.rng.randrange(len(bad) // 4096) * 4096 + t.rng.randrange(64)] = t.rng.randrange(256)
        with open(base, "wb") as f:
            f.write(bad)
        text = recover(t, "check", "--json", "--cache-dir", m.cache, status=None)
        assert t.status in (BACKLOG, BROKEN, CANNOT), (t.status, text)
        seen.add(t.status)
        if t.status == BROKEN:
            r = json.loads(text[text.index("{\n"):])
            assert r["result"] == "broken" and r["broken"], r
    assert BROKEN in seen, seen
    with open(base, "wb") as f:
        f.write(good)
    check(t, m, status=BACKLOG)


@test(timeout=60, needs=LOCAL)
def several_journals_need_a_uuid(t):
    m = LocalMount(t)
    m.mount()
    os.mkdir(m.path("d"))
    m.umount()
    twin = os.path.join(m.cache, "other")
    shutil.copytree(cache_of(m), twin)
    with open(os.path.join(twin, "uuid"), "w", encoding="ascii") as f:
        f.write("other")
    text = recover(t, "check", "--cache-dir", m.cache, status=USAGE)
    assert "--uuid" in text and "local-only" in text and "other" in text, text
    r = check(t, m, "--uuid", "other", status=BACKLOG)
    assert r["volume"] == "other" and r["journal"]["moved"], r
    assert check(t, m, "--uuid", "local-only", status=BACKLOG)["volume"] == "local-only"
    recover(t, "check", "--cache-dir", m.cache, "--uuid", "third", status=USAGE)


# with Redis

@test(timeout=90, needs=LOCAL)
def the_position_in_redis_is_compared(t):
    redis = RedisServer(t)
    volume = Volume(t, redis).format()
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h", query="batch_interval=1m")
    os.mkdir(m.path("d"))
    kill(m)
    r = check(t, m, m.url(), status=BACKLOG)
    assert r["redis"]["position"] == "same" and not r["redis"]["released"] and states(r) == {"/d": "new"}, r
    assert r["objects"] == {"checked": 0, "missing": 0, "wrong_size": 0}, r
    have = lease(volume)
    for fields, position in (({"seq": "999999"}, "later"), ({"chain": "0" * 32}, "foreign"), ({"journal": "f" * 32}, "foreign")):
        lease(volume, **fields)
        r = check(t, m, m.url(), status=BROKEN)
        assert r["redis"]["position"] == position, (fields, r)
        for words in ((), ("--apply",)):
            recover(t, "replay", *words, "--cache-dir", m.cache, m.url(), status=BROKEN)
        lease(volume, **have)
    with redis.client(volume.db) as c:
        c("DEL", "zjfs")
    r = check(t, m, m.url(), status=BROKEN)
    assert r["redis"]["position"] == "gone" and "lost the position" in r["broken"][0]["text"], r
    other = Volume(t, redis, name="other", db=1).format()
    assert "journal is of" in recover(t, "check", "--cache-dir", m.cache, other.url(), status=CANNOT)
    recover(t, "check", "--cache-dir", m.cache, redis.url(2), status=CANNOT)
    recover(t, "check", "--cache-dir", m.cache, "redis://127.0.0.1:1/0", status=CANNOT)
    check(t, m, status=BACKLOG)


@test(timeout=90, needs=LOCAL)
def a_clean_cache_is_clean(t):
    volume = Volume(t, RedisServer(t)).format()
    m = Mount(t, volume, "--writeback")
    fill(m)
    m.umount(flush=True)
    for _ in range(2):
        r = check(t, m, m.url(), status=CLEAN)
        assert r["redis"]["position"] == "same" and r["redis"]["released"] and not r["only_here"], r
        assert r["objects"]["missing"] == 0 and r["objects"]["checked"] > 0, r
        recover(t, "replay", "--apply", "--cache-dir", m.cache, m.url(), status=CLEAN)
    check(t, m, status=CLEAN)


@test(timeout=120, needs=LOCAL)
def replay_brings_the_rest_to_redis_and_the_store(t):
    volume = Volume(t, RedisServer(t)).format()
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h", query="batch_interval=1m")
    fill(m)
    with open(m.path("big"), "rb") as f:
        big = f.read()
    kill(m)
    check(t, m, m.url(), status=BACKLOG)
    text = recover(t, "replay", "--cache-dir", m.cache, m.url(), status=BACKLOG)
    assert "only here  new      /big" in text, text
    r = json.loads(recover(t, "replay", "--apply", "--json", "--timeout", "60s", "--cache-dir", m.cache, m.url(), status=REPAIRED))
    assert r["result"] == "repaired" and r["redis"]["released"] and not r["only_here"] and not r["broken"], r
    recover(t, "replay", "--apply", "--cache-dir", m.cache, m.url(), status=CLEAN)
    check(t, m, m.url(), status=CLEAN)
    volume.check()
    other = Mount(t, volume, name="other")
    with open(other.path("big"), "rb") as f:
        assert f.read() == big
    assert os.readlink(other.path("a/c/link")) == "f" and not os.path.exists(other.path("tmp"))
    other.umount(flush=True)


@test(timeout=120, needs=LOCAL)
def replay_that_runs_out_of_time_leaves_the_rest(t):
    volume = Volume(t, RedisServer(t)).format()
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h", query="batch_interval=1m")
    fill(m)
    kill(m)
    os.rename(volume.bucket.rstrip("/"), t.path("bucket-away"))
    with open(volume.bucket.rstrip("/"), "wb"):
        pass  # a file in its place: every PUT fails
    recover(t, "replay", "--apply", "--timeout", "3s", "--no-objects", "--cache-dir", m.cache, m.url(), status=BACKLOG)
    os.unlink(volume.bucket.rstrip("/"))
    os.rename(t.path("bucket-away"), volume.bucket.rstrip("/"))
    r = check(t, m, m.url(), status=BACKLOG)
    assert states(r)["/big"] == "new", r
    recover(t, "replay", "--apply", "--timeout", "60s", "--cache-dir", m.cache, m.url(), status=REPAIRED)
    volume.check()


@test(timeout=120, needs=LOCAL)
def replay_may_be_killed_at_any_point(t):
    volume = Volume(t, RedisServer(t)).format()
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h", query="batch_interval=1m")
    fill(m)
    for i in range(200):
        with open(m.path(f"a/file{i}"), "wb") as f:
            f.write(b"%d" % i * 1000)
    kill(m)
    words = (JFS_RECOVER, "replay", "--apply", "--cache-dir", m.cache, m.url())
    last = 0
    for _ in range(6):
        p = t.spawn(*words, name="replay")
        epoch = last
        wait_until(lambda: int(lease(volume)["epoch"]) > epoch or p.poll() is not None, what="the lease of a replay")
        last = int(lease(volume)["epoch"])
        moved = lease(volume)["seq"]
        if t.rng.random() < 0.5:  # let it get somewhere
            wait_until(lambda: lease(volume)["seq"] != moved or p.poll() is not None, what="a window of a replay")
        for pid in descendants_of(p.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert p.wait(30) in (CLEAN, REPAIRED, CANNOT), p.returncode
    recover(t, *words[1:], status=None)
    assert t.status in (CLEAN, REPAIRED), t.status
    check(t, m, m.url(), status=CLEAN)
    volume.check()
    other = Mount(t, volume, name="other")
    for i in range(200):
        with open(other.path(f"a/file{i}"), "rb") as f:
            assert f.read() == b"%d" % i * 1000
    other.umount(flush=True)


@test(timeout=120, needs=LOCAL)
def a_redis_that_fell_back_is_healed(t):
    """P8, by the tool alone."""
    redis = RedisServer(t)
    volume = Volume(t, redis).format()
    m = Mount(t, volume, "--writeback")
    fill(m)
    m.flush()
    old = volume.keys()
    for i in range(50):
        with open(m.path(f"later{i}"), "w", encoding="ascii") as f:
            f.write("x" * i)
    m.umount(flush=True)
    check(t, m, m.url(), status=CLEAN)
    volume.put_back(old)
    r = check(t, m, m.url(), status=BACKLOG)
    assert r["redis"]["position"] == "earlier" and states(r)["/later7"] == "new", r
    assert "/big" not in states(r), r
    recover(t, "replay", "--apply", "--timeout", "60s", "--cache-dir", m.cache, m.url(), status=REPAIRED)
    check(t, m, m.url(), status=CLEAN)
    volume.check()
    other = Mount(t, volume, name="other")
    assert os.path.getsize(other.path("later49")) == 49 and os.path.exists(other.path("big"))
    other.umount(flush=True)


@test(timeout=120, needs=LOCAL)
def a_missing_object_is_named_by_path(t):
    volume = Volume(t, RedisServer(t)).format()
    m = Mount(t, volume, "--writeback")
    fill(m)
    m.umount(flush=True)
    objects = [os.path.join(top, n) for top, _, files in os.walk(volume.bucket) for n in files if "chunks" in top]
    largest = max(objects, key=os.path.getsize)
    os.truncate(largest, 1000)
    r = check(t, m, m.url(), status=BROKEN)
    assert r["objects"]["wrong_size"] == 1 and r["broken"][0]["path"] == "/big", r
    os.unlink(largest)
    r = check(t, m, m.url(), status=BROKEN)
    assert r["objects"]["missing"] == 1 and r["broken"][0]["path"] == "/big", r


@test(timeout=60, needs=LOCAL)
def export_writes_what_is_only_here(t):
    """Neither Redis nor the object store is needed: a plain tree, byte for byte, owners and times too; again, the same."""
    m = LocalMount(t)
    m.mount()
    fill(m)
    with open(m.path("sparse"), "wb") as f:
        f.seek(70 << 20)
        f.write(b"end")
    os.mkfifo(m.path("a/fifo"), 0o640)
    os.setxattr(m.path("big"), "user.note", b"kept")
    os.chown(m.path("big"), 12, 34)
    os.setxattr(m.path("big"), "security.capability", CAPABILITY)
    os.utime(m.path("a/c/f"), ns=(5, 6))
    os.utime(m.path("a"), ns=(7, 8))
    want = listing(m.dir)
    kill(m)
    before = tree_of_cache(m)
    target = t.path("out")
    text = recover(t, "export", "--cache-dir", m.cache, target, status=BACKLOG)
    assert "/a/c/f" in text and not os.path.exists(target), text
    for _ in range(2):
        r = exported(t, m, target, status=REPAIRED)
        got = listing(target)
        assert got == want, [(p, got.get(p), want.get(p)) for p in {*got, *want} if got.get(p) != want.get(p)]
        assert r["exported"]["files"] == 4 and r["exported"]["partial"] == 0, r["exported"]
        assert os.getxattr(os.path.join(target, "big"), "user.note") == b"kept"
        assert os.getxattr(os.path.join(target, "big"), "security.capability") == CAPABILITY
    assert os.stat(os.path.join(target, "sparse")).st_blocks < 1000
    assert tree_of_cache(m) == before, "export has changed the journal"
    m.mount()
    assert listing(m.dir) == want


@test(timeout=60, needs=LOCAL)
def export_killed_and_run_again(t):
    m = LocalMount(t)
    m.mount()
    fill(m)
    want = listing(m.dir)
    kill(m)
    target = t.path("out")
    for n in (1, 2):
        t.run(JFS_RECOVER, "export", "--apply", "--cache-dir", m.cache, target, status=CANNOT,
              env={"JFS_FAULT": f"recover.export.before_rename:{n}:kill"})
    exported(t, m, target, status=REPAIRED)
    assert listing(target) == want


@test(timeout=60, needs=LOCAL)
def redis_and_bucket_are_lost(t):
    """What was only here is saved; of a file that was changed in part, what is here, under a name that says so."""
    redis = RedisServer(t)
    volume = Volume(t, redis).format()
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    fill(m)
    m.flush()
    with open(m.path("big"), "r+b") as f:
        f.seek(1 << 20)
        f.write(b"changed" * 1000)
    with open(m.path("a/new"), "wb") as f:
        f.write(b"new" * 100000)
    os.unlink(m.path("a/odd\n\\name"))
    kill(m)
    redis.kill()
    shutil.rmtree(volume.bucket)
    target = t.path("out")
    r = exported(t, m, target, status=BROKEN)
    assert [b["path"] for b in r["broken"]] == ["/big"] and "object store" in r["broken"][0]["text"], r["broken"]
    assert states(r)["/a/odd\\012\\134name"] == "removed"
    assert sorted(listing(target)) == ["a", "a/new", "big.partial"], listing(target).keys()
    assert bytes_of(os.path.join(target, "a/new")) == b"new" * 100000
    body = bytes_of(os.path.join(target, "big.partial"))
    assert len(body) == 3 << 20 and body[1 << 20:(1 << 20) + 7000] == b"changed" * 1000


@test(timeout=60, needs=LOCAL)
def a_damaged_run_is_exported_as_partial(t):
    m = LocalMount(t)
    m.mount()
    with open(m.path("whole"), "wb") as f:
        f.write(b"whole")
    with open(m.path("torn"), "wb") as f:
        f.write(b"#" * 5000 + b"needle" + b"#" * 5000)
    os.sync()
    kill(m)
    for top, _, files in os.walk(m.cache):
        for name in files:
            if name.endswith(".seg"):
                damage(os.path.join(top, name), b"needle")
    target = t.path("out")
    r = exported(t, m, target, status=BROKEN)
    assert {b["path"] for b in r["broken"]} == {"/torn"}, r["broken"]
    assert sorted(os.listdir(target)) == ["torn.partial", "whole"]
    assert bytes_of(os.path.join(target, "whole")) == b"whole"


@test(timeout=60, needs=LOCAL)
def another_host_took_over(t):
    """P9: what the old holder had acknowledged is found by its own journal."""
    volume = Volume(t, RedisServer(t)).format()
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    fill(m)
    want = listing(m.dir)
    kill(m)
    other = Mount(t, volume, "--takeover", name="other")
    with open(other.path("theirs"), "wb") as f:
        f.write(b"1")
    other.umount(flush=True)
    r = check(t, m, m.url(), status=BROKEN)
    assert r["redis"]["position"] == "foreign" and "export" in r["advice"], r
    target = t.path("out")
    exported(t, m, target, status=REPAIRED)
    got = listing(target)
    assert got == want, (got.keys(), want.keys())


@test(timeout=60, needs=LOCAL)
def export_refuses_bad_targets(t):
    m = LocalMount(t)
    m.mount()
    fill(m)
    kill(m)
    assert "missing" in recover(t, "export", "--apply", "--cache-dir", m.cache, status=USAGE)
    with open(t.path("file"), "wb"):
        pass
    text = recover(t, "export", "--apply", "--cache-dir", m.cache, t.path("file"), status=CANNOT)
    assert t.path("file") in text and "directory" in text.lower(), text
    text = recover(t, "export", "--apply", "--cache-dir", m.cache, "/proc/nothing", status=CANNOT)
    assert "/proc/nothing" in text, text
    os.mkdir(t.path("in the way"))
    os.symlink("/", os.path.join(t.path("in the way"), "a"))
    text = recover(t, "export", "--apply", "--cache-dir", m.cache, t.path("in the way"), status=CANNOT)
    assert "in the way/a" in text, text


def damaged_file(t):
    """A volume with a backlog in which the staged bytes of /bad are damaged, in base, with a window chosen over them."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "1")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    with open(m.path("bad"), "wb") as f:
        f.write(b"#" * 5000 + b"needle" + b"#" * 5000)
    fill(m)
    fd = os.open(m.path("bad"), os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    m.umount()
    for top, _, files in os.walk(m.cache):
        for name in files:
            if name.endswith(".seg"):
                damage(os.path.join(top, name), b"needle")
    return volume, m


def whole_without_it(t, volume, m):
    m.umount(flush=True)
    volume.check()
    other = Mount(t, volume, name="other")
    assert sorted(os.listdir(other.dir)) == ["a", "big"]
    assert os.path.getsize(other.path("big")) == 3 << 20 and bytes_of(other.path("a/c/f")) == b"hello\n"
    other.umount(flush=True)


@test(timeout=120, needs=LOCAL)
def a_damaged_staging_segment_and_rm(t):
    """In a mount: replay stops at the file whose bytes are damaged; when that was removed and the volume is mounted again, all
    others go on, although a window had been chosen that needs the bytes."""
    volume, m = damaged_file(t)
    m.mount()
    with contextlib.suppress(CommandError):
        m.flush()
        raise AssertionError("what cannot be read was flushed")
    wait_until(lambda: "staged bytes" in t.run(JFS, "status", m.dir), what="a status that says why")
    os.unlink(m.path("bad"))
    m.umount()
    m.mount()
    m.flush()
    whole_without_it(t, volume, m)


@test(timeout=120, needs=LOCAL)
def a_damaged_staging_segment_and_discard(t):
    """Without a mount: check names the file, replay leaves the journal alone, discard gives the file up, replay does the rest."""
    volume, m = damaged_file(t)
    r = check(t, m, m.url(), status=BROKEN)
    assert [b["path"] for b in r["broken"]] == ["/bad"] and "discard" in r["advice"], r
    recover(t, "replay", "--apply", "--timeout", "60s", "--cache-dir", m.cache, m.url(), status=BROKEN)
    before = tree_of_cache(m)
    recover(t, "discard", "--cache-dir", m.cache, "/bad", status=BROKEN)
    for words in (("/nothing",), ("/a",), ("/bad", "/../etc"), ("/bad/deeper",)):
        text = recover(t, "discard", "--apply", "--cache-dir", m.cache, *words, status=CANNOT)
        assert words[-1] in text, text
    assert tree_of_cache(m) == before or check(t, m, m.url(), status=BROKEN)
    t.run(JFS_RECOVER, "discard", "--apply", "--cache-dir", m.cache, "/bad", status=CANNOT,
          env={"JFS_FAULT": "recover.discard.before:1:kill"})
    r = json.loads(recover(t, "discard", "--apply", "--json", "--cache-dir", m.cache, "/bad", status=REPAIRED))
    assert r["discarded"] == 1 and not r["broken"], r
    check(t, m, m.url(), status=BACKLOG)
    recover(t, "replay", "--apply", "--timeout", "60s", "--cache-dir", m.cache, m.url(), status=REPAIRED)
    m.mount()
    whole_without_it(t, volume, m)


@test(timeout=120, needs=LOCAL)
def h56_redis_was_reloaded_from_a_dump(t):
    """The private key does not survive that: nothing of the journal may be replayed, ids are handed out again. The walk: check,
    export, mount with an empty cache directory, copy."""
    redis = RedisServer(t)
    volume = Volume(t, redis).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    fill(m)
    m.flush()
    dump = {k: v for k, v in volume.keys().items() if not k.startswith("z") and k not in ("allSessions", "sessionInfos")}
    with open(m.path("a/new"), "wb") as f:
        f.write(b"new" * 100000)
    os.mkdir(m.path("later"))
    want = listing(m.dir)
    kill(m)
    volume.put_back(dump)
    before = volume.keys()
    assert "jfs-recover" in m.mount(status=1)
    r = check(t, m, m.url(), status=BROKEN)
    assert r["redis"]["position"] == "gone" and "export" in r["advice"] and states(r)["/a/new"] == "new", r
    recover(t, "replay", "--apply", "--timeout", "60s", "--cache-dir", m.cache, m.url(), status=BROKEN)
    assert volume.keys() == before, "something was written into a Redis that does not know this journal"
    target = t.path("saved")
    exported(t, m, target, status=REPAIRED)
    fresh = Mount(t, volume, "--writeback", name="fresh")
    t.run("cp", "-a", target + "/.", fresh.dir)
    got = listing(fresh.dir)
    assert got == want, [(p, got.get(p), want.get(p)) for p in {*got, *want} if got.get(p) != want.get(p)]
    fresh.umount(flush=True)
    volume.check()


@test(timeout=120, needs=LOCAL)
def the_journal_is_lost(t):
    """Redis and the store are fine: an empty cache directory and --takeover. What they had is there, the rest is gone with the
    journal, and the message says so."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    fill(m)
    m.flush()
    want = listing(m.dir)
    os.mkdir(m.path("only-here"))
    kill(m)
    shutil.rmtree(m.cache)
    shutil.rmtree(m.hot)
    text = m.mount(status=1)
    assert m.cache in text and "--takeover" in text, text
    m.mount("--takeover")
    assert listing(m.dir) == want, listing(m.dir).keys()
    os.mkdir(m.path("goes-on"))
    m.umount(flush=True)
    volume.check()
    check(t, m, m.url(), status=CLEAN)


@test(timeout=120, needs=LOCAL)
def a_disk_is_moved_to_another_host(t):
    """A power cut, and the cache directory goes on elsewhere: another holder to Redis, which check says and replay respects."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    fill(m)
    want = listing(m.dir)
    fd = os.open(m.dir, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    kill(m)
    shutil.rmtree(m.hot)
    old, m.cache = m.cache, t.path("moved")
    t.run("cp", "-a", old, m.cache)
    shutil.rmtree(old)
    r = check(t, m, m.url(), status=BACKLOG)
    assert r["journal"]["moved"] and r["redis"]["position"] == "same" and "--takeover" in r["advice"], r
    words = ("replay", "--apply", "--timeout", "60s", "--cache-dir", m.cache, m.url())
    text = recover(t, *words, status=CANNOT)
    assert "is held by" in text and old in text, text
    recover(t, *words, "--takeover", status=REPAIRED)
    check(t, m, m.url(), status=CLEAN)
    volume.check()
    other = Mount(t, volume, name="other")
    assert listing(other.dir) == want
    other.umount(flush=True)


@test(timeout=120, needs=(*LOCAL, "tools"))
def the_disk_was_full_when_it_should_recover(t):
    """To the last block, and without the reserve: mount and replay say so and leave all as it was, check works."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    disk = loop_folder(t, 256)
    cache = os.path.join(disk, "cache")
    os.mkdir(cache, 0o700)
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h", "--sync-interval", "60s", cache=cache)
    for i in range(3000):  # more than base's free pages take
        os.mkdir(m.path(f"dir-{i}"))
    kill(m)
    os.unlink(os.path.join(cache_of(m), "reserve"))
    with open(os.path.join(disk, "filler"), "wb", buffering=0) as f:
        with contextlib.suppress(OSError):
            while True:
                f.write(b"x" * (1 << 20))
        with contextlib.suppress(OSError):
            while True:
                f.write(b"x" * 4096)
    for _ in range(2):
        assert "make room on that disk" in m.mount(status=1)
        text = recover(t, "replay", "--apply", "--cache-dir", m.cache, m.url(), status=CANNOT)
        assert "make room on that disk" in text, text
        assert len(states(check(t, m, m.url(), status=BACKLOG))) == 3000
    os.unlink(os.path.join(disk, "filler"))
    m.mount()
    assert len(os.listdir(m.dir)) == 3000
    m.umount(flush=True)
    volume.check()


@test(timeout=120, needs=LOCAL)
def two_crashes_in_a_row(t):
    """Killed, killed again in the recovery of that, and once more in the replay without a mount: nothing is lost."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h", "--sync-interval", "60s")
    fill(m)
    want = listing(m.dir)
    kill(m)
    m.env = {"JFS_FAULT": "recovery.before_base:1:kill"}
    m.mount(status=1)
    m.env = {}
    t.run(JFS_RECOVER, "replay", "--apply", "--timeout", "60s", "--cache-dir", m.cache, m.url(), status=CANNOT,
          env={"JFS_FAULT": "redis.replay.before_script:1:kill"})
    r = check(t, m, m.url(), status=BACKLOG)
    assert states(r)["/big"] == "new", r
    recover(t, "replay", "--apply", "--timeout", "60s", "--cache-dir", m.cache, m.url(), status=REPAIRED)
    check(t, m, m.url(), status=CLEAN)
    volume.check()
    other = Mount(t, volume, name="other")
    assert listing(other.dir) == want
    other.umount(flush=True)


if __name__ == "__main__":
    sys.exit(main())
