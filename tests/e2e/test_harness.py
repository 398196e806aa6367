#!/usr/bin/env python3
"""The test harness itself: servers, helpers, the checks and comparisons of keyspaces and trees, and the runner."""
import email.utils
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import keycheck  # noqa: E402
import keycompare  # noqa: E402
import keyspace  # noqa: E402
import tree  # noqa: E402
from core import descendants_of, detach_mounts, mounts_below  # noqa: E402
from harness import *  # noqa: E402,F403
from keyspace import Keyspace, Record  # noqa: E402
from volume import reap  # noqa: E402

# Stock's dirDataLength counts a linked symlink's and a cloned directory's length: the inodes concerned.
NOTED = {"names": {2}, "clone": {1}, "packed-used": {1}}
LIB = os.path.join(ROOT, "tests/e2e/lib")
sys.path.insert(0, os.path.join(ROOT, "tests/posix/checks"))
import base  # noqa: E402


def fixture_keys(name):
    return keyspace.read_file(os.path.join(FIXTURES, name, "keyspace.json"))


def fixture_bucket(name):
    folder = os.path.join(FIXTURES, name, "objects")
    return os.path.join(folder, fixture_scenario(name).get("bucket", "").strip("/")) if os.path.isdir(folder) else None


@test()
def redis_keeps_its_data_over_kill_and_restart(t):
    r = RedisServer(t, password="s3cret")
    with r.client(db=3) as c:
        c("SET", "a", b"\x00\xff")
    r.restart()
    with r.client(db=3) as c:
        assert c("GET", "a") == b"\x00\xff"
        assert c.pipeline([("SET", "b", 1), ("GET", "none"), ("INCR", "b")]) == [b"OK", None, 2]
        try:
            c("LPUSH", "a", 1)
        except RespError as e:
            assert "WRONGTYPE" in str(e)
        else:
            raise AssertionError("no error")
    r.kill()
    r.start()
    with Resp(r.url(db=3)) as c:
        assert c("DBSIZE") >= 1
    assert "s3cret" not in " ".join(open(f"/proc/{r.process.pid}/cmdline").read().split("\0"))


@test()
def redis_can_be_paused(t):
    r = RedisServer(t)
    c = Resp(r.url(), timeout=0.2)
    r.pause()
    try:
        c("PING")
        raise AssertionError("a stopped server answered")
    except OSError:
        pass
    r.resume()
    with Resp("unix://" + r.socket) as d:
        assert d("PING") == b"PONG"


@test(needs=("tools",))
def relays_reach_redis(t):
    r = RedisServer(t)
    slow = t.enter(DelayProxy(r.port, 5000))
    with Resp(r.url(port=slow.port)) as c:
        start = time.monotonic()
        assert c("PING") == b"PONG"
        assert time.monotonic() - start >= 0.009
    broken = t.enter(TcpFault(r.port))
    with Resp(r.url(port=broken.port), timeout=5) as c:
        broken("cut-down 3")
        try:
            c("PING")
            raise AssertionError("an answer through a cut connection")
        except OSError:
            pass


def forged_status(swift):
    """The answer to a request signed with a wrong secret."""
    headers = {"Authorization": f"AWS {swift.access}:bm90IGEgc2lnbmF0dXJl", "Date": email.utils.formatdate(usegmt=True)}
    try:
        urllib.request.urlopen(urllib.request.Request(swift.bucket_url("some-bucket"), headers=headers), timeout=20)
        return 200
    except urllib.error.HTTPError as e:
        return e.code


@test(timeout=180, needs=("root", "swift"))
def swift_refuses_forgeries_and_stops(t):
    swift = Swift(t)
    assert forged_status(swift) == 403, forged_status(swift)
    swift.stop()
    try:
        forged_status(swift)
        raise AssertionError("Swift answers after stop")
    except urllib.error.URLError:
        pass
    swift.start()
    assert forged_status(swift) == 403, forged_status(swift)


@test(timeout=180, needs=("root", "swift", "jfs"))
def volumes_are_formatted_in_folders_and_in_s3(t):
    redis = RedisServer(t, password="s3cret")
    local = Volume(t, redis, name="local").format("--block-size", "64")
    assert local.check().setting["Bucket"] == local.bucket
    assert os.listdir(os.path.join(local.bucket, "local"))
    remote = Volume(t, redis, name="remote", db=1, s3=Swift(t)).format()
    assert remote.check().setting["AccessKey"] == remote.s3.access


