#!/usr/bin/env python3
"""Rows of the format's conformance checklist that no other suite has as a test of its own; CONFORMANCE.md maps every row.

The number in a test's name is the row's. With JUICEFS set, the stock client is asked as well."""
import contextlib
import errno
import json
import os
import re
import stat
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import keyspace  # noqa: E402
from harness import *  # noqa: E402,F403

NEEDS = ("root", "fuse", "jfs")
TABLES = ("CONFORMANCE.md", "HISTORIES.md")


def write(path, data, mode="wb"):
    with open(path, mode) as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def new_volume(t, *options, **more):
    return Volume(t, RedisServer(t), **more).format("--block-size", "64", *options)


def stock_status(t, volume):
    """What `juicefs status` says, or None without a stock client."""
    if not os.environ.get("JUICEFS"):
        t.note("JUICEFS is not set: the stock client was not asked")
        return None
    text = Stock(t, volume.url()).run("status")
    return json.loads(text[text.index("{"):])


@test(timeout=60, needs=NEEDS)
def conformance_03_bits_of_a_record_that_we_do_not_know_are_kept(t):
    """A tier byte (records of 73 bytes) and unknown flags survive every way in which an inode's record is rewritten."""
    v = new_volume(t, "--trash-days", "0")
    m = Mount(t, v, "--writeback")
    os.mkdir(m.path("d"))
    write(m.path("d/f"), b"x" * 5000)
    inos = {name: os.stat(m.path(name)).st_ino for name in ("d", "d/f")}
    m.umount(flush=True)
    m = Mount(t, v, "--writeback", name="cold", start=False)

    def record(name):
        return bytes.fromhex(v.keys()[f"i{inos[name]}"]["string"])
    with v.redis.client() as c:
        for name in inos:
            raw = record(name)
            assert len(raw) == 72
            c("SET", f"i{inos[name]}", bytes([raw[0] | 0x60]) + raw[1:71] + b"\x02\x00")
    m.mount()
    for change in (lambda: os.chmod(m.path("d/f"), 0o600), lambda: write(m.path("d/f"), b"more", "ab"),
                   lambda: os.truncate(m.path("d/f"), 10), lambda: os.link(m.path("d/f"), m.path("d/g")),
                   lambda: os.rename(m.path("d/g"), m.path("h")), lambda: os.chown(m.path("d"), 3, 4),
                   lambda: os.mkdir(m.path("d/sub")), lambda: os.utime(m.path("d/f"), (5, 5))):
        before = {name: record(name) for name in inos}
        change()
        m.flush()
        after = {name: record(name) for name in inos}
        assert before != after, "the change did not reach Redis"
        for name, raw in after.items():
            assert len(raw) == 73 and raw[0] == 0x60 and raw[71:] == b"\x02\x00", (name, raw.hex())
    m.umount(flush=True)
    v.check()


@test(timeout=60, needs=NEEDS)
def conformance_06_parents_of_hard_links(t):
    """The one parent, p{ino} from the second name on (and then for good), through link, unlink, rename and the trash."""
    v = new_volume(t, "--trash-days", "1")
    m = Mount(t, v, "--writeback")
    for d in ("a", "b"):
        os.mkdir(m.path(d))
    write(m.path("a/f"), b"1")
    a, b, f = (os.stat(m.path(n)).st_ino for n in ("a", "b", "a/f"))

    def look():
        m.flush()
        ks = v.check()  # every name's directory against parent and p{ino}
        return ks.inodes[f].parent, {p: n for p, n in ks.parents.get(f, {}).items() if n}
    assert look() == (a, {})
    os.rename(m.path("a/f"), m.path("b/f"))
    assert look() == (b, {})
    os.link(m.path("b/f"), m.path("a/g"))
    assert look() == (0, {a: 1, b: 1})
    os.link(m.path("b/f"), m.path("a/h"))
    assert look() == (0, {a: 2, b: 1})
    os.rename(m.path("a/h"), m.path("b/h"))
    assert look() == (0, {a: 1, b: 2})
    os.unlink(m.path("b/f"))
    parent, links = look()
    hour, = set(links) - {a, b}
    assert parent == 0 and hour > keyspace.TRASH and links == {a: 1, b: 1, hour: 1}, links
    write(m.path("a/over"), b"2")
    os.rename(m.path("a/over"), m.path("a/g"))
    assert look() == (0, {b: 1, hour: 2})
    os.unlink(m.path("b/h"))
    assert look() == (0, {hour: 3})
    m.umount(flush=True)


