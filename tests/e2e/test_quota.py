#!/usr/bin/env python3
"""Quotas of directories, users and groups, and the volume's own limits: refused at the right byte, as stock does; usage exact
whenever the journal is drained (Volume.check counts it), also after a crash; what `juicefs quota` does while we are mounted.

Limits are put into Redis directly where they must be finer than the GiB of the command."""
import ctypes
import errno
import json
import os
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *  # noqa: E402,F403
from op import AT_FDCWD, libc, system_call  # noqa: E402
from workload import EXCHANGE, Workload  # noqa: E402
import keycheck  # noqa: E402
import tree  # noqa: E402

NEEDS = ("root", "fuse", "jfs")
PAGE = 4096
EDQUOTS = 17
BEAT = "--heartbeat=200ms"


def volume_of(t, *options, name="vol", trash_days="0"):
    return Volume(t, RedisServer(t), name=name).format("--block-size", "64", "--trash-days", trash_days, *options)


def inode_of(ks, path):
    ino = 1
    for name in filter(None, path.split("/")):
        ino = ks.entries[ino][name.encode()][1]
    return ino


def set_quota(volume, path, space=-1, inodes=-1):
    """What `juicefs quota set --path` leaves, in one step."""
    ks = volume.keyspace()
    ino = inode_of(ks, path)
    used = keycheck.below(ks, ino)
    with volume.redis.client(volume.db) as c:
        c("MULTI")
        c("HSET", "dirQuota", ino, struct.pack(">qq", space, inodes))
        c("HSETNX", "dirQuotaUsedSpace", ino, used[0])
        c("HSETNX", "dirQuotaUsedInodes", ino, used[1])
        c("EXEC")


def set_quota_limits(volume, path, space=-1, inodes=-1):
    """What `juicefs quota set` changes of a quota that is there."""
    with volume.redis.client(volume.db) as c:
        c("HSET", "dirQuota", inode_of(volume.keyspace(), path), struct.pack(">qq", space, inodes))


def set_owner_quota(volume, kind, who, space=-1, inodes=-1):
    """What the command leaves on a volume that counts owners already."""
    with volume.redis.client(volume.db) as c:
        c("MULTI")
        c("HSET", f"{kind}Quota", who, struct.pack(">qq", space, inodes))
        c("HSETNX", f"{kind}QuotaUsedSpace", who, 0)
        c("HSETNX", f"{kind}QuotaUsedInodes", who, 0)
        c("EXEC")


def count_owners(volume):
    """Switches user and group quotas on, as the first `juicefs quota set --uid` on an empty volume."""
    ks = volume.keyspace()
    assert len(ks.inodes) <= 2
    with volume.redis.client(volume.db) as c:
        c("SET", "setting", c("GET", "setting").decode().rstrip().rstrip("}").rstrip() + ',\n"UserGroupQuota": true\n}')


def answer(function, *args):
    """0 or the errno's name. What stock refuses only when the data are flushed counts the same."""
    try:
        function(*args)
        return 0
    except OSError as e:
        return errno.errorcode[e.errno]


def write(path, size, at=0, flags=os.O_WRONLY | os.O_CREAT):
    fd = os.open(path, flags, 0o644)
    try:
        if size:
            os.pwrite(fd, b"x" * size, at)
        os.fsync(fd)
    finally:
        os.close(fd)


def grow(path, size):
    with open(path, "r+b") as f:
        f.truncate(size)


def allocate(path, mode, at, size):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        system_call(libc.fallocate(fd, mode, ctypes.c_long(at), ctypes.c_long(size)))
    finally:
        os.close(fd)


def copy_range(source, target, size):
    a, b = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY)
    try:
        os.copy_file_range(a, b, size, 0, 0)
    finally:
        os.close(a)
        os.close(b)


def exchange(a, b):
    system_call(libc.renameat2(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), EXCHANGE))


