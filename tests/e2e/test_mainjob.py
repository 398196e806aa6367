#!/usr/bin/env python3
"""The main job: real C projects are built on a mount, everything drains, and a host with an empty cache reads back the
same tree; through outages, kill -9 and remounts. With JUICEFS set, the stock client agrees.

Sources come from Debian (lib/debsrc.sh); JFS_TEST_SOURCES names a folder that keeps the tarballs between runs."""
import os
import re
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
import tree  # noqa: E402
from harness import *  # noqa: E402, F403
from model import History, tree_diff, tree_of  # noqa: E402

NEEDS = ("root", "fuse", "jfs", "tools")
SOURCES = os.environ.get("JFS_TEST_SOURCES", "/var/tmp/jfs-test-sources")


def source(t, package):
    """The tarball's path. The machine may be without the Debian archive only if the folder has it already."""
    os.makedirs(SOURCES, exist_ok=True)
    return t.run("sh", os.path.join(HERE, "lib/debsrc.sh"), package, SOURCES, timeout=180).splitlines()[-1]


def unpack(t, package, folder):
    t.run("tar", "xf", source(t, package), "-C", folder, "--no-same-owner", "--strip-components=1")


def assert_unpacked(t, tarball, folder):
    """What tar has just made in `folder` is what it makes on the native file system, times included."""
    native = t.folder("native")
    t.run("tar", "xf", tarball, "-C", native, "--strip-components=1")
    original, seen = tree.scan(native), tree.scan(folder)
    for nodes in (original, seen):
        nodes.pop("/")  # not in the archive
        for node in nodes.values():
            if node["type"] == "dir":
                del node["size"]  # ext4's grows with the names
    tree.assert_same(original, seen, "the sources on the native file system and on the mount", ignore=("ino",))


class Build(threading.Thread):
    """A zlib build in the background, in a folder of the mount."""

    def __init__(self, t, folder, jobs=1):
        super().__init__()
        self.t, self.folder, self.jobs, self.error = t, folder, jobs, None

    def steps(self):
        self.t.run("sh", "./configure", cwd=self.folder, env={"CFLAGS": "-O0"}, timeout=180)
        self.t.run("make", f"-j{self.jobs}", cwd=self.folder, timeout=180)
        assert "zlib test OK" in self.t.run("make", "test", cwd=self.folder)

    def run(self):
        try:
            self.steps()
        except BaseException as e:  # the thread that joins raises it
            self.error = e

    def finish(self):
        self.join()
        if self.error:
            raise self.error

    def objects(self):
        return len([n for n in os.listdir(self.folder) if n.endswith((".o", ".lo"))])

    def wait_middle(self):
        """Until some, but not all, is compiled."""
        wait_until(lambda: self.error or self.objects() >= 3, 60, "the first object files")
        assert not self.error, self.error


def read_back(t, volume, before, name="other"):
    """Another host: an empty cache shows the tree, and the volume is consistent; stock agrees where there is one."""
    volume.check()
    m = Mount(t, volume, name=name)
    tree.assert_same(before, tree.scan(m.dir), "the tree before and with an empty cache")
    m.umount(flush=True)


def stock_agrees(t, volume, before):
    if not os.environ.get("JUICEFS"):
        t.note("JUICEFS is not set: the stock client was not asked")
        return
    stock = StockMount(t, volume.url())
    tree.assert_same(before, tree.scan(stock.dir), "our tree and stock's")
    stock.umount()
    client = Stock(t, volume.url())
    client.quiet("fsck")
    client.quiet("gc")
    client.dump_and_load(volume, volume.redis.url(db=9))


def commands_served(redis, verb):
    """How often Redis has served a command."""
    with redis.client() as c:
        found = re.search(rb"cmdstat_%s:calls=(\d+)" % verb.encode(), c("INFO", "commandstats"))
    return int(found[1]) if found else 0


@test(timeout=600, needs=NEEDS)
def redis_is_built_and_tested_on_the_mount(t):
    """1 ms to Redis and back, S3 as files. The server that is built runs two parts of its own test suite on the mount."""
    tarball = source(t, "redis")
    server = RedisServer(t)
    volume = Volume(t, server).format("--trash-days", "0")
    near = t.enter(DelayProxy(server.port, one_way_us=500))
    m = Mount(t, volume, "--writeback", port=near.port)
    work = m.path("redis")
    os.mkdir(work)
    t.run("tar", "xf", tarball, "-C", work, "--strip-components=1")
    assert_unpacked(t, tarball, work)
    t.run("make", "-j2", "MALLOC=libc", "OPTIMIZATION=-O0", "DEBUG=", cwd=work, timeout=300)
    text = t.run("./runtest", "--single", "unit/type/list", "--single", "unit/dump", "--clients", "2", "--baseport",
                 free_ports(2), "--portcount", "500", cwd=work, timeout=300)
    assert "All tests passed without errors" in text, text[-2000:]
    before = tree.scan(m.dir)
    t.note(len(before), "paths")
    m.umount(flush=True, timeout=200)
    read_back(t, volume, before)
    stock_agrees(t, volume, before)