@test(timeout=120, needs=NEEDS)
def conformance_07_08_counters_are_exact_after_every_batch(t):
    """usedSpace, totalInodes and every directory's statistics equal a recount after each flush of a random history, also
    of a directory whose fields were not there when the history began."""
    for trash in ("0", "1"):
        v = new_volume(t, "--trash-days", trash)
        m = Mount(t, v, "--writeback", query="batch_size=20")
        folders = ["", "d", "d/e"]
        for d in folders[1:]:
            os.mkdir(m.path(d))
        write(m.path("d/e/f0"), b"counted before")
        m.flush()
        with v.redis.client() as c:
            for h in keyspace.STAT_HASHES:
                c("HDEL", h, os.stat(m.path("d/e")).st_ino)
        write(m.path("d/e/f1"), b"counted anew")
        m.flush()
        paths = [m.path(d, f"f{i}") for d in folders for i in range(4)]
        for _ in range(12):
            for _ in range(15):
                path, other = t.rng.sample(paths, 2)
                with contextlib.suppress(FileNotFoundError, FileExistsError):
                    verb = t.rng.choice(("write", "write", "grow", "cut", "unlink", "rename", "link", "symlink"))
                    if verb == "write":
                        write(path, bytes(t.rng.randrange(20000)))
                    elif verb == "grow":
                        os.truncate(path, t.rng.randrange(1 << 33))
                    elif verb == "cut":
                        os.truncate(path, 0)
                    elif verb == "unlink":
                        os.unlink(path)
                    elif verb == "rename":
                        os.rename(path, other)
                    elif verb == "link":
                        os.link(path, other)
                    else:
                        os.symlink("f0", path + ".l")
                        os.unlink(path + ".l")
            m.flush()
            v.check()
        m.umount(flush=True)


@test(timeout=60, needs=NEEDS)
def conformance_11_the_session(t):
    """It is there for stock to see while mounted, renewed, and gone afterwards, after a crash with the next mount."""
    v = new_volume(t)
    m = Mount(t, v, "--heartbeat", "1s")

    def sessions():
        keys = v.keys()
        infos = {sid: json.loads(bytes.fromhex(x)) for sid, x in keys.get("sessionInfos", {}).get("hash", {}).items()}
        return dict(keys.get("allSessions", {}).get("zset", {})), infos
    live, infos = sessions()
    (sid, expiry), = live.items()
    info, = infos.values()
    assert set(infos) == {sid} and info["MountPoint"] == m.dir and info["ProcessID"] == m.pid, info
    assert info["HostName"] == os.uname().nodename and info["Version"].startswith("1.4."), info
    wait_until(lambda: float(sessions()[0][sid]) > float(expiry), what="a renewed session")
    shown = stock_status(t, v)
    if shown:
        assert [(s["Sid"], s["MountPoint"]) for s in shown["Sessions"]] == [(int(sid), m.dir)], shown["Sessions"]
    m.kill()
    assert sid in sessions()[0]
    m.mount()
    (again,) = sessions()[0]
    assert again == sid and sessions()[1][sid]["ProcessID"] == m.pid
    m.umount()
    assert sessions() == ({}, {})
    shown = stock_status(t, v)
    assert not shown or not shown["Sessions"]