def situations(top):
    """What quotas of 10 pages and 6 names on /q, and of 4 pages on /q/in answer. /free has none."""
    p = lambda *parts: os.path.join(top, *parts)  # noqa: E731
    yield "a file", write, p("q/a"), 100  # q: in, a
    yield "its first page is there already", write, p("q/a"), PAGE
    yield "one page more", write, p("q/a"), PAGE + 1
    yield "up to the last byte", write, p("q/a"), 9 * PAGE
    yield "one byte too many", write, p("q/a"), 1, 9 * PAGE
    yield "truncate beyond", grow, p("q/a"), 9 * PAGE + 1
    yield "truncate to what there is", grow, p("q/a"), 9 * PAGE
    yield "fallocate beyond", allocate, p("q/a"), 0, 0, 9 * PAGE + 1
    yield "fallocate within", allocate, p("q/a"), 1, 0, 20 * PAGE
    yield "a new file", write, p("q/b"), 0
    yield "a directory", os.mkdir, p("q/d")
    yield "a symlink", os.symlink, "x", p("q/l")
    yield "a hard link", os.link, p("q/a"), p("q/h")
    yield "a big one outside", write, p("free/big"), 9 * PAGE
    yield "moved in", os.rename, p("free/big"), p("q/big")
    yield "shorter", grow, p("q/a"), PAGE
    yield "moved in, there is room by one page", os.rename, p("free/big"), p("q/big")
    yield "shorter outside", grow, p("free/big"), 8 * PAGE
    yield "moved in, exactly full", os.rename, p("free/big"), p("q/big")
    yield "within the quota, into the inner one that is too small", os.rename, p("q/big"), p("q/in/big")
    yield "copied by reference", copy_range, p("q/big"), p("q/a"), 8 * PAGE
    yield "moved out", os.rename, p("q/big"), p("free/big")
    yield "copied by reference, now there is room", copy_range, p("free/big"), p("q/a"), 8 * PAGE
    yield "inner, a page", write, p("q/in/x"), 1
    yield "over an existing one", os.rename, p("q/in/x"), p("q/a")
    yield "shorter again", grow, p("q/a"), PAGE
    yield "inner, four pages", write, p("q/in/x"), 4 * PAGE
    yield "inner, five pages", write, p("q/in/x"), 1, 4 * PAGE
    yield "from the inner one to the outer", os.rename, p("q/in/x"), p("q/x")
    yield "a tree outside", os.makedirs, p("free/t/u/v")
    yield "with something in it", write, p("free/t/u/f"), 3 * PAGE
    yield "the tree moves in", os.rename, p("free/t"), p("q/t")
    yield "without its file", os.unlink, p("free/t/u/f")
    yield "the tree moves in, smaller", os.rename, p("free/t"), p("q/t")
    yield "too many names now", write, p("q/n"), 0
    yield "the tree moves out", os.rename, p("q/t"), p("free/t")
    yield "a link from outside", os.link, p("free/big"), p("q/in/hard")
    yield "a shorter link from outside", grow, p("free/big"), 2 * PAGE
    yield "which fits", os.link, p("free/big"), p("q/in/hard")
    yield "its other name grows", write, p("free/big"), 3 * PAGE
    yield "its other name grows too much", write, p("free/big"), 9 * PAGE


def play(top):
    return [(what, answer(function, *args)) for what, function, *args in situations(top)]


def with_situation(t, who):
    """A volume with the two quotas, unmounted."""
    volume = volume_of(t, name=who)
    m = Mount(t, volume, name="prepared-" + who)
    for name in ("q/in", "free"):
        os.makedirs(m.path(name))
    m.umount(flush=True)
    set_quota(volume, "q", 10 * PAGE, 6)
    set_quota(volume, "q/in", 4 * PAGE)
    return volume


@test(timeout=120, needs=(*NEEDS, "juicefs"))
def conformance_09_refused_where_stock_refuses(t):
    volume = with_situation(t, "stock")
    m = StockMount(t, volume.url(), read_only=False)
    stock = play(m.dir)
    m.umount()
    volume = with_situation(t, "ours")
    m = Mount(t, volume, "--writeback")
    ours = play(m.dir)
    m.umount(flush=True)
    volume.check()
    for path in ("/q", "/q/in"):
        t.run(os.environ["JUICEFS"], "quota", "check", volume.url(), "--path", path)
    different = [f"{what}: stock {a}, ours {b}" for (what, a), (_, b) in zip(stock, ours) if a != b]
    assert not different, "\n".join(different)
    assert sum(a == "EDQUOT" for _, a in ours) >= 12