@test(timeout=240, needs=NEEDS)
def zlib_is_built_while_redis_and_s3_are_away(t):
    """Item 6, P11: Redis and the bucket go in the middle of a build and stay away until it is done; all drains by itself."""
    server = RedisServer(t)
    volume = Volume(t, server).format("--trash-days", "0")
    net = t.enter(TcpFault(server.port))
    m = Mount(t, volume, "--writeback", port=net.port)
    work = m.path("zlib")
    os.mkdir(work)
    unpack(t, "zlib", work)
    tree.scan(m.dir)  # what has never been read here would wait for Redis: the root's xattrs
    build = Build(t, work)
    build.start()
    build.wait_middle()
    net("refuse")
    away = volume.bucket.rstrip("/") + ".away"
    os.rename(volume.bucket.rstrip("/"), away)
    with open(volume.bucket.rstrip("/"), "w"):
        pass  # root can write everywhere but below a file
    applied = server.client()("HGET", "zjfs", "seq")
    build.finish()
    t.run("make", "distclean", cwd=work)
    again = Build(t, work, jobs=2)
    again.start()
    again.finish()
    before = tree.scan(m.dir)
    with server.client() as c:
        assert c("HGET", "zjfs", "seq") == applied, "replay went on without Redis"
    net("pass")
    os.unlink(volume.bucket.rstrip("/"))
    os.rename(away, volume.bucket.rstrip("/"))
    m.wait_stat("staging_blocks")
    m.umount(flush=True)
    read_back(t, volume, before)
    stock_agrees(t, volume, before)


@test(timeout=300, needs=(*NEEDS, "swift"))
def p11_a_real_s3_server_goes_away_in_a_build(t):
    """The server is stopped in the middle of a build, and while the rest drains it takes connections and says nothing.
    The build goes on, nothing is lost, and all drains without a hand."""
    s3 = Swift(t)
    net = t.enter(TcpFault(s3.port))
    volume = Volume(t, RedisServer(t), s3=s3)
    volume.format("--trash-days", "0", bucket=f"http://127.0.0.1:{net.port}/{volume.name}")
    m = Mount(t, volume, "--writeback", "--put-timeout", "2s")
    work = m.path("zlib")
    os.mkdir(work)
    unpack(t, "zlib", work)
    build = Build(t, work)
    build.start()
    build.wait_middle()

    def tried_again():
        was = net.stats()["accepted"]
        wait_until(lambda: net.stats()["accepted"] > was + 2, 60, "uploads that are tried again")
        assert m.stats()["staging_blocks"] > 0, "everything was uploaded without a server"
    s3.stop()
    build.finish()
    tried_again()
    before = tree.scan(m.dir)
    net("blackhole")
    s3.start()
    tried_again()
    net("pass")
    m.wait_stat("staging_blocks", timeout=120)
    m.wait_stat("backlog_operations", timeout=120)
    assert m.stats()["s3_failing_ms"] == 0
    m.umount(flush=True)
    read_back(t, volume, before)
    stock_agrees(t, volume, before)


@test(timeout=120, needs=(*NEEDS, "swift"))
def an_unmount_does_not_wait_for_a_silent_server(t):
    """A program was killed while it read; the server takes connections and says nothing. With all its tries that read would take
    ten minutes."""
    s3 = Swift(t)
    net = t.enter(TcpFault(s3.port))
    volume = Volume(t, RedisServer(t), s3=s3)
    volume.format(bucket=f"http://127.0.0.1:{net.port}/{volume.name}")
    m = Mount(t, volume, "--writeback", name="first")
    with open(m.path("f"), "wb") as f:
        f.write(os.urandom(9 << 20))
    m.umount(flush=True)
    m = Mount(t, volume, "--writeback")
    os.stat(m.path("f"))
    net("blackhole")
    was = net.stats()["accepted"]
    reader = subprocess.Popen(["cat", m.path("f")], stdout=subprocess.DEVNULL)
    wait_until(lambda: net.stats()["accepted"] > was, 30, "a read")
    reader.kill()
    reader.wait()
    began = time.monotonic()
    m.umount()
    assert time.monotonic() - began < 30