@test(timeout=90, needs=NEEDS)
def conformance_13_any_list_of_slices(t):
    """Records in any order and overlap, parts of slices, holes with stray size and offset: what is read is what painting
    one over the other gives, also with local writes on top."""
    v = new_volume(t, "--trash-days", "0")
    m = Mount(t, v, "--writeback")
    bodies = {}
    for name in ("one", "two"):
        body = t.rng.randbytes(t.rng.randrange(100_000, 200_000))
        write(m.path(name), body)
        m.flush()
        records = v.keyspace().chunks[os.stat(m.path(name)).st_ino, 0]
        assert [(r.pos, r.off, r.len) for r in records] == [(0, 0, len(body))], records
        bodies[records[0].id] = body
    size = 300_000
    write(m.path("f"), b"")
    os.truncate(m.path("f"), size)
    ino = os.stat(m.path("f")).st_ino
    m.umount(flush=True)
    good = v.keys()
    for turn in range(12):
        image, records = bytearray(size), []
        for _ in range(t.rng.randrange(1, 30)):
            if t.rng.random() < 0.3:
                pos = t.rng.randrange(size)
                length = t.rng.randrange(1, size - pos + 1)
                records.append(struct.pack(">IQIII", pos, 0, t.rng.randrange(1 << 32), t.rng.randrange(1 << 32), length))
                image[pos:pos + length] = bytes(length)
                continue
            sid = t.rng.choice(list(bodies))
            off = t.rng.randrange(len(bodies[sid]))
            length = t.rng.randrange(1, len(bodies[sid]) - off + 1)
            pos = t.rng.randrange(size - length + 1)
            records.append(struct.pack(">IQIII", pos, sid, len(bodies[sid]), off, length))
            image[pos:pos + length] = bodies[sid][off:off + length]
        with v.redis.client() as c:
            keyspace.replace_db(c, good)
            c("DEL", f"c{ino}_0")
            c("RPUSH", f"c{ino}_0", *records)
        m = Mount(t, v, "--writeback", name=f"look{turn}", query=t.rng.choice(("", "prime=1")))
        with open(m.path("f"), "r+b", buffering=0) as f:
            if turn % 2:  # written before the list is loaded
                pos = t.rng.randrange(size - 5000)
                f.seek(pos)
                f.write(b"#" * 5000)
                image[pos:pos + 5000] = b"#" * 5000
            f.seek(0)
            seen = f.read(size + 1)
        assert seen == image, (turn, [struct.unpack(">IQIII", r) for r in records],
                               next(i for i, (x, y) in enumerate(zip(seen, image)) if x != y))
        m.kill()


@test(timeout=180, needs=(*NEEDS, "swift"))
def conformance_20_secrets_that_are_encrypted_in_the_setting(t):
    """KeyEncrypted: the keys are not in Redis as text, and a mount that gets none from elsewhere uses them."""
    s3 = Swift(t)
    tools = {"ours": JFS, "theirs": os.environ.get("JUICEFS")}
    server = RedisServer(t)
    for db, (name, tool) in enumerate(tools.items()):
        if not tool:
            continue
        v = Volume(t, server, name, db, s3=s3).format("--block-size", "64", tool=tool)
        raw = bytes.fromhex(v.keys()["setting"]["string"])
        assert v.keyspace().setting["KeyEncrypted"] is True
        assert s3.secret.encode() not in raw
        v.s3 = None  # no keys in the mount's environment
        m = Mount(t, v, "--writeback", name=name)
        write(m.path("f"), b"x" * 200_000)
        m.umount(flush=True)
        m = Mount(t, v, name=name + "-cold")
        assert read(m.path("f")) == b"x" * 200_000
        m.umount()


@test(timeout=120, needs=(*NEEDS, "juicefs"))
def conformance_22_stock_expires_what_we_deleted(t):
    """The hour's directory is moved into the past: stock's gc empties it, and all counters are exact afterwards."""
    v = new_volume(t, "--trash-days", "1")
    m = Mount(t, v, "--writeback")
    os.mkdir(m.path("d"))
    for i in range(20):
        write(m.path(f"d/{i}"), b"x" * 3000 * i)
    os.link(m.path("d/3"), m.path("kept"))
    os.symlink("3", m.path("d/l"))
    m.flush()
    for i in range(10):
        os.unlink(m.path(f"d/{i}"))
    os.unlink(m.path("d/l"))
    m.umount(flush=True)
    ks = v.check()
    hours = ks.entries[keyspace.TRASH]
    assert sum(len(ks.entries[ino]) for _, ino in hours.values()) == 11
    with v.redis.client() as c:
        for name, (kind, ino) in hours.items():
            c("HDEL", f"d{keyspace.TRASH}", name)
            c("HSET", f"d{keyspace.TRASH}", b"2020-01-02-03", struct.pack(">BQ", kind, ino))
    stock = Stock(t, v.url())
    stock.run("gc", "--delete")
    wait_until(lambda: not v.keyspace().entries.get(keyspace.TRASH), what="an empty trash")
    v.settle()
    stock.quiet("fsck")
    m = Mount(t, v, "--writeback", name="after")
    assert read(m.path("kept")) == b"x" * 9000 and len(os.listdir(m.path("d"))) == 10
    m.umount(flush=True)
    v.check()