@test()
def a_keyspace_survives_load_and_dump(t):
    r = RedisServer(t)
    odd = {"z\\x00odd\\\\key": {"hash": {"f\\xff": "00ff"}}, "zset": {"zset": {"m": "1.5"}}, "zs": {"set": ["\\x0a", "b"]}}
    for name in sorted(os.listdir(FIXTURES)):
        if not os.path.isdir(os.path.join(FIXTURES, name)):
            continue
        keys = dict(fixture_keys(name), **odd)
        with r.client() as c:
            c("FLUSHALL")
            keyspace.load_db(c, keys)
            again = keyspace.dump_db(c)
        assert again == dict(sorted(keys.items())), name
        keyspace.write_file(t.path("k.json"), again)
        assert keyspace.read_file(t.path("k.json")) == again
        assert not keycompare.differences(Keyspace(keys), Keyspace(again), exact=True), name


@test()
def a_dump_shows_one_moment(t):
    """Somebody writes all the time, by a script that is slow enough for Redis to answer BUSY."""
    r = RedisServer(t, busy_reply_threshold=1)
    script = "local n = 0; for i = 1, 300000 do n = n + i end; for _, k in ipairs(KEYS) do redis.call('SET', k, ARGV[1]) end"
    names = [f"k{n}" for n in range(3000)]
    ended, written = threading.Event(), []

    def writes():
        with r.client() as c:
            while not ended.is_set():
                c("EVAL", script, len(names), *names, len(written))
                written.append(1)
    with r.client() as c:
        c.pipeline(("SET", n, 0) for n in names)
        writer = threading.Thread(target=writes)
        writer.start()
        try:
            seen = [keyspace.dump_db(c) for _ in range(12)]
        finally:
            ended.set()
            writer.join()
    assert [len({v["string"] for v in keys.values()}) for keys in seen] == [1] * 12
    assert len({keys["k0"]["string"] for keys in seen}) > 1, "the writer never wrote"


@test(timeout=30, needs=("root",))
def nothing_of_a_posix_check_outlives_it(t):
    """A check is killed at its limit, and so are the children that it waits for, whatever user they were."""
    def hangs(p):
        def child():
            with base.user(base.A):
                pass
            with open(p("pid"), "w", encoding="ascii") as f:
                f.write(str(os.getpid()))
            while True:
                signal.pause()
        started = base.start_child(child)
        wait_until(lambda: os.path.exists(p("pid")) and os.path.getsize(p("pid")), what="the child")
        signal.raise_signal(signal.SIGALRM)
        base.wait_for(started)
    base.registry["of-the-test"] = {"hangs": (hangs, None)}
    os.chmod(t.dir, 0o755)
    assert "status 0xe" in base.run_check("of-the-test", "hangs", t.path("place"), t.seed, "any")
    with open(t.path("place/pid"), encoding="ascii") as f:
        pid = int(f.read())
    wait_until(lambda: reap(pid), what="the end of its child")


@test()
def stock_volumes_pass_the_check(t):
    for name in sorted(os.listdir(FIXTURES)):
        if os.path.isdir(os.path.join(FIXTURES, name)):
            report = keycheck.check(Keyspace(fixture_keys(name)), fixture_bucket(name))
            assert report, f"{name}: {report.problems}"
            assert report.noted == NOTED.get(name, set()), f"{name}: {report.notes}"


def damage(name, change, expect):
    """The fixture after `change(keys)` must not pass, and the problem must contain `expect`."""
    keys = fixture_keys(name)
    change(keys)
    report = keycheck.check(Keyspace(keys))
    assert any(expect in p for p in report.problems), f"{expect!r} not found: {report.problems}"


def patched(hexed, offset, raw):
    b = bytearray.fromhex(hexed)
    b[offset:offset + len(raw)] = raw
    return bytes(b).hex()


def patch_inode(ino, offset, raw):
    def change(keys):
        keys[f"i{ino}"] = {"string": patched(keys[f"i{ino}"]["string"], offset, raw)}
    return change


def put_string(key, text):
    return lambda keys: keys.update({key: {"string": text.encode().hex()}})


def entry_of(ks, ino):
    return next((d, keyspace.name_text(n)) for d, es in ks.entries.items() for n, (_, i) in es.items() if i == ino)


