"""Programs that people run on file systems, with what must hold afterwards. Each takes the test and a mount (common.py)."""
import io
import multiprocessing
import os
import random
import sqlite3
import sys
import tarfile
import time

from common import HERE, drained, idle, report
from harness import Mount, wait_until

WORDS = ("static", "int", "struct", "device", "return", "if", "unsigned", "long", "register", "lock", "page", "node", "bus")


class Clock:
    """Says how long each part took."""

    def __init__(self, t):
        self.t, self.at = t, time.monotonic()

    def __call__(self, what):
        now = time.monotonic()
        report(self.t, f"{what}: {now - self.at:.1f} s")
        self.at = now


# --- git ---

def git_repository(t, commits=1500, files=3000):
    """A repository of seeded history, on the native file system."""
    path, rng, stream = t.path("origin.git"), random.Random(t.seed), t.path("stream")
    with open(stream, "wb") as f:
        for i in range(commits):
            f.write(b"commit refs/heads/main\ncommitter n <e> %d +0000\ndata 1\nx\n" % (10**9 + i))
            for _ in range(rng.randrange(1, 20)):
                n = rng.randrange(files)
                name = f"d{n % 7}/d{n % 41}/f{n}.c"
                if rng.randrange(15):
                    body = source_text(random.Random(n), 3000 + n) + source_text(rng, rng.randrange(2000))
                    f.write(f"M 100644 inline {name}\ndata {len(body)}\n".encode() + body + b"\n")
                else:
                    f.write(f"D {name}\n".encode())
    t.run("git", "init", "-q", "--bare", "-b", "main", path)
    with open(stream, "rb") as f:
        t.run("git", "-C", path, "fast-import", "--quiet", stdin=f, timeout=600)
    return path


def git_clone_fsck_gc(t, m):
    origin, work, clock = git_repository(t), m.path("clone"), Clock(t)
    env = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory",
           "GIT_CONFIG_VALUE_0": "*"}

    def git(*words, folder=work):
        return t.run("git", "-C", folder, *words, env=env, timeout=1800)
    git("clone", "-q", "--no-local", origin, work, folder=t.dir)
    clock("git clone")
    git("fsck", "--full", "--no-dangling")
    clock("git fsck")
    head = git("rev-parse", "HEAD^{tree}").strip()
    for i in range(20):
        with open(os.path.join(work, f"added-{i}"), "wb") as f:
            f.write(t.rng.randbytes(t.rng.randrange(200_000)))
        git("add", f"added-{i}")
        git("-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", f"number {i}")
    git("gc", "-q", "--prune=now")
    clock("20 commits and git gc")
    git("fsck", "--full", "--no-dangling")
    git("reset", "-q", "--hard", "HEAD~20")
    assert git("write-tree").strip() == head, "the index is not that of the tree that was cloned"
    assert git("status", "--short") == "", "files differ from the index"
    git("gc", "-q", "--auto")
    clock("git reset and status")


# --- a tree like a kernel's ---

