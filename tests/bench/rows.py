"""The rows of the benchmark table: which file systems are compared, and what each promises when its time is taken.

A row mounts itself, says where to work, and afterwards how long its backlog took to reach Redis and S3."""
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(ROOT, "tests/e2e/lib"), os.path.join(ROOT, "fault-injection")]
import core  # noqa: E402
import harness  # noqa: E402
import ring  # noqa: E402
from faults import tool  # noqa: E402
from powercut import loop_mount  # noqa: E402


class Row:
    """`waits`: an operation waits for the network, so this row runs fewer files. `floor`: the row without work on the same
    transport; None: the one chosen on the command line. `dir` is set by start()."""
    waits = False
    drains = False
    floor = None

    def __init__(self, key, label, durable):
        self.key, self.label, self.durable = key, label, durable
        self.dir = None

    def missing(self):
        """Why this row cannot run, or None."""
        return None

    def after_create(self):
        """Called right after files were created, for figures that only exist then; a text or ""."""
        return ""

    def settle(self):
        """Called between measurements: waits until nothing goes on in the background that would disturb others."""

    def drain(self, directory, count):
        """(seconds until Redis shows `count` names in `directory`, seconds until S3 has all blocks)."""
        return None, None


class Native(Row):
    def __init__(self, t):
        super().__init__("ext4", "ext4 on a loop image", "nothing: page cache; ext4 commits within 5 s")
        self.t = t

    def start(self):
        self.dir = loop_image(self.t, "native", 1 << 30)


class Null(Row):
    def __init__(self, t, key, label, *options):
        super().__init__(key, label, "nothing, ever")
        self.t, self.options, self.process = t, options, None

    def start(self):
        self.dir = self.t.folder(self.key)
        command = [tool("tests/bench/nullfs"), self.dir, *self.options]
        self.process = process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.t.defer(self.stop, process)
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("nullfs did not start")
        # As the daemon does it for its own mount: from now on the kernel sends no RELEASE.
        path = os.path.join(self.dir, "opened")
        for flags in (os.O_CREAT | os.O_WRONLY, os.O_RDONLY):
            os.close(os.open(path, flags))
        os.unlink(path)

    def stop(self, process):
        process.terminate()
        process.wait(30)
        process.stdout.close()


class RingNull(Null):
    floor = "null-ring"

    def missing(self):
        return ring.missing()


class Networked(Row):
    """What the rows on Redis and an object store have in common: a database, a bucket, and how a backlog is watched."""
    drains = True

    def __init__(self, t, env, key, label, durable, waits, query="", options=()):
        super().__init__(key, label, durable)
        self.t, self.env, self.waits, self.query, self.options = t, env, waits, query, options
        self.volume = self.mount = None

    def make_volume(self, tool_path):
        self.volume = harness.Volume(self.t, self.env.redis, "bench" + self.key.replace("-", ""), self.env.next_db(),
                                     self.env.swift)
        bucket = None
        if self.env.swift:
            bucket = f"http://127.0.0.1:{self.env.s3_port}/{self.volume.name}"
        self.volume.format("--trash-days", "0", bucket=bucket, tool=tool_path)

    def stats(self):
        return harness.parse_stats(os.path.join(self.mount.dir, ".stats"))

    def settle(self):
        self.flush()  # or an upload delay would be waited for
        harness.wait_until(lambda: self.stats()["staging_blocks"] == 0, 900, f"{self.label}: an empty staging area")

    def flush(self):
        """Makes everything due at once, where there is such a command."""

    def drain(self, directory, count):
        """Watched from outside: the names by HLEN of the directory's hash, not through the proxy, the blocks by .stats."""
        start, redis_done = time.perf_counter(), None
        flusher = threading.Thread(target=self.flush)
        flusher.start()
        with self.env.redis.client(self.volume.db) as c:
            key = f"d{os.stat(directory).st_ino}"
            while True:
                now = time.perf_counter() - start
                if redis_done is None and c("HLEN", key) >= count:
                    redis_done = now
                if redis_done is not None and self.stats()["staging_blocks"] == 0:
                    break
                if now > 1800:
                    raise RuntimeError(f"{self.label}: not drained within 30 min")
                time.sleep(0.005)  # the resolution of the figure
        flusher.join()
        return redis_done, time.perf_counter() - start


class Jfs(Networked):
    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        if not any(o.startswith("--transport") for o in self.options):
            self.options = (*self.options, "--transport=classic")

    def missing(self):
        return core.missing("jfs")

    def start(self):
        self.make_volume(harness.JFS)
        cache = os.path.join(loop_image(self.t, "cache-" + self.key, 4 << 30), "cache")
        os.mkdir(cache, 0o700)
        self.mount = harness.Mount(self.t, self.volume, *self.options, query=self.query, name="mnt-" + self.key,
                                   cache=cache, port=self.env.redis_port)
        self.dir = self.mount.dir

    def after_create(self):
        lag = self.stats().get("durable_lag")
        return "" if lag is None else f"durable_lag {lag}"

    def flush(self):
        self.mount.flush(timeout=1800)