@test(timeout=60, needs=NEEDS)
def conformance_23_open_unlinked_files(t):
    """While it is open its inode stands in session{sid}, lists and references intact; the last close takes all away, and
    so does the next mount when the daemon was killed."""
    v = new_volume(t, "--trash-days", "0")
    m = Mount(t, v, "--writeback")
    body = t.rng.randbytes(200_000)
    for end in ("close", "kill"):
        write(m.path("f"), body)
        ino = os.stat(m.path("f")).st_ino
        f = open(m.path("f"), "rb", buffering=0)
        m.flush()
        os.unlink(m.path("f"))
        m.flush()
        ks = v.check()
        sid, = ks.sustained
        assert ks.sustained == {sid: {ino}} and (ino, 0) in ks.chunks
        assert {str(sid)} == set(v.keys()["allSessions"]["zset"])
        assert f.read(len(body)) == body
        if end == "close":
            f.close()
        else:
            m.kill()
            with contextlib.suppress(OSError):
                f.close()
            m.mount()
        wait_until(lambda: m.flush() == "" and ino not in v.keyspace().inodes, what="the end of the inode")
        ks = v.check()
        assert not ks.sustained and (ino, 0) not in ks.chunks
    m.umount(flush=True)


@test(timeout=180, needs=NEEDS)
def conformance_24_the_deletion_of_a_huge_file(t):
    """A file of over 1,000 chunks leaves its lists to delfiles, with references and counters that agree at every step; the
    stock client, whose job they are, finishes: no list, no reference and no object is left."""
    v = new_volume(t, "--trash-days", "0")
    m = Mount(t, v, "--writeback")
    chunks = 1005
    with open(m.path("huge"), "wb", buffering=0) as f:
        for i in range(chunks):
            f.seek(i << 26)
            f.write(b"%04d" % i)
    ino, size = os.stat(m.path("huge")).st_ino, ((chunks - 1) << 26) + 4
    m.flush()
    assert len([k for k in v.check().chunks if k[0] == ino]) == chunks
    os.unlink(m.path("huge"))
    m.remount(flush=True)
    m.umount(flush=True)
    ks = v.check()
    assert ino not in ks.inodes and ks.delfiles == {ino: size}, ks.delfiles
    assert len([k for k in ks.chunks if k[0] == ino]) == chunks
    if os.environ.get("JUICEFS"):
        Stock(t, v.url()).run("gc", "--delete", env={"JFS_GC_SKIPPEDTIME": "0"})
        wait_until(lambda: not v.keyspace().delfiles, what="the end of the file by stock")
        ks = v.check()
        assert not ks.chunks and not ks.slice_refs, (len(ks.chunks), ks.slice_refs)
        wait_until(lambda: not [f for _, _, files in os.walk(os.path.join(v.bucket, v.name, "chunks")) for f in files],
                   what="the end of the objects")