@test()
def damaged_volumes_fail_the_check(t):
    clone = Keyspace(fixture_keys("clone"))
    shared = next(k for k, n in clone.slice_refs.items() if n > 0)
    (chunk, records), = [(k, v) for k, v in clone.chunks.items() if v[0].id][:1]
    key = f"c{chunk[0]}_{chunk[1]}"
    d, name = entry_of(clone, chunk[0])

    def set_record(**fields):
        r = records[0]._replace(**fields)
        return lambda keys: keys[key]["list"].__setitem__(0, struct.pack(">IQIII", *r).hex())

    damage("small", put_string("usedSpace", "4096"), "usedSpace is 4096")
    damage("small", put_string("totalInodes", "1"), "totalInodes is 1")
    damage("small", put_string("nextinode", "1"), "nextinode is 1")
    damage("small", put_string("nextchunk", "1"), "nextchunk is 1")
    damage("small", lambda k: k.pop("i3"), "which does not exist")
    damage("small", lambda k: k.pop("d2"), "cannot be reached")
    damage("small", patch_inode(2, 47, struct.pack(">I", 7)), "nlink 7")
    damage("small", patch_inode(3, 47, struct.pack(">I", 2)), "nlink 2 with 1 names")
    damage("small", patch_inode(3, 63, struct.pack(">Q", 1)), "parent 1, names in")
    damage("small", patch_inode(3, 71, b"\x01"), "record of 72 bytes")
    damage("small", lambda k: k.update(i3={"string": k["i3"]["string"][:-4]}), "record of 70 bytes")
    damage("small", lambda k: k["dirUsedSpace"]["hash"].update({"2": b"5".hex()}), "dirUsedSpace is 5")
    damage("small", lambda k: k["dirUsedInodes"]["hash"].pop("2"), "dirUsedInodes is missing")
    damage("small", lambda k: k["i3"].update(string=patched(k["i3"]["string"], 1, b"\x41\xa4")), "has type 1, its inode 4")
    damage("names", lambda k: k.pop(next(x for x in k if x[0] == "s" and x[1:].isdigit())), "target of 0")
    damage("names", lambda k: k[next(x for x in k if x[0] == "p")]["hash"].update({"1": b"9".hex()}), "link counts")
    damage("names", lambda k: k.update(x999={"hash": {"user.x": "00"}}), "x999: no such inode")
    damage("clone", put_string(f"c{10**6}_0", "x"), "a string, not a list")
    damage("clone", lambda k: k["sliceRef"]["hash"].pop("k%d_%d" % shared), "sliceRef k%d_%d is 0" % shared)
    damage("clone", lambda k: k["sliceRef"]["hash"].update(k999_5=b"1".hex()), "nothing refers to it")
    damage("clone", lambda k: k[f"d{d}"]["hash"].update({name: "01"}), "of 1 bytes")
    damage("clone", lambda k: k[key]["list"].append("00"), "not 24 bytes")
    damage("clone", lambda k: k.update({"c999999_0": k[key]}), "c999999_0: no such inode")
    damage("clone", set_record(len=0), "leaves the chunk")
    damage("clone", set_record(pos=keyspace.CHUNK), "leaves the chunk")
    damage("clone", set_record(off=records[0].size), "leaves its slice")
    damage("clone", set_record(size=records[0].size + 1, id=shared[0]), "elsewhere")
    damage("compacted", lambda k: k["delSlices"]["hash"].update({"9_1": "00"}), "delSlices: 9_1")
    damage("sustained", lambda k: k["session1"]["set"].append("77777"), "inode 77777 does not exist")
    damage("trash", put_string("nextTrash", "0"), "nextTrash is 0")


@test()
def missing_and_short_objects_fail_the_check(t):
    for name in ("layout-none", "layout-hash", "layout-shards", "layout-lz4"):
        bucket = t.folder(name)
        t.run("cp", "-r", os.path.join(FIXTURES, name, "objects") + "/.", bucket)
        top = bucket
        bucket = os.path.join(bucket, fixture_scenario(name).get("bucket", "").strip("/"))
        ks = Keyspace(fixture_keys(name))
        blocks = sorted(os.path.join(d, f) for d, _, fs in os.walk(top) for f in fs if "/chunks/" in d)
        assert keycheck.check(ks, bucket) and not keycheck.check(ks, bucket).unnamed
        os.truncate(blocks[0], 0)
        os.unlink(blocks[-1])
        problems = keycheck.check(ks, bucket).problems
        assert len(problems) == 2 and sum("missing" in p for p in problems) == 1, problems
        t.run("cp", blocks[1], blocks[1] + "0")
        assert keycheck.check(ks, bucket).unnamed == [blocks[1] + "0"]


