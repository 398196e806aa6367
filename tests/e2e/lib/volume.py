"""Volumes and mounts for tests: ours (Volume, Mount) and stock JuiceFS's (Stock, StockMount)."""
import json
import os
import re
import shutil
import signal
import subprocess

import keycheck
import keyspace
from core import BUILD, ROOT, CommandError, children_of, command_line, descendants_of, mounts_below, wait_until

JFS = os.path.join(BUILD, "jfs")
JFS_RECOVER = os.path.join(BUILD, "jfs-recover")
FIXTURES = os.path.join(ROOT, "tests/golden/fixtures")


def fixture_scenario(name):
    with open(os.path.join(FIXTURES, name, "scenario.json"), encoding="utf-8") as f:
        return json.load(f)


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
        source = os.path.join(FIXTURES, name)
        if os.path.isdir(os.path.join(source, "objects")):
            shutil.copytree(os.path.join(source, "objects"), self.bucket, dirs_exist_ok=True)
        self.bucket += fixture_scenario(name).get("bucket", "").strip("/")
        self.bucket = os.path.join(self.bucket, "")
        keys = keyspace.read_file(os.path.join(source, "keyspace.json"))
        self.name = keyspace.setting_of(keys)["Name"]
        with self.redis.client(self.db) as c:
            keyspace.load_db(c, keys, bucket=self.bucket)
        return self

    def keys(self):
        with self.redis.client(self.db) as c:
            return keyspace.dump_db(c)

    def keyspace(self):
        return keyspace.Keyspace(self.keys())

    def check(self, objects=True):
        """Asserts that the keyspace is consistent and every object there; returns the Keyspace."""
        ks = self.keyspace()
        report = keycheck.check(ks, None if self.s3 or not objects else self.bucket)
        assert report, "the keyspace is inconsistent:\n" + "\n".join(report.problems)
        return ks


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
        return [JFS, "mount", self.url(), self.dir, "--cache-dir", self.cache, "--hot-dir", self.hot, *self.options, *extra]

    def mount(self, *extra, status=0, timeout=60):
        """Runs `jfs mount`; its output. With another status than 0 it must fail and leave nothing mounted."""
        secret = {}
        if self.volume.s3:
            secret = {"ACCESS_KEY": self.volume.s3.access, "SECRET_KEY": self.volume.s3.secret}
        text = self.t.run(*self.command(*extra), status=status, timeout=timeout, env={**secret, **self.env})
        with open(self.log, "a", encoding="utf-8") as f:
            f.write(text)
        if self.t.status == 0:
            assert self.is_mounted(), f"jfs mount says it worked, but nothing is mounted:\n{text}"
            self.pid = self.find_daemon()
        else:
            assert not self.is_mounted(), "jfs mount failed, but something is mounted"
        return text

    def find_daemon(self):
        """The daemon has gone into the background, and so has become a child of the test's process."""
        found = [p for p in children_of(os.getpid()) if self.dir in command_line(p)]
        found = found or [p for p in descendants_of(os.getpid()) if self.dir in command_line(p)]
        assert found, "no daemon of this mount is running"
        return found[0]

    def is_mounted(self):
        return self.dir in mounts_below(self.t.dir)

    def umount(self, flush=False, timeout=120):
        text = self.t.run(JFS, "umount", *(["--flush"] if flush else []), self.dir, timeout=timeout)
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


class Stock:
    """Commands of the stock client, taken from $JUICEFS, on a META-URL."""

    def __init__(self, t, url):
        self.t, self.url, self.binary = t, url, os.environ["JUICEFS"]

    def run(self, verb, *args, url=None, timeout=120, status=0, env=None):
        return self.t.run(self.binary, verb, url or self.url, *args, timeout=timeout, status=status, env=env)

    def must_be_silent(self, verb, *args, env=None):
        """The command must succeed and neither warn nor name an error."""
        text = self.run(verb, *args, env=env)
        bad = [line for line in text.splitlines() if re.search(r"<(WARNING|ERROR|FATAL)>", line)]
        if bad:
            raise CommandError(f"juicefs {verb}: " + "\n".join(bad))
        return text


class StockMount:
    """A stock mount, read-only unless told otherwise, with a cache directory of its own."""

    def __init__(self, t, url, *options, read_only=True, name="stock"):
        self.t, self.dir = t, t.folder(name)
        self.mounted = False
        t.defer(self.end)
        t.run(os.environ["JUICEFS"], "mount", "-d", "--no-usage-report", "--backup-meta", "0", "--enable-xattr",
              "--cache-dir", t.folder(name + "-cache"), "--log", os.path.join(t.log_dir, name + ".log"),
              *(["--read-only"] if read_only else []), *options, url, self.dir)
        wait_until(lambda: self.dir in mounts_below(t.dir), what="the stock mount")
        self.mounted = True

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def umount(self):
        self.t.run(os.environ["JUICEFS"], "umount", self.dir)
        self.mounted = False
        wait_until(lambda: self.dir not in mounts_below(self.t.dir), what="the end of the stock mount")
        wait_until(lambda: not any(self.dir in command_line(p) for p in descendants_of(os.getpid())),
                   what="the end of the stock client")

    def end(self):
        if self.mounted:
            for pid in descendants_of(os.getpid()):
                if self.dir in command_line(pid):
                    os.kill(pid, signal.SIGKILL)
            subprocess.run(["umount", "-l", self.dir], stderr=subprocess.DEVNULL, check=False)