@test(timeout=240, needs=NEEDS)
def p1_kill_9_in_the_middle_of_a_build(t):
    """Every acknowledged operation is there after a mount that recovers by itself, and make goes on where it was."""
    server = RedisServer(t)
    volume = Volume(t, server).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback")
    work, acked = m.path("zlib"), []
    os.mkdir(work)
    os.mkdir(m.path("acked"))
    unpack(t, "zlib", work)
    source_tree = tree.scan(work)
    build = Build(t, work, jobs=2)
    build.start()
    build.wait_middle()
    stop = threading.Event()

    def write_files():
        """Each file is on the list once write() and close() have returned; nothing is synced."""
        while not stop.is_set():
            name, body = f"f{len(acked):06d}", os.urandom(t.rng.randrange(1, 9000))
            try:
                with open(m.path("acked", name), "wb", buffering=0) as f:
                    f.write(body)
            except OSError:
                return  # the daemon is dead
            acked.append((name, body))
    writer = threading.Thread(target=write_files)
    writer.start()
    wait_until(lambda: len(acked) > 50, what="some acknowledged files")
    m.kill()
    stop.set()
    writer.join()
    build.join()
    assert build.error, "the build had ended before the kill"
    m.mount()
    for name, body in acked:
        with open(m.path("acked", name), "rb") as f:
            assert f.read() == body, f"{name} is not what was acknowledged"
    seen = tree.scan(work)
    for path, node in source_tree.items():
        if node["type"] == "file" and "zconf.h" not in path and "Makefile" not in path:
            assert seen[path]["sha256"] == node["sha256"], path
    # What the compiler was writing at the kill has an unfinished file, as on a disk whose compiler was killed.
    for name in os.listdir(work):
        if name.endswith((".o", ".lo")) and not os.path.getsize(os.path.join(work, name)):
            os.unlink(os.path.join(work, name))
    again = Build(t, work, jobs=2)
    again.start()
    again.finish()
    before = tree.scan(m.dir)
    m.umount(flush=True)
    read_back(t, volume, before)


@test(timeout=120, needs=NEEDS)
def a_mount_with_the_same_cache_is_warm(t):
    server = RedisServer(t)
    volume = Volume(t, server).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback")
    os.mkdir(m.path("zlib"))
    unpack(t, "zlib", m.path("zlib"))
    before = tree.scan(m.dir)
    m.umount(flush=True)
    for flush in (False, True):
        m.mount()
        with server.client() as c:
            c("CONFIG", "RESETSTAT")
        tree.assert_same(before, tree.scan(m.dir), "the tree before and after a remount")
        for verb in ("hscan", "hgetall", "hget", "lrange"):
            served = commands_served(server, verb)
            assert served == 0, f"{served} {verb.upper()} were needed with a warm cache"
        m.umount(flush=flush)