@test()
def comparison_ignores_numbers_and_sees_contents(t):
    keys = fixture_keys("clone")
    ks = Keyspace(keys)
    renumbered = renumber(keys, 100, 1000)
    assert keycheck.check(Keyspace(renumbered))
    assert not keycompare.differences(ks, Keyspace(renumbered), exact=True)
    for name, change, expect in (
            ("clone", lambda k: k["i3"].update(string=patched(k["i3"]["string"], 3, b"\0\0\0\7")), "uid="),
            ("clone", lambda k: k["d1"]["hash"].pop("part"), "entry /part"),
            ("names", lambda k: k[next(x for x in k if x[0] == "x")]["hash"].update({"user.n": "00"}), "xattrs"),
            ("names", lambda k: k.update(other={"string": "31"}), "key other"),
            ("large", lambda k: k[next(x for x in k if x[0] == "c")]["list"].pop(), "data /"),
            ("trash", lambda k: k["setting"].update(keyspace.with_setting(k, TrashDays=7)["setting"]), "setting: TrashDays"),
            ("trash", lambda k: k["dirUsedSpace"]["hash"].update({"1": b"1".hex()}), "dirUsedSpace /: ")):
        changed = fixture_keys(name)
        change(changed)
        lines = keycompare.differences(Keyspace(fixture_keys(name)), Keyspace(changed))
        assert any(expect in line for line in lines), (name, expect, lines)


def renumber(keys, inode_shift, slice_shift):
    """The same volume with other inode (but the root's) and slice numbers."""
    def moved(ino):
        return int(ino) if int(ino) == 1 else int(ino) + inode_shift

    out = {}
    for key, entry in keys.items():
        (kind, v), = entry.items()
        letter, rest = key[0], key[1:].split("_")
        if rest[0].isdigit() and letter in "idpxsc":
            key = letter + "_".join([str(moved(rest[0])), *rest[1:]])
            if letter == "i":
                parent = struct.unpack(">Q", bytes.fromhex(v)[63:71])[0]
                v = patched(v, 63, struct.pack(">Q", moved(parent) if parent else 0))
            elif letter == "d":
                v = {n: patched(e, 1, struct.pack(">Q", moved(int(e[2:], 16)))) for n, e in v.items()}
            elif letter == "p":
                v = {str(moved(p)): n for p, n in v.items()}
            elif letter == "c":
                rs = [Record(*struct.unpack(">IQIII", bytes.fromhex(e))) for e in v]
                v = [struct.pack(">IQIII", *r._replace(id=r.id and r.id + slice_shift)).hex() for r in rs]
        elif key == "sliceRef":
            v = {f"k{int(f[1:].split('_')[0]) + slice_shift}_{f.split('_')[1]}": n for f, n in v.items()}
        elif key in keyspace.STAT_HASHES:
            v = {str(moved(i)): n for i, n in v.items()}
        elif key in ("nextinode", "nextchunk"):
            v = b"99999999".hex()
        out[key] = {kind: v}
    return out


@test()
def visible_data_agrees_with_a_painter(t):
    for _ in range(300):
        records, paint = [], bytearray(120)
        for n in range(t.rng.randrange(8)):
            pos, length = t.rng.randrange(100), t.rng.randrange(1, 20)
            slice_id = t.rng.choice((0, n + 1))
            records.append(Record(pos, slice_id, 100, 0, length))
            paint[pos:pos + length] = bytes([slice_id > 0]) * length
        end = t.rng.choice((0, 1, 50, 119, 10**9))
        shown = bytearray(120)
        for a, b in keycompare.data_runs(records, end):
            shown[a:b] = b"\1" * (b - a)
        assert shown == paint[:min(end, 120)].ljust(120, b"\0"), (records, end)


