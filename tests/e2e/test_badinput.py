#!/usr/bin/env python3
"""Bad input, whatever its way into a mount: the command line, the mount point, Redis, its values, the object store, the
cache directory, another mount. A refusal is one line that names the thing, exit code 1 (2 for usage), and nothing changed
in Redis, bucket and cache; at run time it is EIO and a line in the log, and everything else is still served."""
import contextlib
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import keyspace  # noqa: E402
from core import command_line  # noqa: E402
from harness import *  # noqa: E402,F403

NEEDS = ("root", "fuse", "jfs")
SECRETS = ("s3cr3t", "hunter2")
BODY = b"0123456789abcdef" * 10000


def files_below(folder, data=True):
    out = {}
    for where, dirs, names in os.walk(folder):
        for name in dirs + names:
            if name == "lock":  # says who looked last
                continue
            path = os.path.join(where, name)
            st = os.lstat(path)
            out[os.path.relpath(path, folder)] = (st.st_mode, st.st_uid, st.st_size)
            if data and os.path.isfile(path) and st.st_size < 1 << 20:
                with open(path, "rb") as f:
                    out[os.path.relpath(path, folder)] += (f.read(),)
    return out


def one_line(text, says):
    lines = text.splitlines()
    assert len(lines) == 1, f"not one line: {text!r}"
    for word in (says,) if isinstance(says, str) else says:
        assert word in text, f"{word!r} is not in {text!r}"
    for secret in SECRETS:
        assert secret not in text, text


def refused(m, *extra, says, status=1, folders=(), keys=True):
    """`jfs mount` fails with one line that says `says`; Redis (if keys), the bucket and `folders` stay as they were."""
    def look():
        where = [f for f in (*folders, None if m.volume.s3 else m.volume.bucket) if f]
        return m.volume.keys() if keys else None, [files_below(f) for f in where]
    before = look()
    text = m.mount(*extra, status=status)
    m.t.note(text.rstrip())
    one_line(text, says)
    after = look()
    assert before[0] == after[0], "the refused mount changed Redis: " + str(changed(before[0], after[0]))
    assert before[1] == after[1], "the refused mount changed files: " + str([
        (k, len(b.get(k, ())), len(a.get(k, ()))) for b, a in zip(before[1], after[1]) for k in changed(b, a)])


def changed(before, after):
    return sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))


def fails_with(number, function, *args):
    try:
        function(*args)
    except OSError as e:
        assert e.errno == number, f"{errno.errorcode.get(e.errno)}, expected {errno.errorcode[number]}"
    else:
        raise AssertionError(f"no error, expected {errno.errorcode[number]}")


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, data=BODY):
    with open(path, "wb") as f:
        f.write(data)


def log_of(m):
    with open(m.logfile, encoding="utf-8", errors="replace") as f:
        return f.read()


def logged(t, volume, *options, name="mnt", **kw):
    """A mount (not started) whose daemon logs into m.logfile."""
    path = os.path.join(t.log_dir, f"{name}-{len(os.listdir(t.log_dir))}-daemon.log")
    m = Mount(t, volume, "--no-syslog", "--log", path, *options, name=name, start=False, **kw)
    m.logfile = path
    return m


def expect_log(m, *words):
    wait_until(lambda: all(w in log_of(m) for w in words), what=f"{words} in the log")


def grown(t, *format_options, s3=None, password=None):
    """A volume with a small tree, drained and unmounted: {d/f, d/h1 = d/h2, d/l -> target, d/x with an xattr, ok/file}."""
    v = Volume(t, RedisServer(t, password=password), s3=s3).format("--block-size", "64", "--trash-days", "0", *format_options)
    m = Mount(t, v, "--writeback", name="grow")
    os.mkdir(m.path("d"))
    os.mkdir(m.path("ok"))
    for name in ("d/f", "d/h1", "d/x", "ok/file"):
        write(m.path(name))
    os.link(m.path("d/h1"), m.path("d/h2"))
    os.symlink("target", m.path("d/l"))
    os.setxattr(m.path("d/x"), "user.a", b"1")
    v.inos = {n: os.lstat(m.path(n)).st_ino for n in ("d", "d/f", "d/h1", "d/l", "d/x", "ok", "ok/file")}
    m.umount(flush=True)
    v.good = v.keys()
    return v