@test(timeout=60, needs=NEEDS)
def what_a_tool_without_a_session_changed_is_seen(t):
    """gc and the like leave nothing but other counters. What was loaded before is not trusted then."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback")
    for name in ("kept", "gone"):
        with open(m.path(name), "wb"):
            pass
    ino = os.stat(m.path("gone")).st_ino
    for flush in (True, False):
        m.umount(flush=flush)
        with volume.redis.client() as c:
            if flush:
                c("HDEL", "d1", "gone")
                c("DEL", f"i{ino}")
                for command in (("INCRBY", "usedSpace", -4096), ("INCRBY", "totalInodes", -1), ("HINCRBY", "dirUsedSpace", 1, -4096),
                                ("HINCRBY", "dirUsedInodes", 1, -1)):
                    c(*command)
        m.mount()
        assert os.listdir(m.dir) == ["kept"]
    m.umount(flush=True)
    volume.check()


@test(timeout=120, needs=NEEDS)
def another_cache_directory_is_refused_while_a_journal_holds_work(t):
    server = RedisServer(t)
    volume = Volume(t, server).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay", "1h")
    os.mkdir(m.path("d"))
    with open(m.path("d", "f"), "wb") as f:
        f.write(os.urandom(100000))
    before = tree.scan(m.dir)
    m.umount()
    other = Mount(t, volume, name="other", start=False)
    keys = volume.keys()
    text = other.mount(status=1)
    assert m.cache in text, f"the journal's directory is not named: {text}"
    assert os.uname().nodename in text, f"the host is not named: {text}"
    assert len(text.strip().splitlines()) == 1, text
    assert volume.keys() == keys, "the refused mount changed the volume"
    m.mount()
    tree.assert_same(before, tree.scan(m.dir), "the tree before and after the refusal")
    m.umount(flush=True)
    read_back(t, volume, before, "third")


@test(timeout=120, needs=NEEDS)
def a_dead_mount_point_is_detached_by_mount(t):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback")
    with open(m.path("f"), "w", encoding="ascii") as f:
        f.write("here")
    m.kill()
    try:
        os.listdir(m.dir)
        raise AssertionError("the mount point is not dead")
    except OSError:
        pass
    m.mount()
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        assert sum(line.split()[4] == m.dir for line in f) == 1, "the dead mount is still below"
    with open(m.path("f"), encoding="ascii") as f:
        assert f.read() == "here"
    m.umount(flush=True)


@test(timeout=120, needs=NEEDS)
def mount_with_redis_away_is_refused_unless_offline(t):
    server = RedisServer(t)
    volume = Volume(t, server).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback")
    os.mkdir(m.path("d"))
    with open(m.path("d", "before"), "wb") as f:
        f.write(os.urandom(50000))
    tree.scan(m.dir)  # what has never been read here is not here: that would wait for Redis, as in any outage
    m.umount()
    server.stop()
    text = m.mount(status=1)
    assert "--offline" in text or "127.0.0.1" in text, text
    for again in (False, True):
        m.mount("--offline")
        for i in range(50):
            with open(m.path("d", f"offline-{again}-{i}"), "wb") as f:
                f.write(os.urandom(3000))
        os.rename(m.path("d", f"offline-{again}-0"), m.path("d", f"renamed-{again}"))
        before = tree.scan(m.dir)
        if not again:  # offline, to the end: nothing of it is lost
            m.umount()
    server.start()
    m.flush()
    with server.client() as c:
        assert c("HGET", "zjfs", "released") == b"0"
    tree.assert_same(before, tree.scan(m.dir), "the tree before and after Redis came back")
    m.umount(flush=True)
    read_back(t, volume, before)
    m.mount()  # the cache of the offline mount goes on as an ordinary one
    tree.assert_same(before, tree.scan(m.dir), "the tree before and after a mount of the same cache")
    m.umount(flush=True)


@test(timeout=120, needs=NEEDS)
def history_54_offline_while_another_host_takes_over(t):
    """The offline mount finds a higher epoch when Redis returns: it is fenced, and writes nothing there."""
    server = RedisServer(t)
    volume = Volume(t, server).format("--trash-days", "0")
    net = t.enter(TcpFault(server.port))
    m = Mount(t, volume, "--writeback")
    with open(m.path("f"), "w", encoding="ascii") as f:
        f.write("both")
    m.flush()
    m.kill()
    subprocess.run(["umount", "-l", m.dir], check=True)
    net("refuse")
    m.port = net.port
    # The address is part of what an offline mount looks for, so the journal's first mount goes by the same one.
    net("pass")
    m.mount()
    m.kill()
    net("refuse")
    m.mount("--offline")
    with open(m.path("mine"), "w", encoding="ascii") as f:
        f.write("acknowledged offline")
    other = Mount(t, volume, "--takeover", "--writeback", name="other")
    with open(other.path("theirs"), "w", encoding="ascii") as f:
        f.write("taken over")
    other.umount(flush=True)
    keys = volume.keys()
    net("pass")

    def fenced():
        try:
            with open(m.path("later"), "w", encoding="ascii"):
                return False
        except OSError as e:
            return e.errno == 30
    wait_until(fenced, 30, "the end of writing at the fenced mount")
    assert volume.keys() == keys, "the fenced mount changed the volume"
    m.kill()


def run_mode(t, query, options):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0", "--block-size", "64")
    m = Mount(t, volume, *options, query=query)
    os.mkdir(m.path("work"))
    history = History(t.seed)
    assert history.run(m.path("work"), 150), "an operation failed"
    assert not tree_diff(tree_of(m.path("work")), history.model.tree())
    history.real.close()
    for i in range(20):
        with open(m.path(f"f{i}"), "wb") as f:
            f.write(os.urandom(5000 * i))
            os.fsync(f.fileno())
    before = tree.scan(m.dir)
    m.umount(flush=True)
    read_back(t, volume, before)
    stock_agrees(t, volume, before)


MODES = {f"{q or 'default'}{'_writeback' if w else ''}".replace("=", "_"): (q, ("--writeback",) if w else ())
         for q in ("", "safe_batch=0", "unsafe_batch=1") for w in (False, True)}
MODES["publish_eager"] = ("", ("--writeback", "--publish=eager"))
MODES["durability_strict"] = ("", ("--writeback", "--durability=strict"))
for mode, (query, options) in MODES.items():
    add("mode_" + mode, lambda t, q=query, o=options: run_mode(t, q, o), 120, NEEDS)


if __name__ == "__main__":
    sys.exit(main())