class RingJfs(Jfs):
    floor = "null-ring"

    def missing(self):
        return ring.missing() or super().missing()


class StockJuicefs(Networked):
    def missing(self):
        return core.missing("juicefs")

    def start(self):
        self.make_volume(os.environ["JUICEFS"])
        cache = os.path.join(loop_image(self.t, "cache-" + self.key, 4 << 30), "cache")
        os.mkdir(cache)
        env = {}
        if self.env.swift:
            env = {"ACCESS_KEY": self.env.swift.access, "SECRET_KEY": self.env.swift.secret}
        with environment(env):
            self.mount = harness.StockMount(self.t, self.volume.url(port=self.env.redis_port), "--cache-dir", cache,
                                            *self.options, read_only=False, name="mnt-" + self.key)
        self.dir = self.mount.dir


@contextlib.contextmanager
def bench_test():
    """A Test of its own folder, which is gone afterwards with everything that ran or was mounted there, also when a signal ended
    the run: then what was to be undone in order may have ended by itself, and its undoing fails."""
    core.libc.prctl(core.PR_SET_CHILD_SUBREAPER, 1)
    ends = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.signal(number, _ended) for number in ends}
    folder = tempfile.mkdtemp(prefix="jfs-bench-", dir=os.environ.get("JFS_TEST_TMP", "/var/tmp"))
    try:
        t = harness.Test("bench", folder, 1)
        try:
            yield t
        finally:
            for number in ends:
                signal.signal(number, signal.SIG_IGN)
            t.stack.close()
    finally:
        core.kill_orphans()
        core.detach_mounts(folder)
        shutil.rmtree(folder, ignore_errors=True)
        for number in ends:
            signal.signal(number, before[number])


def _ended(number, frame):
    raise SystemExit(128 + number)


@contextlib.contextmanager
def environment(extra):
    before = dict(os.environ)
    os.environ.update(extra)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def loop_image(t, name, size):
    """A fresh ext4 on a sparse image in the bench's folder; its mount point. Undone with the Test."""
    image = t.path(name + ".img")
    with open(image, "wb") as f:
        f.truncate(size)
    t.run("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", image)
    t.enter(loop_mount(image, t.path(name), opts="relatime"))
    return t.path(name)


class Environment:
    """Redis and the object store, each behind its delay."""

    def __init__(self, t, storage, redis_rtt_us, s3_rtt_us):
        self.redis = harness.RedisServer(t)
        self.redis_port = t.enter(harness.DelayProxy(self.redis.port, redis_rtt_us // 2)).port
        self.swift = self.s3_port = None
        if storage == "s3":
            self.swift = harness.Swift(t)
            self.s3_port = t.enter(harness.DelayProxy(self.swift.port, s3_rtt_us // 2)).port
        self.dbs = iter(range(16))

    def next_db(self):
        return next(self.dbs)


def all_rows(t, env):
    """The table's rows from the floor up. For the matrix see DESIGN.md 3.5 ("waits": the reply is held)."""
    s3 = "S3" if env.swift else "the bucket folder"
    journal = "the local journal (durable within --sync-interval and two flushes)"
    wb, later = ("--writeback",), ("--writeback", "--upload-delay=10m")
    rings = (*later, "--transport=io_uring")
    return [
        Native(t),
        Null(t, "null-mt", "nullfs, threads"),
        Null(t, "null-st", "nullfs, one thread", "--single"),
        Null(t, "null-classic", "nullfs, the daemon's threads", "--transport", "classic", "--threads", "4"),
        RingNull(t, "null-ring", "nullfs, rings", "--transport", "io_uring"),
        Jfs(t, env, "both-later", "jfs both, upload-delay 10m", f"data and metadata in {journal}", False, "", later),
        RingJfs(t, env, "both-ring", "jfs both, upload-delay 10m, rings", f"data and metadata in {journal}", False, "", rings),
        Jfs(t, env, "both", "jfs both (safe_batch, writeback)", f"data and metadata in {journal}", False, "", wb),
        Jfs(t, env, "both-unsafe", "jfs both, unsafe_batch", f"data and metadata in {journal}", False,
            "unsafe_batch=1", wb),
        Jfs(t, env, "data", "jfs safe_batch, data waits", f"data in {s3} at close, metadata in {journal}", True),
        Jfs(t, env, "data-unsafe", "jfs unsafe_batch, data waits", f"data in {s3} at close, metadata in {journal}", True,
            "unsafe_batch=1"),
        Jfs(t, env, "meta", "jfs writeback, metadata waits", f"metadata in Redis, data in {journal}", True,
            "safe_batch=0", wb),
        Jfs(t, env, "neither", "jfs neither (safe_batch=0)", f"metadata in Redis, data in {s3}", True, "safe_batch=0"),
        StockJuicefs(t, env, "stock-wb", "JuiceFS --writeback", "metadata in Redis, data in the page cache (no fsync)", True,
                     "", wb),
        StockJuicefs(t, env, "stock", "JuiceFS", f"metadata in Redis, data in {s3}", True),
    ]


def remove_tree(path):
    """Not part of any figure; the kernel's caches of the mount see it as any removal."""
    shutil.rmtree(path)