def restore(v):
    with v.redis.client(v.db) as c:
        keyspace.replace_db(c, v.good)


# the command line

@test(needs=NEEDS)
def usage_errors(t):
    v = Volume(t, RedisServer(t)).format()
    m = Mount(t, v, start=False)
    before = v.keys()
    for option, word in (("--nosuch", "--nosuch"), ("--cache-size=4Q", "--cache-size"), ("--buffer-size=x", "--buffer-size"),
                         ("--upload-delay=soon", "--upload-delay"), ("--durability=maybe", "--durability"),
                         ("--publish=never", "--publish"), ("--cache-dir=memory", "--cache-dir"), ("-onosuch", "nosuch"),
                         ("--free-space-ratio=2", "--free-space-ratio"), ("--max-uploads=0", "--max-uploads"),
                         ("-owriteback_cache", "writeback_cache"), ("--sync-interval=0s", "--sync-interval"),
                         ("-Z", "-Z"), ("--cache-size", "needs a value")):
        one_line(t.run(JFS, "mount", v.url(), m.dir, option, status=2), word)
    for url, word in ((v.url() + "x", "number"), ("redis://", "host"), ("rediss://h/1", "TLS"),
                      ("redis://:s3cr3t/x@h/1", "%2F"), (v.url("safe_batch=1&unsafe_batch=1"), "not both"),
                      (v.url("batch_size=x"), "batch_size"), (v.url("nosuch=1"), "nosuch")):
        one_line(t.run(JFS, "mount", url, m.dir, status=2), word)
    one_line(t.run(JFS, "mount", v.url(), status=2), "too few arguments")
    for command in ("umount", "flush", "status", "mount"):
        one_line(t.run(JFS, command, "--nosuch", "x", status=2), "--nosuch")
    for command in ("umount", "flush", "status"):
        one_line(t.run(JFS, command, m.dir, status=1), (m.dir, "mount"))
        one_line(t.run(JFS, command, m.path("none"), status=1), "none")
    assert v.keys() == before and not os.listdir(m.cache)


@test(needs=NEEDS)
def mount_points(t):
    v = Volume(t, RedisServer(t)).format()
    m = Mount(t, v, start=False)
    own = m.dir

    def bad(path, *words):
        m.dir = path
        before = v.keys()
        one_line(m.mount(status=1), (path, *words))
        assert v.keys() == before and not os.listdir(m.cache)
    bad(t.path("none"), "does not exist", "mkdir")
    write(t.path("plain"))
    bad(t.path("plain"), "not a directory")
    write(os.path.join(t.folder("full"), "x"))
    bad(t.path("full"), "not empty", "--force")
    bad(t.path("plain") + "/x", "Not a directory")
    os.symlink("loop", t.path("loop"))
    bad(t.path("loop"), "symbolic links")
    m.dir = own
    m.mount()
    second = Mount(t, v, name="second", start=False)
    second.dir = own
    one_line(t.run(*second.command(), status=1), (own, "busy", "unmount"))
    assert not os.listdir(second.cache)
    write(m.path("still"))
    m.umount()


# Redis

@test(needs=NEEDS)
def redis_that_cannot_be_used(t):
    r = RedisServer(t, password="hunter2")
    v = Volume(t, r).format()
    m = Mount(t, v, start=False)
    cache = (m.cache,)
    good = m.url

    def with_url(url, **kw):
        m.url = lambda: url
        refused(m, folders=cache, **kw)
    with_url(r.url(password=False), says=(str(r.port), "password"))
    with_url(f"redis://:s3cr3t@127.0.0.1:{r.port}/0", says=(str(r.port), "password"))
    with_url(r.url(99), says="database 99")
    with_url(r.url(1), says=("no volume", "jfs format"))
    with_url(f"unix://{t.dir}/none.sock", says="none.sock")
    with r.client(2) as c:
        c("SET", "mine", "x")
    with_url(r.url(2), says="holds keys but no volume")
    m.url = good
    r.pause()
    m.query = "read-timeout=300ms"
    one_line(m.mount(status=1), "in time")
    r.resume()
    r.stop()
    one_line(m.mount(status=1), (f"127.0.0.1:{r.port}", "is it running"))
    one_line(m.mount("--offline", status=1), ("--offline", m.cache))
    assert not os.listdir(m.cache)