def source_text(rng, size):
    line = " ".join(rng.choices(WORDS, k=200)) + "\n"
    text = "".join(f"/* {rng.random()} */ " + line[rng.randrange(200):] for _ in range(size // 800 + 1))
    return text[:size].encode()


def write_kernel_like(path, seed, files):
    """A tar archive: directories of some dozen files, four deep, mostly small files, some large, some symlinks, some
    executable. Returns the paths of the files that hold the word NEEDLE."""
    rng, needles = random.Random(seed), set()
    folders = ["src"]
    for _ in range(files // 14):
        parent = rng.choice(folders)
        folders.append(parent if parent.count("/") >= 6 else f"{parent}/d{len(folders)}")
    folders = sorted(set(folders))
    with tarfile.open(path, "w") as tar:
        for folder in folders:
            info = tarfile.TarInfo(folder)
            info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, rng.randrange(10**9)
            tar.addfile(info)
        for i in range(files):
            name = f"{rng.choice(folders)}/f{i}.{rng.choice('ch')}"
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = rng.choice((0o644, 0o644, 0o644, 0o755)), rng.randrange(10**9)
            if i % 100 == 99:
                info.type, info.linkname = tarfile.SYMTYPE, f"../f{i}"
                tar.addfile(info)
                continue
            body = source_text(rng, min(int(rng.lognormvariate(7.6, 1.2)), 400_000))
            if i % 500 == 0:
                body += b"NEEDLE"
                needles.add(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return needles


def kernel_like_tree(t, m, files):
    archive = t.path("tree.tar")
    needles = write_kernel_like(archive, t.seed, files)
    clock = Clock(t)
    report(t, f"{files} files, {os.path.getsize(archive) >> 20} MiB")
    t.run("tar", "-xf", archive, "-C", m.dir, timeout=3600)
    clock("unpack")
    seen = t.run("find", m.path("src"), "-not", "-type", "d", "-printf", "%s %m %T@\n", timeout=1800).splitlines()
    assert len(seen) == files, f"{len(seen)} files"
    clock("stat")
    t.run("tar", "-df", archive, "-C", m.dir, timeout=1800)
    clock("compare with the archive")
    found = t.run("grep", "-rl", "NEEDLE", "src", cwd=m.dir, timeout=1800).split()
    assert set(found) == needles and len(found) == len(needles), f"{len(found)} of {len(needles)} found"
    clock("grep")
    before = drained(t, m)
    clock("drain, compare with an empty cache, stock's tools")
    m.mount()
    t.run("rm", "-r", m.path("src"), timeout=3600)
    clock("remove")
    assert os.listdir(m.dir) == []
    drained(t, m)
    with m.volume.redis.client(m.volume.db) as c:
        assert int(c("GET", "totalInodes")) == 0 and int(c("GET", "usedSpace")) == 0
    clock("drain and stock's tools")
    return before


# --- one directory ---

def make_entries(folder, numbers):
    for n in numbers:
        os.close(os.open(f"{folder}/entry-{n}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))


def listed(folder):
    """The names' numbers; each comes once."""
    with os.scandir(folder) as it:
        names = [e.name for e in it]
    numbers = {int(name.partition("-")[2]) for name in names}
    assert len(numbers) == len(names), "a name came twice"
    return numbers


def entries_of_one_directory(t, m, count):
    """Made by four processes, listed, removed by halves: while the list is read, and after it was loaded into an empty cache."""
    folder, clock = m.path("all"), Clock(t)
    os.mkdir(folder)
    makers = [multiprocessing.Process(target=make_entries, args=(folder, range(k, count, 4))) for k in range(4)]
    for p in makers:
        p.start()
    for p in makers:
        p.join()
        assert p.exitcode == 0
    clock(f"{count} entries made by four processes")
    assert listed(folder) == set(range(count))
    clock("list")
    for n in t.rng.sample(range(count), 1000):
        assert os.path.exists(f"{folder}/entry-{n}") and not os.path.exists(f"{folder}/entry-{n + count}")
    with os.scandir(folder) as it:  # every second one goes while the list is read
        seen = [e.name for e in it if not int(e.name.partition("-")[2]) % 2 or os.unlink(e.path)]
    assert len(seen) == count // 2, f"{len(seen)} of those that stayed were seen"
    clock("remove one half while it is read")
    idle(m)
    m.umount(flush=True, timeout=3600)
    clock("drain")
    m.volume.check()
    fresh = Mount(t, m.volume, "--writeback", name="fresh")
    assert listed(fresh.path("all")) == set(range(0, count, 2))
    clock("list with an empty cache")
    t.run("rm", "-r", fresh.path("all"), timeout=3600)
    clock("remove the rest")
    drained(t, fresh)
    with m.volume.redis.client(m.volume.db) as c:
        assert int(c("GET", "totalInodes")) == 0 and int(c("GET", "usedSpace")) == 0
    clock("drain and stock's tools")


# --- sqlite ---

def acked_number(path):
    with open(path, "rb") as f:
        lines = f.read().split(b"\n")
    return int(lines[-2]) if len(lines) > 1 else 0


def database_state(path):
    """(number of transactions, all rows) of a database that is whole."""
    db = sqlite3.connect(path, timeout=60)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)], db.execute("PRAGMA integrity_check").fetchall()[:5]
    state = db.execute("SELECT n FROM done").fetchone()[0], db.execute("SELECT * FROM account ORDER BY id").fetchall()
    db.close()
    return state


def expected_rows(t, mode, sync, seed, count):
    """What the same transactions leave on the native file system."""
    path = t.path(f"expected-{mode}-{sync}-{seed}-{count}")
    t.run(sys.executable, os.path.join(HERE, "sqlite_load.py"), path, mode, "off", seed, count, os.devnull, timeout=600)
    return database_state(path)


def sqlite_with_kills(t, m, mode, sync, transactions, kills):
    """The daemon is killed in the middle; what was committed is there, whole; and the load goes on."""
    path, acked = m.path(f"{mode}-{sync}.db"), t.path(f"{mode}-{sync}.acked")
    done = 0

    def start(seed, count):
        return t.spawn(sys.executable, os.path.join(HERE, "sqlite_load.py"), path, mode, sync, seed, count, acked,
                       name="sqlite")
    with open(acked, "wb"):
        pass
    for life in range(kills):
        load = start(f"{t.seed}-{life}", 10**9)
        goal = done + transactions
        wait_until(lambda goal=goal, load=load: load.poll() is not None or acked_number(acked) >= goal, 3000,
                   "transactions")
        assert load.poll() is None, "the load ended by itself"
        m.kill()
        assert load.wait(60) == 3, "the load did not notice"
        m.mount()
        known = acked_number(acked)
        done, rows = database_state(path)
        assert known <= done <= known + 1, f"{known} transactions were acknowledged, {done} are there"
        if life == 0:
            assert (done, rows) == expected_rows(t, mode, sync, f"{t.seed}-0", done), "rows differ"
    assert start(f"{t.seed}-last", transactions).wait(600) == 0
    idle(m)
    assert database_state(path)[0] == done + transactions
    report(t, f"{mode}, {sync}: {done + transactions} transactions, {kills} kills")