@test(timeout=60, needs=NEEDS)
def refused_at_the_right_byte(t):
    """The same situations, where there is no stock client: how often, and that nothing is half done."""
    volume = with_situation(t, "vol")
    m = Mount(t, volume, "--writeback")
    answers = play(m.dir)
    assert sum(a == "EDQUOT" for _, a in answers) == EDQUOTS, answers
    m.umount(flush=True)
    volume.check()


STAY = ("do_move_tree",)
DIRS = ("a", "a/x", "a/x/y", "b", "b/z", "c")


def random_quotas(t, query, trash_days, kill):
    volume = volume_of(t, trash_days=trash_days)
    m = Mount(t, volume, "--writeback", BEAT, query=query)
    w = Workload(t.rng, m.path("w"), DIRS)
    w.steps(100)
    w.close()
    m.flush()
    set_quota(volume, "/", 4 << 20, 400)
    for d, space, inodes in (("a", 1 << 20, -1), ("a/x", 400 << 10, 60), ("b", -1, 40), ("b/z", 600 << 10, 20)):
        set_quota(volume, "w/" + d, space, inodes)
    m.remount()
    for _ in range(3):
        w.steps(250)
        m.flush()
        volume.check()
    if kill:
        for _ in range(2):
            w.steps(150)
            m.kill()
            w.close()
            m.end()
            m.mount()
        w.steps(50)
    w.close()
    assert w.refused > 10, "no quota was ever reached"
    m.umount(flush=True)
    ks = volume.check()
    assert len(ks.table("dirQuotaUsedInodes")) >= 3  # one may have been replaced, empty, while it was elsewhere
    return ks, volume


@test(timeout=120, needs=NEEDS)
def usage_is_exact(t):
    random_quotas(t, "batch_size=100", "0", kill=True)


@test(timeout=120, needs=NEEDS)
def usage_is_exact_with_trash(t):
    ks, volume = random_quotas(t, "batch_size=100", "1", kill=True)
    paths = keycheck.inode_paths(ks)  # they may have moved
    for ino in ks.table("dirQuotaUsedInodes") if os.environ.get("JUICEFS") else ():
        t.run(os.environ["JUICEFS"], "quota", "check", volume.url(), "--path", paths[int(ino)])


@test(timeout=120, needs=NEEDS)
def usage_is_exact_with_unsafe_batches(t):
    random_quotas(t, "batch_size=100&unsafe_batch=1", "1", kill=False)


@test(timeout=120, needs=(*NEEDS, "juicefs"))
def set_while_changes_are_on_their_way(t):
    """Stock counts what Redis has; what is only in the journal counts as well, and the quota works within a heartbeat."""
    volume = volume_of(t)
    m = Mount(t, volume, "--writeback", "--upload-delay=1h", BEAT)
    w = Workload(t.rng, m.path("w"), DIRS)
    w.steps(100, without=STAY)
    m.flush()
    w.steps(200, without=STAY)
    juicefs = os.environ["JUICEFS"]
    for d in ("a", "a/x", "b"):
        t.run(juicefs, "quota", "set", volume.url(), "--path", "/w/" + d, "--inodes", "1")
        wait_until(lambda: answer(os.mkdir, m.path("w", d, "more")) == "EDQUOT" or os.rmdir(m.path("w", d, "more")),
                   what=f"a quota on {d}")
    w.steps(100, without=STAY)
    t.run(juicefs, "quota", "delete", volume.url(), "--path", "/w/a")
    t.run(juicefs, "quota", "set", volume.url(), "--path", "/w/a/x", "--inodes", "1000")
    wait_until(lambda: answer(os.mkdir, m.path("w/a/x/again")) == 0 or None, what="a larger quota, and one that is gone")
    w.steps(50, without=STAY)
    w.close()
    m.umount(flush=True)
    ks = volume.check()
    assert len(ks.table("dirQuotaUsedInodes")) == 2
    for d in ("a/x", "b"):
        t.run(juicefs, "quota", "check", volume.url(), "--path", "/w/" + d)