@test(timeout=120, needs=NEEDS)
def values_that_no_mount_can_use(t):
    """Foreign bytes in what a mount reads before it is one."""
    v = grown(t)
    m = Mount(t, v, start=False)
    setting = bytes.fromhex(v.good["setting"]["string"])

    def damage(key, says, *command):
        restore(v)
        with v.redis.client() as c:
            c("DEL", key)
            if command:
                c(command[0], key, *command[1:])
        before = v.keys()
        text = m.mount(status=1)
        t.note(key, command[:2], text.rstrip())
        one_line(text, says)
        after = v.keys()
        assert before == after, changed(before, after)
    damage("setting", "not JSON", "SET", setting[:len(setting) // 2])
    damage("setting", "not JSON", "SET", "")
    damage("setting", "not JSON", "SET", b"\xff\x00\x01")
    damage("setting", "not a JSON object", "SET", "[1]")
    damage("setting", "something else", "HSET", "a", "b")
    damage("setting", "holds keys but no volume")
    damage("setting", "UUID", "SET", re.sub(rb'"UUID": "[^"]*"', b'"UUID": "../../x"', setting))
    damage("setting", "lock size", "SET", re.sub(rb'"BlockSize": \d+', b'"BlockSize": 63', setting))
    damage("dirQuotaUsedInodes", "dirQuota", "HSET", "1", "x")
    for key in ("nextsession", "usedSpace", "totalInodes", "nextinode", "nextchunk"):
        damage(key, key, "SET", "12x")
        damage(key, key, "RPUSH", "1")
    damage("zjfs", "zjfs", "SET", "x")
    damage("zjfs", "zjfs", "HSET", "epoch", "x", "seq", "y", "chain", "z", "released", "1")
    damage("allSessions", "allSessions", "SET", "x")
    damage("sessionInfos", "sessionInfos", "SET", "x")
    damage("i1", "i1", "SET", b"\0\1\2")
    damage("i1", "i1", "RPUSH", "x")
    damage("i1", "i1")
    damage("d1", "d1", "SET", "x")
    damage("sliceRef", "sliceRef", "SET", "x")
    restore(v)
    m.mount()
    assert read(m.path("ok/file")) == BODY
    m.umount(flush=True)
    v.check()


@test(timeout=200, needs=NEEDS)
def values_that_a_running_mount_meets(t):
    """Truncated and foreign bytes in what is read on demand: EIO and a line that names the key; the rest is served."""
    v = grown(t)
    ino = v.inos

    def listing(path):
        return lambda m: os.listdir(m.path(path))

    def content(path):
        return lambda m: read(m.path(path))

    def target(m):
        return os.readlink(m.path("d/l"))

    def xattr(m):
        return os.listxattr(m.path("d/x"))

    f, d, x, l = (ino[n] for n in ("d/f", "d", "d/x", "d/l"))
    record = bytes.fromhex(v.good[f"i{f}"]["string"])
    slices = v.good[f"c{f}_0"]["list"]
    slice0 = bytes.fromhex(slices[0])
    entry = bytes.fromhex(v.good[f"d{d}"]["hash"]["f"])
    cases = [
        (f"i{f}", content("d/f"), ("SET", record[:10])), (f"i{f}", content("d/f"), ("SET", b"")),
        (f"i{f}", content("d/f"), ("SET", b"\xff" * 72)), (f"i{f}", content("d/f"), ("SET", record[:1] + b"\x01" + record[2:])),
        (f"i{f}", content("d/f"), ("RPUSH", "x")),
        (f"i{d}", listing("d"), ("SET", b"x")), (f"i{d}", listing("d"), ("SADD", "x")),
        (f"d{d}", listing("d"), ("SET", "x")), (f"d{d}", listing("d"), ("HSET", "f", entry[:8])),
        (f"d{d}", listing("d"), ("HSET", "f", b"\x09" + entry[1:])), (f"d{d}", listing("d"), ("HSET", "f", b"\x01" + bytes(8))),
        (f"d{d}", listing("d"), ("HSET", "a/b", entry)), (f"d{d}", listing("d"), ("HSET", "", entry)),
        (f"c{f}_0", content("d/f"), ("SET", "x")), (f"c{f}_0", content("d/f"), ("RPUSH", slice0[:23])),
        (f"c{f}_0", content("d/f"), ("RPUSH", b"\xff" * 24)),
        (f"c{f}_0", content("d/f"), ("RPUSH", slice0[:12] + (10).to_bytes(4, "big") + slice0[16:])),
        (f"x{x}", xattr, ("SET", "x")), (f"x{x}", xattr, ("HSET", "", "x")), (f"x{x}", xattr, ("HSET", "n" * 300, "x")),
        (f"s{l}", target, ("SET", "")), (f"s{l}", target, ("RPUSH", "x")), (f"s{l}", target, None),
        (f"s{l}", target, ("SET", "y" * 5000)),
    ]
    for key, look, command in cases:
        restore(v)
        with v.redis.client() as c:
            c("DEL", key)
            if command:
                c(command[0], key, *command[1:])
        before = v.keys()
        m = logged(t, v, "--heartbeat", "1s", query=t.rng.choice(("", "prime=1")))
        t.note(key, command and command[:2], m.query)
        m.mount()
        fails_with(errno.EIO, look, m)
        expect_log(m, key)
        assert read(m.path("ok/file")) == BODY
        if not key.startswith("d") and key != f"i{d}":
            assert sorted(os.listdir(m.path("d"))) == ["f", "h1", "h2", "l", "x"]
            assert read(m.path("d/h2")) == BODY
            os.lstat(m.path("d/l"))
        write(m.path("ok/new"), b"new")
        os.unlink(m.path("ok/new"))
        m.umount(flush=True)
        after = v.keys()
        # i: access times of what was read
        mine = ("zjfs", "next", "allSessions", "sessionInfos", "i")
        assert [k for k in changed(before, after) if k == key or not k.startswith(mine)] == [], changed(before, after)
        shutil.rmtree(m.cache)


def values_that_replay_can_meet(v):
    """[key, command that spoils it, change whose replay needs it]. The change must not need to load it."""
    ok, d, f, h = (v.inos[n] for n in ("ok", "d", "d/f", "d/h1"))

    def new(m):
        write(m.path("ok/late"))

    def overwrite(m):
        with open(m.path("d/f"), "r+b") as out:
            out.write(b"over")

    def cut(m):
        os.truncate(m.path("d/f"), 0)

    def unlink(m):
        os.unlink(m.path("d/h2"))
    return [(f"d{ok}", ("SET", "x"), new), (f"i{ok}", ("RPUSH", "x"), new), ("usedSpace", ("SET", "12x"), new),
            ("dirUsedSpace", ("HSET", ok, "12x"), new), ("sliceRef", ("RPUSH", "x"), cut),
            (f"c{f}_0", ("SET", "x"), overwrite), (f"p{h}", ("HSET", d, "2x"), unlink), (f"i{f}", ("SET", "short"), overwrite)]


@test(timeout=180, needs=NEEDS)
def values_that_replay_meets(t):
    """Foreign bytes and wrong types under a running mount stop replay with a line that names the key, and the value stays
    as it is; nothing is lost: once the key is well again, everything arrives."""
    v = grown(t)
    for key, (verb, *words), change in values_that_replay_can_meet(v):
        restore(v)
        m = logged(t, v, "--writeback", "--heartbeat", "1s")
        m.mount()
        assert read(m.path("d/f")) == BODY and os.listdir(m.path("ok")) == ["file"]
        with v.redis.client() as c:
            if verb != "HSET":
                c("DEL", key)
            c(verb, key, *words)
        spoilt = v.keys()[key]
        change(m)
        expect_log(m, key)
        t.note(key, [line for line in log_of(m).splitlines() if key in line][0])
        assert v.keys()[key] == spoilt, key
        assert read(m.path("ok/file")) == BODY
        with v.redis.client() as c:
            c("DEL", key)
            keyspace.load_keys(c, {key: v.good[key]} if key in v.good else {})
        m.umount(flush=False)
        m.mount()
        os.listdir(m.path("ok"))
        m.umount(flush=True)
        entries = v.check().entries
        assert (b"late" in entries[v.inos["ok"]]) == (change.__name__ == "new"), key
        assert (b"h2" in entries[v.inos["d"]]) == (change.__name__ != "unlink"), key
        shutil.rmtree(m.cache)


# objects

def damage_objects(v, name, how):
    """Applies `how` to the path of every object of the file."""
    ks = v.keyspace()
    for (ino, _), records in ks.chunks.items():
        for r in records if ino == v.inos[name] else ():
            for path, _ in keyspace.object_names(ks.setting, r.id, r.size):
                how(os.path.join(v.bucket, path))


@test(timeout=120, needs=NEEDS)
def objects_that_do_not_hold_their_block(t):
    def shorten(path):
        os.truncate(path, os.path.getsize(path) // 2)

    def empty(path):
        os.truncate(path, 0)

    def scramble(path):
        write(path, bytes(os.path.getsize(path)))

    for compression, ways in (("none", (shorten, empty, os.unlink)), ("lz4", (shorten, empty, scramble)),
                              ("zstd", (shorten, scramble, os.unlink))):
        v = grown(t, "--compress", compression)
        for way, name in zip(ways, ("d/f", "d/h1", "d/x")):
            damage_objects(v, name, way)
        m = logged(t, v, name=compression)
        m.mount()
        for name in ("d/f", "d/h1", "d/x"):
            fails_with(errno.EIO, read, m.path(name))
            ks = v.keyspace()
            ids = [r.id for (ino, _), rs in ks.chunks.items() if ino == v.inos[name] for r in rs]
            path = next(keyspace.object_names(ks.setting, ids[0], 1 << 16))[0]
            expect_log(m, os.path.basename(path).split("_")[0] + "_")
        assert read(m.path("ok/file")) == BODY
        write(m.path("d/f"), b"anew")
        m.umount(flush=True)
        assert len(v.keys()) >= len(v.good)


@test(timeout=180, needs=(*NEEDS, "swift"))
def s3_that_refuses(t):
    """Wrong keys or bucket: format refuses; a mount says in its log what S3 answered, and loses nothing."""
    s3 = Swift(t)
    r = RedisServer(t)
    for access, secret, bucket, words in ((s3.access, "s3cr3t", "vol", ("vol", "key")),
                                          ("nobody", s3.secret, "vol", ("vol", "key"))):
        text = t.run(JFS, "format", "--storage", "s3", "--bucket", s3.bucket_url(bucket), r.url(), "vol", status=1,
                     env={"ACCESS_KEY": access, "SECRET_KEY": secret})
        t.note(text)
        one_line(text, words)
        assert s3.secret not in text
        with r.client() as c:
            assert c("DBSIZE") == 0
    v = Volume(t, r, s3=s3).format("--block-size", "64", "--trash-days", "0")
    m = Mount(t, v, "--writeback")
    write(m.path("f"))
    m.umount(flush=True)
    for fields in ({"AccessKey": "nobody"}, {"Bucket": s3.bucket_url("elsewhere")}):
        good = v.keys()
        with r.client() as c:
            c("SET", "setting", bytes.fromhex(keyspace.with_setting(good, **fields)["setting"]["string"]))
        m = logged(t, v, "--writeback", "--io-retries", "1", name="wrong")
        m.mount()
        fails_with(errno.EIO, read, m.path("f"))
        write(m.path("kept-" + next(iter(fields))))
        expect_log(m, "chunks/")
        assert s3.secret not in log_of(m)
        m.kill()
        with r.client() as c:
            c("SET", "setting", bytes.fromhex(good["setting"]["string"]))
        m.mount()
        assert read(m.path("f")) == BODY and read(m.path("kept-" + next(iter(fields)))) == BODY
        m.umount(flush=True)
    m = Mount(t, v, name="fresh")
    assert sorted(os.listdir(m.dir)) == ["f", "kept-AccessKey", "kept-Bucket"]
    assert read(m.path("kept-AccessKey")) == BODY


# the cache directory

@contextlib.contextmanager
def small_disk(t, mib):
    image, folder = t.path(f"disk{mib}.img"), t.folder(f"disk{mib}")
    with open(image, "wb") as f:
        f.truncate(mib << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=False, stderr=subprocess.DEVNULL)


@test(timeout=90, needs=NEEDS)
def cache_directories(t):
    v = grown(t)
    m = Mount(t, v, start=False)
    uuid = json.loads(bytes.fromhex(v.good["setting"]["string"]))["UUID"]

    def bad(*extra, says, cache=None, folders=()):
        m.cache = cache or m.cache
        refused(m, *extra, says=says, folders=folders)
    with small_disk(t, 24) as disk:
        with contextlib.suppress(OSError), open(disk + "/filler", "wb", buffering=0) as f:
            while True:
                f.write(bytes(4096))
        bad(cache=disk + "/c", says=(disk + "/c", "No space left"))
        os.unlink(disk + "/filler")
        m.mount()  # with room, what the refused mount left there is no obstacle
        assert read(m.path("ok/file")) == BODY
        m.umount(flush=True)
        shutil.rmtree(disk + "/c")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        bad(cache=disk + "/c", says=(disk + "/c", "Read-only"))
    shm = "/dev/shm/" + os.path.basename(t.dir) + "-cache"
    t.defer(shutil.rmtree, shm, True)
    bad(cache=shm, says=(shm, "tmpfs", "ext4 or xfs"))
    write(t.path("plain"), b"x")
    bad(cache=t.path("plain"), says=t.path("plain"))
    cache = t.folder("cache", 0o700)
    os.mkdir(f"{cache}/{uuid}", 0o700)
    os.chown(f"{cache}/{uuid}", 65534, 65534)
    bad(cache=cache, says=(cache, "belongs to user 65534"), folders=(cache,))
    os.chown(f"{cache}/{uuid}", 0, 0)
    os.chmod(f"{cache}/{uuid}", 0o777)
    bad(cache=cache, says=(cache, "0700"), folders=(cache,))
    os.chmod(f"{cache}/{uuid}", 0o700)
    bad("--hot-dir", t.path("nohot"), says=(t.path("nohot"), "tmpfs"))
    other = Volume(t, v.redis, "other", db=1).format()
    o = Mount(t, other, name="other")
    o.umount(flush=True)
    theirs, = os.listdir(o.cache)
    os.rename(f"{o.cache}/{theirs}", f"{o.cache}/{uuid}")
    bad(cache=o.cache, says=("another cache directory", theirs), folders=(o.cache,))
    m.cache = cache
    m.mount()
    assert read(m.path("d/f")) == BODY
    m.umount(flush=True)
    base = f"{cache}/{uuid}/base/data.mdb"
    os.truncate(base, os.path.getsize(base) // 8192 * 4096)
    one_line(m.mount(status=1), (base, "jfs-recover check"))
    with open(base, "r+b") as f:
        f.write(bytes(8192))
    one_line(m.mount(status=1), (f"{cache}/{uuid}/base", "jfs-recover check"))


@test(timeout=90, needs=NEEDS)
def secrets_stay_secret(t):
    v = grown(t, password="hunter2")
    t.run(JFS, "format", v.url(), "vol", "--access-key", "ak", "--secret-key", "s3cr3t", env={})
    m = logged(t, v, "--debug")
    m.mount()
    assert read(m.path("d/f")) == BODY
    seen = [" ".join(command_line(m.pid)), read(m.path(".config")).decode(), log_of(m), t.run(JFS, "status", m.dir),
            t.run(JFS, "status", "--json", m.dir), read("/proc/self/mountinfo").decode()]
    m.umount(flush=True)
    seen.append(log_of(m))
    for text in seen:
        for secret in SECRETS:
            assert secret not in text, text
    for where, _, names in os.walk(m.cache):
        for name in names:
            path = os.path.join(where, name)
            assert not os.stat(path).st_mode & 0o077, path
            if os.path.getsize(path) < 1 << 20:
                assert b"hunter2" not in read(path) and b"s3cr3t" not in read(path), path
    bare = logged(t, v, env={"META_PASSWORD": "hunter2"}, name="bare")
    bare.url = lambda: v.redis.url(password=False)
    bare.mount()
    assert read(bare.path("d/f")) == BODY
    assert b"hunter2" not in read(bare.path(".config"))
    bare.umount()


# other mounts

@test(timeout=90, needs=NEEDS)
def second_mount_of_a_volume(t):
    v = grown(t)
    m = Mount(t, v, "--writeback", "--heartbeat", "1h")
    write(m.path("mine"))
    m.flush()
    b = Mount(t, v, name="b", start=False)
    refused(b, says=("held by", m.cache, "--takeover", "last seen"))
    b.cache = m.cache
    refused(b, says=(m.cache, "mounted on " + m.dir))
    write(m.path("mine2"))
    m.umount(flush=True)
    assert b"mine2" in v.check().entries[1]
    b.mount()
    assert read(b.path("mine2")) == BODY
    b.umount()


@test(timeout=120, needs=NEEDS)
def history_50_copies_of_a_cache_directory(t):
    """A copy is another holder: refused beside the original. One from before the original went on (a backup) neither shows
    its old state nor writes any of it into Redis, and what it holds in excess is kept."""
    v = grown(t)
    m = Mount(t, v, "--writeback", "--upload-delay", "1h")
    write(m.path("ok/early"))
    fd = os.open(m.path("ok"), os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    t.run("cp", "-a", m.cache, t.path("copy"))
    m.flush()
    b = logged(t, v, "--writeback", name="b", cache=t.path("copy"))
    refused(b, says=("held by", m.cache))
    write(m.path("ok/late"))
    os.unlink(m.path("ok/early"))
    m.umount(flush=True)
    before = v.check()
    refused(b, says=("old copy", m.cache), folders=())
    c = Mount(t, v, name="c")
    assert sorted(os.listdir(c.path("ok"))) == ["file", "late"] and read(c.path("ok/late")) == BODY
    c.umount(flush=True)
    assert before.entries == v.check().entries
    m.mount()
    assert read(m.path("ok/late")) == BODY
    m.umount(flush=True)


@test(timeout=120, needs=NEEDS)
def takeover_fences_the_old_mount(t):
    """P9. What the old mount had acknowledged stays in its journal; Redis belongs to the new one."""
    v = grown(t)
    a = logged(t, v, "--writeback", "--upload-delay", "1h", "--heartbeat", "1s", name="a")
    a.mount()
    write(a.path("ok/only-here"))
    b = logged(t, v, "--writeback", "--heartbeat", "1h", name="b")
    b.mount("--takeover")
    write(b.path("ok/b"))
    b.flush()
    a.wait_stat("fenced", lambda n: n == 1)
    assert re.search(r"^read-only +.*took the volume over", t.run(JFS, "status", a.dir), re.M)
    before = v.keys()
    objects = files_below(v.bucket)
    fails_with(errno.EROFS, write, a.path("ok/more"))
    fails_with(errno.EROFS, os.unlink, a.path("ok/file"))
    fails_with(errno.EROFS, os.mkdir, a.path("dir"))
    fails_with(errno.EROFS, os.rename, a.path("ok/file"), a.path("ok/file2"))
    assert read(a.path("ok/only-here")) == BODY and read(a.path("ok/file")) == BODY
    assert sorted(os.listdir(a.path("ok"))) == ["file", "only-here"]
    t.run(JFS, "flush", a.dir, status=1)
    expect_log(a, "fenced", "jfs-recover export")
    a.umount()
    assert v.keys() == before, changed(before, v.keys())
    assert files_below(v.bucket) == objects
    assert sorted(os.listdir(b.path("ok"))) == ["b", "file"]
    write(b.path("ok/c"))
    b.umount(flush=True)
    v.check()
    refused(a, says=("took the volume over", "jfs-recover export"))
    out = t.run(JFS_RECOVER, "check", v.url(), "--cache-dir", a.cache, status=None)
    t.note(out)
    assert "only-here" in out, out


@test(timeout=90, needs=NEEDS)
def volume_destroyed_under_a_mount(t):
    for how in ("FLUSHDB", "setting"):
        v = grown(t)
        m = logged(t, v, "--writeback", "--heartbeat", "1s", name=how)
        m.mount()
        fd = os.open(m.path("ok/file"), os.O_RDONLY) if how == "setting" else None
        with v.redis.client() as c:
            if how == "FLUSHDB":
                c("FLUSHDB")
            else:
                c("DEL", "setting")
        status = m.wait_daemon()
        assert os.WIFEXITED(status), status
        expect_log(m, "the volume is gone", "vanished")
        wait_until(lambda m=m: not m.is_mounted(), what="the end of the mount")
        if fd is not None:
            with contextlib.suppress(OSError):  # the mount has gone from under it
                os.close(fd)
        one_line(m.mount(status=1), "no volume")


@test(timeout=90, needs=NEEDS)
def conformance_36_setting_reload(t):
    v = Volume(t, RedisServer(t)).format("--trash-days", "1")
    m = logged(t, v, "--heartbeat", "1s")
    m.mount()

    def config(*options):
        if os.environ.get("JUICEFS"):
            Stock(t, v.url()).run("config", *options, "--yes")
        else:
            t.run(JFS, "format", v.url(), "vol", *options)

    def trashed():
        m.flush()
        return sum(len(e) for i, e in v.keyspace().entries.items() if i > keyspace.TRASH)
    write(m.path("a"), b"a")
    m.flush()
    os.unlink(m.path("a"))
    assert trashed() == 1
    config("--trash-days", "0")
    expect_log(m, "setting reloaded", "trash_days=0")
    write(m.path("b"), b"b")
    m.flush()
    os.unlink(m.path("b"))
    assert trashed() == 1
    config("--trash-days", "2", "--capacity", "1")
    expect_log(m, "trash_days=2")
    assert os.statvfs(m.dir).f_blocks * os.statvfs(m.dir).f_frsize == 1 << 30
    t.run(JFS, "format", v.url(), "vol", "--access-key", "ak", "--secret-key", "s3cr3t")
    expect_log(m, "bucket or keys changed")
    assert "s3cr3t" not in log_of(m)
    with v.redis.client() as c:
        good = c("GET", "setting")
        c("SET", "setting", good[:-10])
    expect_log(m, "keeping the old one")
    write(m.path("c"), b"c")
    with v.redis.client() as c:
        c("SET", "setting", good)
    m.umount(flush=True)


@test(timeout=180, needs=(*NEEDS, "juicefs"))
def conformance_10_ids_are_never_used_twice(t):
    v = Volume(t, RedisServer(t)).format("--block-size", "64", "--trash-days", "0")
    m = Mount(t, v, "--writeback", "--pack-below=0", query="inode_batch=100", start=False)  # a slice for each file
    inodes, slices = set(), set()
    for turn in range(3):
        for who in ("ours", "stock"):
            if who == "ours":
                m.mount()
                folder = m.path(f"ours-{turn}")
            else:
                s = StockMount(t, v.url(), read_only=False, name=f"s{turn}")
                folder = s.path(f"stock-{turn}")
            os.mkdir(folder)
            for i in range(30):
                write(f"{folder}/{i}", f"{who} {turn} {i}".encode())
            if turn == 1 and who == "ours":
                m.flush()
                m.kill()
                m.mount()
                write(f"{folder}/more", b"ours 1 more")
            if who == "ours":
                m.umount(flush=True)
            else:
                v.settle()
                s.umount()
            ks = v.check()
            now = set(ks.inodes), {r.id for rs in ks.chunks.values() for r in rs if r.id}
            assert inodes <= now[0] and slices <= now[1]
            assert len(now[0] - inodes) >= 31 and len(now[1] - slices) >= 30, (who, turn)
            inodes, slices = now
    m.mount()
    for turn in range(3):
        for who in ("ours", "stock"):
            for i in range(30):
                assert read(m.path(f"{who}-{turn}/{i}")) == f"{who} {turn} {i}".encode()
    m.umount()


@test(timeout=120, needs=(*NEEDS, "juicefs"))
def conformance_37_blocks_that_stock_never_uploaded(t):
    v = Volume(t, RedisServer(t)).format("--block-size", "64", "--trash-days", "0")
    s = StockMount(t, v.url(), "--writeback", "--upload-delay", "1h", read_only=False)
    write(s.path("staged"))
    os.mkdir(s.path("ok"))
    wait_until(lambda: v.keyspace().chunks, what="the slice in Redis")
    s.end()
    s.mounted = False
    m = logged(t, v)
    m.mount()
    assert os.stat(m.path("staged")).st_size == len(BODY)
    fails_with(errno.EIO, read, m.path("staged"))
    ks = v.keyspace()
    record = next(iter(ks.chunks.values()))[0]
    expect_log(m, f"{record.id}_0_")
    write(m.path("ok/file"))
    m.umount(flush=True)


if __name__ == "__main__":
    sys.exit(main())