@test(needs=("root",))
def trees_of_equal_folders_are_equal(t):
    env = {"OP": f"{sys.executable} {LIB}/op.py", "WORK": t.dir}
    for name in ("names", "small", "rename", "truncate", "large", "many"):
        folder = t.folder(name)
        script = os.path.join(FIXTURES, name, "ops.sh")
        t.run("sh", "-eu", script, cwd=folder, env=env)
        seen, recorded = tree.scan(folder), tree.read(os.path.join(FIXTURES, name, "tree.json"))
        lines = tree.differences(recorded, seen, same_history=False, ignore=("ino", "size", "nlink", "mode"))
        assert not lines, f"{name}: {lines[:10]}"


@test()
def tree_differences_are_named(t):
    a = t.folder("a")
    for n, text in (("same", "1"), ("data", "1"), ("gone", "1")):
        with open(os.path.join(a, n), "w") as f:
            f.write(text)
    old = tree.scan(a)
    with open(os.path.join(a, "data"), "w") as f:
        f.write("2")
    os.chmod(os.path.join(a, "same"), 0o600)
    os.unlink(os.path.join(a, "gone"))
    os.symlink("x", os.path.join(a, "new"))
    text = "\n".join(tree.differences(old, tree.scan(a), ignore=("mtime",)))
    for part in ("/data: sha256", "/same: mode 0644 -> 0600", "/gone: only in the first", "/new: only in the second"):
        assert part in text, text


INNER = """
import ctypes, os, signal, struct, sys, subprocess, threading
sys.path.insert(0, {lib!r})
from harness import *

@test()
def fine(t):
    open(os.path.join({mark!r}, "dir"), "w").write(t.dir)

@test()
def breaks(t):
    t.spawn("sh", "-c", "echo the log says why; exec sleep 1000", name="daemon")
    wait_until(lambda: os.path.getsize(t.path("log/daemon.log")))
    assert 1 == 2, "one is not two"

@test(timeout=1)
def hangs(t):
    t.run("sh", "-c", "setsid sleep 1001 & echo $! > " + os.path.join({mark!r}, "pid"))
    os.mkdir(t.path("m"))
    subprocess.run(["mount", "-t", "tmpfs", "none", t.path("m")])
    with open(os.path.join({mark!r}, "hot"), "w") as f:
        f.write("/dev/shm/" + os.path.basename(t.dir) + "-mnt")
    os.mkdir("/dev/shm/" + os.path.basename(t.dir) + "-mnt")
    t.run("sleep", "1002")

def server(t, name, begin):
    # A FUSE server that takes a request and never answers it. Its mount point.
    fd, point = os.open("/dev/fuse", os.O_RDWR), t.folder(name)
    option = "fd=%d,rootmode=40000,user_id=0,group_id=0" % fd
    assert ctypes.CDLL(None).mount(name.encode(), point.encode(), b"fuse", 0, option.encode()) == 0
    pid = os.fork()
    if pid == 0:
        unique = struct.unpack_from("<IIQ", os.read(fd, 1 << 20))[2]  # INIT; the answer is protocol 7.12
        os.write(fd, struct.pack("<IiQ4I2HI", 40, 0, unique, 7, 12, 0, 0, 1, 1, 4096))
        begin(point)
        os.read(fd, 1 << 20)
        signal.pause()
    os.close(fd)
    with open(os.path.join({mark!r}, name + ".pid"), "w") as f:
        f.write(str(pid))
    return point

@test(timeout=1)
def stuck(t):
    # Waits inside the kernel for the server: no signal ends that.
    os.stat(server(t, "stuck", lambda point: None))

@test(timeout=1)
def knotted(t):
    # The server waits for itself, and keeps its device open: not even SIGKILL ends that.
    server(t, "knotted", lambda point: threading.Thread(target=os.stat, args=(point,)).start())
    signal.pause()

@test()
def skips(t):
    raise Skip("not here")

@test()
def sanitizer(t):
    t.spawn("sh", "-c", "echo ==1==ERROR: AddressSanitizer: bad >&2", name="daemon").wait()

@test(needs=("juicefs",))
def lacks(t):
    pass

sys.exit(main())
"""