@test(timeout=60, needs=NEEDS)
def conformance_31_32_names_links_and_special_nodes(t):
    """The longest names and link targets, bytes that are no UTF-8, every kind of node: as stored, with an empty cache, and
    in the stock client's eyes."""
    v = new_volume(t, "--trash-days", "0")
    m = Mount(t, v, "--writeback")
    top = os.fsencode(m.dir)
    names = {b"n" * 255: stat.S_IFREG, b"\xff\xfe\x01": stat.S_IFREG, "ä".encode(): stat.S_IFREG, b"fifo": stat.S_IFIFO,
             b"sock": stat.S_IFSOCK, b"chr": stat.S_IFCHR, b"blk": stat.S_IFBLK}
    numbers = {b"chr": os.makedev(1, 3), b"blk": os.makedev(259, 70000)}
    for name, kind in names.items():
        os.mknod(os.path.join(top, name), kind | 0o640, numbers.get(name, 0))
    targets = {b"longest": b"t" * 4095, b"odd": b"\x80/\xff"}
    for name, target in targets.items():
        os.symlink(target, os.path.join(top, name))
    for bad in (b"n" * 256, b"too-long"):
        try:
            os.symlink(b"t" * (4096 if bad == b"too-long" else 1), os.path.join(top, bad))
            raise AssertionError(bad)
        except OSError as e:
            assert e.errno == errno.ENAMETOOLONG, e
    m.umount(flush=True)
    ks = v.check()
    entries = ks.entries[keyspace.ROOT]
    assert set(entries) == names.keys() | targets.keys()
    types = {stat.S_IFREG: 1, stat.S_IFIFO: 4, stat.S_IFBLK: 5, stat.S_IFCHR: 6, stat.S_IFSOCK: 7}
    for name, kind in names.items():
        inode = ks.inodes[entries[name][1]]
        assert (inode.type, inode.mode, inode.rdev) == (types[kind], 0o640, numbers.get(name, 0)), (name, inode)
    assert {n: ks.targets[entries[n][1]] for n in targets} == targets

    def look(folder):
        for name, kind in names.items():
            st = os.lstat(os.path.join(os.fsencode(folder), name))
            assert (stat.S_IFMT(st.st_mode), st.st_mode & 0o777, st.st_rdev) == (kind, 0o640, numbers.get(name, 0)), name
        for name, target in targets.items():
            assert os.readlink(os.path.join(os.fsencode(folder), name)) == target
        virtual = {b".accesslog", b".config", b".control", b".stats", b".trash"}
        assert set(os.listdir(os.fsencode(folder))) - virtual == names.keys() | targets.keys()
    m = Mount(t, v, name="cold")
    look(m.dir)
    m.umount()
    if os.environ.get("JUICEFS"):
        s = StockMount(t, v.url())
        look(s.dir)
        s.umount()


@test(timeout=120, needs=(*NEEDS, "juicefs"))
def conformance_34_private_keys_pass_stock_tools(t):
    """gc, fsck and both dumps run without a complaint beside them, and leave them alone."""
    v = new_volume(t, "--trash-days", "0")
    m = Mount(t, v, "--writeback")
    for i in range(5):
        write(m.path(f"f{i}"), b"x" * 1000)
    os.unlink(m.path("f0"))
    m.umount(flush=True)

    def private():
        return {k: x for k, x in v.keys().items() if k.startswith("z")}
    before = private()
    assert "zjfs" in before
    stock = Stock(t, v.url())
    stock.find_nothing()
    for n, options in enumerate(((), ("--binary",))):
        dump = t.path(f"dump{n}")
        stock.run("dump", dump, *options)
        stock.run("load", dump, *options, url=v.redis.url(db=5 + n))
        with v.redis.client(5 + n) as c:
            names = sum(len(e) for e in keyspace.Keyspace(keyspace.dump_db(c)).entries.values())
        assert names == 4, names
    assert private() == before
    m.mount()
    assert len(os.listdir(m.dir)) == 4
    m.umount()


@test()
def every_test_that_a_table_names_exists(t):
    """CONFORMANCE.md and HISTORIES.md name tests as `FILE: NAME, NAME`, a file below tests/."""
    known = {}

    def tests_of(path):
        if path not in known:
            full = os.path.join(ROOT, "tests", path)
            if path.endswith(".py"):
                known[path] = set(t.run(sys.executable, full, "--list").split())
            else:
                with open(full, encoding="utf-8") as f:
                    known[path] = set(re.findall(r"^static (?:void|int) (\w+)\(|\{ ?\"(\w+)\", \w+ ?\}", f.read(), re.M))
                    known[path] = {n for pair in known[path] for n in pair if n}
        return known[path]
    for table in TABLES:
        with open(os.path.join(ROOT, "tests", table), encoding="utf-8") as f:
            text = f.read()
        named = [(path, n) for path, names in re.findall(r"`([\w./]+): ([^`]+)`", text) for n in names.split(", ")]
        assert len(named) > 20, table
        gone = [f"{path}: {n}" for path, n in named if n not in tests_of(path)]
        assert not gone, f"{table} names tests that do not exist: {gone}"


if __name__ == "__main__":
    sys.exit(main())
