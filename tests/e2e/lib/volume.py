"""Volumes and mounts for tests: ours (Volume, Mount) and stock JuiceFS's (Stock, StockMount)."""
import contextlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time

import keycheck
import keycompare
import keyspace
import scenario
from core import BUILD, CommandError, children_of, descendants_of, mounts_below, wait_until
from resp import Resp

JFS = os.path.join(BUILD, "jfs")
JFS_RECOVER = os.path.join(BUILD, "jfs-recover")
TRANSPORT, PACK = os.environ.get("JFS_TEST_TRANSPORT"), os.environ.get("JFS_TEST_PACK")


class Volume:
    """A volume in one database of a RedisServer. The bucket is a folder of the test, or an S3 one (`s3`: a Swift).

    Constructing does not format: format() makes a new volume with `jfs format`, load_fixture() a stock one."""

    def __init__(self, t, redis, name="vol", db=0, s3=None):
        self.t, self.redis, self.name, self.db, self.s3 = t, redis, name, db, s3
        self.bucket = s3.bucket_url(name) if s3 else os.path.join(t.folder("bucket"), "")

    def url(self, query="", port=None):
        return self.redis.url(self.db, query, port)

    def format(self, *options, bucket=None, tool=JFS):
        if self.s3:
            where = ["--storage", "s3", "--bucket", bucket or self.bucket]
            env = {"ACCESS_KEY": self.s3.access, "SECRET_KEY": self.s3.secret}
        else:
            self.bucket = bucket or self.bucket
            where, env = ["--storage", "file", "--bucket", self.bucket], {}
        self.t.run(tool, "format", *where, *options, self.url(), self.name, env=env)
        return self

    def load_fixture(self, name):
        """A stock volume from tests/golden/fixtures, its objects copied into the bucket folder."""
        source = os.path.join(scenario.FIXTURES, name)
        keys = keyspace.read_file(os.path.join(source, "keyspace.json"))
        self.name = keyspace.setting_of(keys)["Name"]
        if os.path.isdir(os.path.join(source, "objects")):
            shutil.copytree(os.path.join(source, "objects"), self.bucket, dirs_exist_ok=True)
        else:
            scenario.make_objects(keyspace.Keyspace(keys), self.bucket)
        self.bucket = scenario.bucket_folder(name, self)
        with self.redis.client(self.db) as c:
            keyspace.load_db(c, keys, bucket=self.bucket)
        return self

    def keys(self):
        with self.redis.client(self.db) as c:
            return keyspace.dump_db(c)

    def put_back(self, keys):
        """Redis is what it was when `keys` were taken: it restarted without its last second, or a replica that lagged took over."""
        with self.redis.client(self.db) as c:
            keyspace.replace_db(c, keys)

    def made_beside(self, name, kind=1):
        """What a stock client writes when it makes an empty file or directory (2) in the root; the inode number."""
        now = int(time.time())
        mode = kind << 12 | (0o755 if kind == 2 else 0o644)
        with self.redis.client(self.db) as c:
            ino = int(c("INCR", "nextinode"))
            record = struct.pack(">BHIIqIqIqIIQIQ", 0, mode, 0, 0, now, 0, now, 0, now, 0, kind == 2 and 2 or 1, 4096 if kind == 2 else 0, 0, 1)
            c("SET", f"i{ino}", record + b"\0")
            c("HSET", "d1", name, struct.pack(">BQ", kind, ino))
            c("INCRBY", "usedSpace", 4096)
            c("INCR", "totalInodes")
            c("HINCRBY", "dirUsedSpace", 1, 4096)
            c("HINCRBY", "dirUsedInodes", 1, 1)
            if kind == 2:
                root = bytearray(c("GET", "i1"))
                root[47:51] = struct.pack(">I", struct.unpack(">I", root[47:51])[0] + 1)
                c("SET", "i1", bytes(root))
                for h in ("dirDataLength", "dirUsedSpace", "dirUsedInodes"):
                    c("HSET", h, ino, 0)
        return ino

    def sessions(self):
        """The numbers of all stock sessions that Redis knows."""
        with self.redis.client(self.db) as c:
            return sorted(int(n) for n in c("HKEYS", "sessionInfos"))

    def keyspace(self):
        return keyspace.Keyspace(self.keys())

    def check_report(self, ks=None):
        return keycheck.check(ks or self.keyspace(), None if self.s3 else self.bucket)

    def check(self):
        """Asserts that the keyspace is consistent and every object there (of a file bucket); returns the Keyspace."""
        ks = self.keyspace()
        report = self.check_report(ks)
        assert report, "the keyspace is inconsistent:\n" + "\n".join(report.problems[:40])
        return ks


    def settle(self):
        """Waits for what a stock mount does behind the operations' back: directory statistics, deletions."""
        wait_until(self.check_report, what="a consistent keyspace")