@test(timeout=60, needs=NEEDS)
def usage_that_somebody_repaired_is_taken_over(t):
    volume = volume_of(t)
    m = Mount(t, volume, "--writeback", BEAT)
    os.mkdir(m.path("q"))
    write(m.path("q/f"), 3 * PAGE)
    m.umount(flush=True)
    set_quota(volume, "q", 5 * PAGE)
    ino = inode_of(volume.keyspace(), "q")
    m.mount()
    assert answer(write, m.path("q/g"), 3 * PAGE) == "EDQUOT"
    os.unlink(m.path("q/g"))
    for pages in (5, 3):
        m.flush()
        with volume.redis.client() as c:
            c("HSET", "dirQuotaUsedSpace", ino, pages * PAGE)
        wait_until(lambda: os.statvfs(m.path("q")).f_bavail == 5 - pages, what="what Redis says")  # noqa: B023
        assert answer(os.mkdir, m.path("q", f"d{pages}")) == ("EDQUOT" if pages == 5 else 0)
    m.umount(flush=True)
    volume.check()


def as_user(uid, gid, function, *args):
    """answer() for somebody else."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            function(*args)
            code = 0
        except OSError as e:
            code = e.errno
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code and errno.errorcode.get(code, code)


def random_owners(t, query, trash_days, kill):
    volume = volume_of(t, trash_days=trash_days)
    count_owners(volume)
    for kind, who, space, inodes in (("user", 1001, 1 << 20, -1), ("group", 1002, -1, 25)):
        set_owner_quota(volume, kind, who, space, inodes)
    m = Mount(t, volume, "--writeback", BEAT, query=query)
    w = Workload(t.rng, m.path("w"), DIRS, owners=(0, 1001, 1002, -1))
    for _ in range(3):
        w.steps(250)
        m.flush()
        volume.check()
    if kill:
        w.steps(150)
        m.kill()
        w.close()
        m.end()
        m.mount()
        w.steps(100)
    w.close()
    m.umount(flush=True)
    assert len(volume.check().table("userQuotaUsedInodes")) >= 2
    return volume, m


@test(timeout=120, needs=NEEDS)
def usage_of_owners_is_exact(t):
    random_owners(t, "batch_size=100", "0", kill=True)


@test(timeout=120, needs=NEEDS)
def usage_of_owners_is_exact_with_trash(t):
    volume, m = random_owners(t, "batch_size=100", "1", kill=True)
    m.mount()
    t.run("sh", "-c", f"rm -rf {m.path('.trash')}/*/*", status=None)
    m.umount(flush=True)
    ks = volume.check()
    assert sum(len(e) for ino, e in ks.entries.items() if ino > 1 << 62) <= 2, "the trash was not emptied"


@test(timeout=120, needs=NEEDS)
def usage_of_owners_is_exact_with_unsafe_batches(t):
    random_owners(t, "batch_size=100&unsafe_batch=1", "1", kill=False)


@test(timeout=60, needs=NEEDS)
def owners_are_refused(t):
    volume = volume_of(t)
    count_owners(volume)
    set_owner_quota(volume, "user", 1001, 6 * PAGE, -1)
    set_owner_quota(volume, "group", 1002, -1, 2)
    os.chmod(t.dir, 0o755)
    m = Mount(t, volume, "--writeback", BEAT, "-o", "allow_other")
    os.chmod(m.dir, 0o777)
    top = m.path("d")
    os.mkdir(top)
    os.chmod(top, 0o777)
    f = os.path.join(top, "f")
    assert as_user(1001, 1001, write, f, 6 * PAGE) == 0
    assert as_user(1001, 1001, write, f, 1, 6 * PAGE) == "EDQUOT"
    assert answer(write, f, 1, 6 * PAGE) == "EDQUOT", "the file is still theirs"
    assert as_user(1001, 1001, os.mkdir, os.path.join(top, "e")) == "EDQUOT"
    os.chown(f, 1003, -1)
    assert as_user(1001, 1001, os.mkdir, os.path.join(top, "e")) == 0
    assert answer(write, f, 1, 6 * PAGE) == 0
    for name, wanted in (("g1", 0), ("g2", 0), ("g3", "EDQUOT")):
        assert as_user(1004, 1002, write, os.path.join(top, name), 5) == wanted, name
    assert as_user(1004, 1002, os.link, os.path.join(top, "g1"), os.path.join(top, "h")) == "EDQUOT"
    os.chown(top, -1, 1005)
    os.chmod(top, 0o2777)
    assert as_user(1004, 1002, write, os.path.join(top, "g3"), 5) == 0, "the directory's group"
    m.umount(flush=True)
    volume.check()


@test(timeout=120, needs=(*NEEDS, "juicefs"))
def owners_are_counted_from_when_stock_says_so(t):
    """Stock counts what Redis has when it is asked for the first time, but for symlinks and special files."""
    plain = (*STAY, "do_symlink", "do_special")
    volume = volume_of(t, trash_days="1")
    m = Mount(t, volume, "--writeback", "--upload-delay=1h", BEAT)
    w = Workload(t.rng, m.path("w"), DIRS, owners=(0, 1001, 1002))
    w.steps(150, without=plain)
    m.flush()
    w.steps(150, without=plain)
    t.run(os.environ["JUICEFS"], "quota", "set", volume.url(), "--uid", "1001", "--inodes", "1")
    os.mkdir(m.path("theirs"))
    os.chown(m.path("theirs"), 1001, 1001)
    os.chmod(t.dir, 0o755)

    def refused():
        os.makedirs(m.path("new"), exist_ok=True)
        os.chown(m.path("new"), 1001, 1001)
        m.flush()  # what they own has been counted then
        w.steps(5, without=plain)
        with volume.redis.client() as c:
            return int(c("HGET", "userQuotaUsedInodes", 1001) or 0) >= 2
    wait_until(refused, what="the owner's usage in Redis")
    w.steps(100, without=plain)
    w.close()
    m.umount(flush=True)
    volume.check()
    t.run(os.environ["JUICEFS"], "quota", "check", volume.url(), "--uid", "1001")


def limits(volume, **fields):
    """As `juicefs config`: --capacity and --inodes; in bytes here."""
    with volume.redis.client() as c:
        setting = json.loads(c("GET", "setting"))
        c("SET", "setting", json.dumps({**setting, **fields}, indent=0))


@test(timeout=60, needs=NEEDS)
def the_volume_itself_is_full(t):
    volume = volume_of(t)
    limits(volume, Capacity=8 * PAGE, Inodes=4)
    m = Mount(t, volume, "--writeback", BEAT)
    assert answer(write, m.path("a"), 5 * PAGE) == 0
    assert answer(os.mkdir, m.path("d")) == 0
    assert answer(write, m.path("a"), 7 * PAGE) == 0
    assert answer(write, m.path("a"), 1, 7 * PAGE) == "ENOSPC" and answer(grow, m.path("a"), 7 * PAGE + 1) == "ENOSPC"
    assert answer(os.symlink, "x", m.path("l")) == "ENOSPC"
    assert answer(allocate, m.path("a"), 0, 0, 7 * PAGE + 1) == "ENOSPC"
    st = os.statvfs(m.dir)
    assert (st.f_blocks, st.f_bavail, st.f_files, st.f_ffree) == (8, 0, 4, 2), st
    limits(volume, Capacity=100 * PAGE, Inodes=4)  # while mounted
    wait_until(lambda: answer(os.symlink, "x", m.path("l")) == 0 or None, what="the larger capacity")
    assert answer(write, m.path("b"), 0) == 0
    assert answer(write, m.path("c"), 0) == "ENOSPC", "four inodes"
    os.unlink(m.path("a"))
    wait_until(lambda: answer(write, m.path("c"), 95 * PAGE) == 0, what="the room of the file that the kernel let go")
    m.kill()
    m.end()
    m.mount()
    assert answer(write, m.path("c"), 1, 97 * PAGE) == "ENOSPC" and answer(write, m.path("c"), 1, 96 * PAGE) == 0
    limits(volume, Capacity=0, Inodes=0)
    wait_until(lambda: answer(write, m.path("e"), 10 * PAGE) == 0 or None, what="no limits")
    m.umount(flush=True)
    volume.check()


@test(timeout=60, needs=NEEDS)
def df_shows_the_quota(t):
    """As in stock: the nearest quota is the file system, what is left may be less because of one above."""
    volume = volume_of(t)
    m = Mount(t, volume, "--writeback")
    os.makedirs(m.path("q/in/deep"))
    write(m.path("q/f"), 3 * PAGE)
    write(m.path("q/in/f"), 2 * PAGE)
    m.umount(flush=True)
    set_quota(volume, "q", 10 * PAGE, 20)
    set_quota(volume, "q/in", 6 * PAGE)
    m.mount()

    def shown(path):
        st = os.statvfs(path)
        return st.f_blocks, st.f_bavail, st.f_files - st.f_ffree, st.f_ffree
    assert shown(m.path("q")) == (10, 3, 4, 16), shown(m.path("q"))
    assert shown(m.path("q/f")) == (10, 3, 4, 16)
    assert shown(m.path("q/in/deep")) == (6, 3, 2, 16), shown(m.path("q/in/deep"))
    assert shown(m.dir)[0] > 1 << 30
    m.umount(flush=True)
    for top in ("/q/in", "/q"):
        sub = Mount(t, volume, "--subdir", top, name="sub")
        assert shown(sub.dir)[:2] == ((6, 3) if top == "/q/in" else (10, 3)), shown(sub.dir)
        assert answer(write, sub.path("g"), 4 * PAGE) == "EDQUOT", "of the directories above as well"
        assert answer(write, sub.path("g"), 3 * PAGE) == 0
        os.unlink(sub.path("g"))
        sub.umount(flush=True)
        volume.check()
    if os.environ.get("JUICEFS"):
        stock = StockMount(t, volume.url(), "--subdir", "/q/in", read_only=False)
        assert shown(stock.dir) == (6, 3, 2, 16), shown(stock.dir)
        stock.umount()
        stock, ours = StockMount(t, volume.url(), name="looks"), Mount(t, volume, "--read-only", name="reader")
        assert shown(stock.path("q")) == shown(ours.path("q")), "a read-only mount keeps no quotas"


@test(timeout=90, needs=NEEDS)
def what_was_never_loaded_moves(t):
    """Into a quota and out of it, by a mount that has seen neither the tree nor the other names of a file."""
    volume = volume_of(t)
    m = Mount(t, volume, "--writeback")
    for d in ("q", "free/t/u/v", "free/t/w"):
        os.makedirs(m.path(d))
    for i in range(5):
        write(m.path("free/t/u", f"f{i}"), (i + 1) * PAGE)
    write(m.path("free/one"), PAGE)
    os.link(m.path("free/one"), m.path("q/other"))
    m.umount(flush=True)
    set_quota(volume, "q", 20 * PAGE, 11)  # the tree: 4 directories, 5 files of 15 pages
    fresh = Mount(t, volume, "--writeback", name="fresh")
    assert answer(grow, fresh.path("free/one"), 2 * PAGE) == 0, "its name in q uses two pages now"
    assert answer(os.rename, fresh.path("free/t"), fresh.path("q/t")) == "EDQUOT", "19 pages, 18 are left"
    assert answer(grow, fresh.path("free/one"), PAGE) == 0
    assert answer(os.rename, fresh.path("free/t"), fresh.path("q/t")) == 0
    assert os.statvfs(fresh.path("q")).f_bavail == 0
    assert answer(grow, fresh.path("free/one"), 2 * PAGE) == "EDQUOT"
    assert answer(os.rename, fresh.path("q/t"), fresh.path("free/t")) == 0
    assert os.statvfs(fresh.path("q")).f_bavail == 19
    fresh.umount(flush=True)
    volume.check()


@test(timeout=120, needs=NEEDS)
def p8_usage_is_exact_after_redis_forgot(t):
    """Redis shows an earlier state, also one from before a quota was counted: what is sent again counts once."""
    volume = volume_of(t, trash_days="1")
    count_owners(volume)
    set_owner_quota(volume, "user", 1001)
    m = Mount(t, volume, "--writeback", BEAT, query="batch_size=100")
    w = Workload(t.rng, m.path("w"), DIRS, owners=(0, 1001, 1002))
    w.steps(100, without=STAY)
    m.flush()
    for d, inodes in (("a", 1000), ("b", 60)):
        set_quota(volume, "w/" + d, -1, inodes)
        old = volume.keys()  # the daemon has not counted the quota yet, or just has
        w.steps(200, without=STAY)
        m.flush()
        volume.put_back(old)
        w.steps(100, without=STAY)
        m.flush()
        volume.settle()  # a quota that was counted when Redis forgot it is put once more after a heartbeat
    w.close()
    m.umount(flush=True)
    assert len(volume.check().table("dirQuotaUsedInodes")) == 2


@test(timeout=90, needs=NEEDS)
def offline_mounts_keep_quotas(t):
    """Without Redis, a crash included, what was known counts; when it is back, before anything of ours is there, what others have
    set meanwhile."""
    server = RedisServer(t)
    volume = Volume(t, server).format("--block-size", "64", "--trash-days", "0")
    count_owners(volume)
    for kind, who, limits in (("user", 1001, (12 * PAGE, -1)), ("group", 1002, (-1, 4))):
        set_owner_quota(volume, kind, who, *limits)
    m = Mount(t, volume, "--writeback", name="before")
    os.makedirs(m.path("q/in"))
    os.makedirs(m.path("later"))
    write(m.path("q/f"), 3 * PAGE)
    os.chown(m.path("q/f"), 1001, 1002)
    m.umount(flush=True)
    for path, limits in (("q", (-1, 4)), ("q/in", (9 * PAGE, -1))):
        set_quota(volume, path, *limits)
    m = Mount(t, volume, "--writeback", BEAT)
    tree.scan(m.dir)  # what has never been read here is not here; nor are names of a file from before there were quotas
    os.link(m.path("q/f"), m.path("q/in/f"))
    m.umount(flush=True)
    set_quota_limits(volume, "q/in", 10 * PAGE)  # by somebody, before Redis went away
    server.stop()
    m.mount("--offline", "--upload-delay=1h")
    assert os.statvfs(m.path("q/in")).f_blocks == 9, "what was known last"
    os.mkdir(m.path("q/in/d"))
    m.kill()
    m.end()
    m.mount("--offline", "--upload-delay=1h")
    assert answer(write, m.path("q/f"), 1, 8 * PAGE) == "EDQUOT", "9 pages in q/in, one is the directory's"
    os.rmdir(m.path("q/in/d"))
    assert answer(write, m.path("q/f"), 1, 9 * PAGE - 1) == 0
    assert answer(write, m.path("q/f"), 1, 9 * PAGE) == "EDQUOT"
    assert answer(os.mkdir, m.path("q/in/d")) == "EDQUOT"
    assert answer(write, m.path("q/g"), 2 * PAGE) == 0
    assert answer(os.mkdir, m.path("q/d")) == "EDQUOT", "of four names one is q/in, two are the file's"
    for i in range(3):
        write(m.path("later", f"f{i}"), PAGE)
        os.chown(m.path("later", f"f{i}"), 1001, 1002)
    server.start()
    wait_until(lambda: os.statvfs(m.path("q/in")).f_blocks == 10, what="the limit of somebody else")
    with volume.redis.client() as c:
        assert c("HGET", "userQuotaUsedSpace", 1001) == str(3 * PAGE).encode(), "nothing of ours is there yet"
    assert answer(write, m.path("later/f0"), 1, PAGE) == "EDQUOT", "the owner's, who has 12 pages"
    os.truncate(m.path("q/f"), 8 * PAGE)
    assert answer(write, m.path("later/f0"), 1, PAGE) == 0
    set_quota(volume, "later", -1, 3)
    wait_until(lambda: answer(os.mkdir, m.path("later/x")) == "EDQUOT" or os.rmdir(m.path("later/x")), what="a quota that is new")
    m.umount(flush=True)
    volume.check()


if __name__ == "__main__":
    sys.exit(main())