@test(needs=("root", "fuse"))
def the_runner_judges_and_cleans_up(t):
    with open(t.path("inner.py"), "w") as f:
        f.write(INNER.format(lib=LIB, mark=t.dir))
    env = {"JFS_TEST_TMP": t.folder("tmp"), "JUICEFS": "", "JFS_TEST_SLOW": "1"}
    for jobs in ("1", "3"):
        text = t.run(sys.executable, t.path("inner.py"), "--seed", "7", "-j", jobs, status=1, env=env)
        for line in ("seed 7", "ok fine ", "FAIL breaks AssertionError: one is not two", "the log says why",
                     "FAIL hangs no end after 1 s", "FAIL stuck no end after 1 s", "request_wait_answer",
                     "FAIL knotted no end after 1 s",
                     "SKIP skips not here",
                     "SKIP lacks JUICEFS names no stock binary", "FAIL sanitizer sanitizer report in log/daemon.log",
                     "1 passed, 5 failed, 2 skipped"):
            assert line in text, f"{line!r} is missing in:\n{text}"
        assert text.splitlines()[-1] == "1 passed, 5 failed, 2 skipped", text
        for name in ("pid", "stuck.pid", "knotted.pid"):
            with open(t.path(name)) as f:
                assert not os.path.exists(f"/proc/{int(f.read())}"), f"a background process was left: {name}"
        assert not os.listdir(env["JFS_TEST_TMP"]) and not mounts_below(env["JFS_TEST_TMP"])
        with open(t.path("hot")) as f:
            assert not os.path.exists(f.read()), "a hot directory was left"
    text = t.run(sys.executable, t.path("inner.py"), "--only", "fin*", env=env)
    assert text.splitlines()[-1] == "1 passed, 0 failed, 0 skipped", text
    t.run(sys.executable, t.path("inner.py"), "--only", "nothing", status=2, env=env)


@test(needs=("root", "fuse", "jfs"))
def who_keeps_a_mount_busy_is_named(t):
    m = Mount(t, Volume(t, RedisServer(t)).format(), "--writeback")
    os.mkdir(m.path("d"))
    with open(m.path("f"), "wb"):
        sleeper = t.spawn("sleep", 1000, cwd=m.path("d"))
        try:
            m.umount()
            raise SystemExit("it was not busy")
        except CommandError as e:
            text = str(e)
    for user, name in ((os.getpid(), "f"), (sleeper.pid, "d")):
        assert re.search(rf"^process {user} \(.*\) uses {m.path(name)}$", text, re.MULTILINE), text
    sleeper.kill()
    sleeper.wait()
    m.umount()


@test()
def the_whole_run_ends_what_hangs(t):
    program = ("import runall; t = runall.Totals(); "
               "runall.run_counted(t, 'stalled', ['sh', '-c', 'echo ok one 0.1; sleep 1004 & wait'], None, 0.5); t.report()")
    text = t.run(sys.executable, "-c", program, env={"PYTHONPATH": LIB})
    for line in ("no end after 0.5 s", "sleep 1004", "FAIL stalled: ended with -9 and without a summary",
                 "0 passed, 1 failed, 0 skipped"):
        assert line in text, f"{line!r} is missing in:\n{text}"


@test(needs=("root",))
def background_processes_and_mounts_are_found(t):
    t.run("sh", "-c", "setsid sleep 1003 >/dev/null 2>&1 &")
    pid = wait_until(lambda: [p for p in descendants_of(os.getpid()) if b"1003" in open(f"/proc/{p}/cmdline", "rb").read()])
    os.kill(pid[0], signal.SIGKILL)
    inner = t.folder("with space")
    subprocess.run(["mount", "-t", "tmpfs", "none", inner], check=True)
    assert mounts_below(t.dir) == [inner]
    detach_mounts(t.dir)
    assert not mounts_below(t.dir)


@test()
def waiting_ends_with_a_reason(t):
    try:
        wait_until(lambda: False, timeout=0.05, what="a miracle")
    except Timeout as e:
        assert "a miracle" in str(e)
    else:
        raise AssertionError("no time-out")
    values = iter([0, None, 5])
    assert wait_until(lambda: next(values)) == 5


@test()
def stats_are_parsed(t):
    with open(t.path("stats"), "w") as f:
        f.write("juicefs_staging_blocks 3\njuicefs_cpu_usage 0.25\njuicefs_x_PUT 1\njuicefs_x_PUT 2\n")
    assert parse_stats(t.path("stats")) == {"staging_blocks": 3, "cpu_usage": 0.25, "x_PUT": 3}


if __name__ == "__main__":
    sys.exit(main())