class Mount:
    """A mount of ours in the background. Everything of it lies in the test's folder, the hot directory in /dev/shm.

    mount() is called by the constructor unless start=False. `query` goes into the META-URL, `options` to the command
    line. umount() may be followed by mount() again; kill() ends the daemon with SIGKILL and leaves the dead mount."""

    def __init__(self, t, volume, *options, query="", name="mnt", cache=None, start=True, port=None, env=None):
        self.t, self.volume, self.name = t, volume, name
        self.options, self.query, self.port, self.env = list(options), query, port, dict(env or {})
        self.dir = t.folder(name)
        self.cache = cache or t.folder(name + "-cache", 0o700)
        self.hot = os.path.join("/dev/shm", os.path.basename(t.dir) + "-" + os.path.basename(self.dir))
        self.log = os.path.join(t.log_dir, os.path.basename(self.dir) + ".log")
        self.pid = None
        t.defer(shutil.rmtree, self.hot, True)
        t.defer(self.end)
        if start:
            self.mount()

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def url(self):
        return self.volume.url(self.query, self.port)

    def command(self, *extra):
        everywhere = [f"--transport={TRANSPORT}"] if TRANSPORT else []
        everywhere += [f"--pack-below={PACK}"] if PACK else []
        if not any(o == "-f" or "log" in o for o in (*self.options, *extra)):  # what the daemon says stands beside a failure
            everywhere += ["--log", self.log.removesuffix(".log") + ".daemon.log"]
        return [JFS, "mount", self.url(), self.dir, "--cache-dir", self.cache, "--hot-dir", self.hot, *everywhere,
                *self.options, *extra]

    def mount(self, *extra, status=0, timeout=60):
        """Runs `jfs mount`; its output. With another status than 0 it must fail and leave nothing mounted."""
        secret = {}
        if self.volume.s3:
            secret = {"ACCESS_KEY": self.volume.s3.access, "SECRET_KEY": self.volume.s3.secret}
        before = children_of(os.getpid())
        text = self.t.run(*self.command(*extra), status=status, timeout=timeout, env={**secret, **self.env})
        with open(self.log, "a", encoding="utf-8") as f:
            f.write(text)
        if self.t.status == 0:
            assert self.is_mounted(), f"jfs mount says it worked, but nothing is mounted:\n{text}"
            self.pid = daemon_since(before)
        else:
            assert not self.is_mounted(), "jfs mount failed, but something is mounted"
        return text

    def is_mounted(self):
        return self.dir in mounts_below(self.t.dir)

    def umount(self, flush=False, timeout=120):
        try:
            text = self.t.run(JFS, "umount", *(["--flush"] if flush else []), self.dir, timeout=timeout)
        except CommandError as e:
            raise CommandError("\n".join([str(e), *users_of(self.dir)])) from None
        assert not self.is_mounted(), "still mounted after jfs umount"
        self.wait_daemon()
        return text

    def remount(self, *extra, flush=False):
        self.umount(flush)
        self.mount(*extra)

    def wait_daemon(self, timeout=30):
        """Waits until the daemon has ended; returns its wait status."""
        pid, self.pid = self.pid, None
        if pid is None:
            return None
        return wait_until(lambda: reap(pid), timeout, f"the end of the daemon, pid {pid}")[1]

    def signal(self, number):
        os.kill(self.pid, number)

    def freeze(self):
        """SIGSTOP, and waits until no thread runs any more: the others go on until one of them is scheduled and takes the signal,
        and one that waits for the disk stops only behind that."""
        self.signal(signal.SIGSTOP)

        def stopped(task):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                with open(f"/proc/{self.pid}/task/{task}/stat", encoding="ascii", errors="replace") as f:
                    return f.read().rpartition(")")[2].split()[0] in "tT"
        wait_until(lambda: all(map(stopped, os.listdir(f"/proc/{self.pid}/task"))), what="a daemon that stands still")

    def kill(self):
        """kill -9, as seen from the users of the mount: it stays there, dead, until somebody detaches it."""
        self.signal(signal.SIGKILL)
        self.wait_daemon()

    def end(self):
        """For the end of a test: whatever the state, no daemon and no mount afterwards."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGCONT)
            self.kill()
        subprocess.run(["umount", "-l", self.dir], stderr=subprocess.DEVNULL, check=False)

    def flush(self, timeout=120):
        return self.t.run(JFS, "flush", self.dir, timeout=timeout)

    def status(self):
        return json.loads(self.t.run(JFS, "status", "--json", self.dir))

    def stats(self):
        return parse_stats(self.path(".stats"))

    def wait_stat(self, name, wanted=lambda v: v == 0, timeout=60):
        return wait_until(lambda: wanted(self.stats()[name]) or None, timeout, f"{name} in .stats")


def users_of(folder):
    """Who may keep a mount busy, a line for each: by a file, a folder or a mapping in it, or by a mount table of its own."""
    out = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        at = f"/proc/{pid}"
        with contextlib.suppress(OSError):  # it has ended
            names = ["cwd", "root", *(f"fd/{n}" for n in os.listdir(at + "/fd"))]
            used = {os.readlink(f"{at}/{n}") for n in names if os.path.lexists(f"{at}/{n}")}
            with open(at + "/maps", encoding="utf-8", errors="replace") as f:
                used |= {line.split(maxsplit=5)[5].rstrip("\n") for line in f if folder in line}
            used = sorted(p for p in used if p == folder or p.startswith(folder + "/"))
            if os.readlink(at + "/ns/mnt") != os.readlink("/proc/self/ns/mnt"):
                used.append("a mount table of its own")
            if used:
                with open(at + "/comm", encoding="utf-8", errors="replace") as f:
                    out.append(f"process {pid} ({f.read().strip()}) uses {', '.join(used[:3])}")
    return out


def parse_stats(path):
    """{name without juicefs_: number}. Of lines with the same name the sum."""
    out = {}
    with open(path, encoding="ascii") as f:
        for line in f:
            m = re.fullmatch(r"(\S+) (-?[0-9.]+)\n", line)
            assert m, f"malformed line in .stats: {line!r}"
            name = m[1].removeprefix("juicefs_")
            out[name] = out.get(name, 0) + (float(m[2]) if "." in m[2] else int(m[2]))
    return out


def reap(pid):
    """(pid, wait status) once it has ended, else None. A process that is not our child counts as (pid, None)."""
    try:
        done, status = os.waitpid(pid, os.WNOHANG)
        return (pid, status) if done else None
    except ChildProcessError:
        return None if os.path.exists(f"/proc/{pid}") else (pid, None)


def daemon_since(before):
    """The daemon that has gone into the background, and so has become a child of the test's process. (Its command line
    says nothing: daemons overwrite it to hide secrets.)"""
    new = [p for p in children_of(os.getpid()) if p not in before]
    assert new, "no daemon is running after the mount command"
    return next((p for p in new if has_fuse_open(p)), new[0])


def has_fuse_open(pid):
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/fuse":
                return True
    return False


class Stock:
    """Commands of the stock client, taken from $JUICEFS, on a META-URL."""

    def __init__(self, t, url, timeout=120):
        self.t, self.url, self.binary, self.timeout = t, url, os.environ["JUICEFS"], timeout

    def run(self, verb, *args, url=None, timeout=None, status=0, env=None):
        return self.t.run(self.binary, verb, url or self.url, *args, timeout=timeout or self.timeout, status=status, env=env)

    def quiet(self, verb, *args, env=None):
        """The command must succeed and find nothing: no warning, no error, and of gc no object that is not valid."""
        text = self.run(verb, *args, env=env)
        bad = [line for line in text.splitlines()
               if re.search(r"<(WARNING|ERROR|FATAL)>", line) and "Set storage tier: not supported" not in line]
        for line in re.findall(r"scanned \d+ objects, .*", text):
            counts = re.findall(r"(\d+) (pending delete|compacted|leaked|delslices|delfiles)", line)
            bad += [f"gc: {n} {what}" for n, what in counts if n != "0"]
        if bad:
            raise CommandError(f"juicefs {verb} {' '.join(args)}: " + "; ".join(bad))
        return text

    def find_nothing(self, **env):
        """fsck and gc are content with the volume, and gc --delete finds nothing to delete. Objects that nothing names
        are skipped by gc while they are younger than an hour; JFS_GC_SKIPPEDTIME="0" changes that."""
        self.quiet("fsck")
        self.quiet("gc", env=env)
        self.quiet("gc", "--delete", env=env)
        while True:
            try:
                self.quiet("fsck", "--path", "/", "-r", "--sync-dir-stat")
                break
            except CommandError as e:
                if not self.root_was_invented(str(e)):
                    raise

    def root_was_invented(self, text):
        """Stock takes attributes of its own for the root (a link count of 2, for one) if Redis has not answered within 300 ms."""
        found = re.search(r"nlink of / should be (\d+), but got 2\b", text)
        if not found or len(re.findall("<WARNING>|<ERROR>", text)) > 2 + text.count("Set storage tier: not supported"):
            return False
        with Resp(self.url) as c:
            return keyspace.Keyspace(keyspace.dump_db(c)).inodes[1].nlink == int(found[1])

    def dump_and_load(self, volume, url):
        """Dumps the volume as JSON and loads it into the empty database `url`; both must hold the same."""
        path = self.t.path("dump.json")
        self.run("dump", path)
        self.run("load", path, url=url)
        with Resp(url) as c:
            loaded = keyspace.Keyspace(keyspace.dump_db(c))
        report = keycheck.check(loaded)
        assert report, f"the loaded volume is inconsistent: {report.problems}"
        # What load makes anew: dirDataLength by another rule than mounts, a trash root in any case, and the parent of a
        # file that has one name left of several.
        ignore = (r"dirDataLength .*", r"(inode|dir\w+) /\.trash", "links .*", "open", "delfiles")
        lines = keycompare.differences(volume.keyspace(), loaded, ignore=ignore, leave_out=("parent",))
        assert not lines, "dump and load changed the volume:\n" + "\n".join(lines[:40])


class StockMount:
    """A stock mount, read-only unless told otherwise, with a cache directory of its own."""

    def __init__(self, t, url, *options, read_only=True, name="stock"):
        self.t, self.dir = t, t.folder(name)
        self.mounted = False
        t.defer(self.end)
        before = children_of(os.getpid())
        t.run(os.environ["JUICEFS"], "mount", "-d", "--no-usage-report", "--backup-meta", "0", "--enable-xattr",
              "--cache-dir", t.folder(name + "-cache"), "--log", os.path.join(t.log_dir, name + ".log"),
              *(["--read-only"] if read_only else []), *options, url, self.dir)
        wait_until(lambda: self.dir in mounts_below(t.dir), what="the stock mount")
        self.mounted = True
        self.pid = daemon_since(before)  # the supervisor, which starts the client anew should it end

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def umount(self):
        self.t.run(os.environ["JUICEFS"], "umount", self.dir)
        self.mounted = False
        wait_until(lambda: self.dir not in mounts_below(self.t.dir), what="the end of the stock mount")
        wait_until(lambda: reap(self.pid), what="the end of the stock client")

    def end(self):
        if self.mounted:
            for pid in (self.pid, *descendants_of(self.pid)):
                os.kill(pid, signal.SIGKILL)
            subprocess.run(["umount", "-l", self.dir], stderr=subprocess.DEVNULL, check=False)
