"""The file systems that the goals compare, mounted when they are first asked for."""
import os
import shutil
import subprocess

import rows as bench_rows
from rows import ROOT, core, harness, loop_image, tool

TRANSPORTS = {"classic": "classic", "rings": "io_uring"}


class Sides:
    """`transports`: which ways of the requests are measured, keys of TRANSPORTS; the floor and jfs are mounted once on each."""

    def __init__(self, t, transports):
        self.t, self.transports = t, transports
        self.dirs, self.made = {}, 0

    def ext4(self):
        return self.dirs.get("ext4") or self.dirs.setdefault("ext4", loop_image(self.t, "native", 4 << 30))

    def floor(self, transport, xattr=False):
        """nullfs; with `xattr` one that has extended attributes to ask for, as jfs has."""
        key = f"floor-{transport}" + ("-xattr" if xattr else "")
        if key not in self.dirs:
            row = bench_rows.Null(self.t, key, "", "--transport", TRANSPORTS[transport], *(["--xattr"] if xattr else []))
            row.start()
            self.dirs[key] = row.dir
        return self.dirs[key]

    def jfs(self, transport):
        key = f"jfs-{transport}"
        if key not in self.dirs:
            self.dirs[key] = Jfs(self.t, transport)
        return self.dirs[key].dir

    def mount_of(self, transport):
        self.jfs(transport)
        return self.dirs[f"jfs-{transport}"]

    def passthrough(self):
        """libfuse's own passthrough_ll over an ext4 of the same kind as the cache's; None when its source is not installed."""
        if "passthrough" not in self.dirs:
            source, program = "/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c", self.t.path("passthrough_ll")
            if not os.path.exists(source):
                return None
            flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
            self.t.run("cc", "-O2", "-w", "-D_GNU_SOURCE", "-o", program, source, *flags)
            below, where = loop_image(self.t, "below", 8 << 30), self.t.folder("passthrough")
            self.t.run(program, "-o", f"source={below},cache=always,timeout=3600", where)
            self.t.defer(subprocess.run, ["umount", "-l", where])
            self.dirs["passthrough"] = where
        return self.dirs["passthrough"]

    def source(self, package):
        """(the tarball of a Debian source package, None), or (None, why there is none)."""
        folder = os.environ.get("JFS_TEST_SOURCES", "/var/tmp/jfs-test-sources")
        os.makedirs(folder, exist_ok=True)
        try:
            text = self.t.run("sh", os.path.join(ROOT, "tests/e2e/lib/debsrc.sh"), package, folder, timeout=180)
        except core.CommandError as e:
            return None, f"no source of {package}: {str(e).strip().splitlines()[-1]}"
        return text.splitlines()[-1], None

    def fresh(self, top):
        self.made += 1
        path = os.path.join(top, f"b{self.made}")
        os.mkdir(path)
        return path

    def fsbench(self, top, ops, n, size, threads, *more, keep=False):
        """{operation: seconds for all n} in a folder of its own."""
        folder = top if keep else self.fresh(top)
        out = subprocess.run([tool("tests/bench/fsbench"), ops, folder, str(n), str(size), str(threads), *more],
                             stdout=subprocess.PIPE, text=True, check=True).stdout
        took = {}
        for line in out.splitlines():
            name, count, us, _, _ = line.split()
            took[name] = float(us) * int(count) / 1e6
        if not keep:
            shutil.rmtree(folder)
        return took


class Jfs:
    """A volume, Redis at 1 ms, objects in a folder, the cache on a loop image. In the foreground: a session of its own would have
    its own share of a busy machine."""

    def __init__(self, t, transport):
        self.redis = harness.RedisServer(t, name=f"redis-{transport}")
        proxy = t.enter(harness.DelayProxy(self.redis.port, 500))
        self.volume = harness.Volume(t, self.redis, name=f"goals{transport}").format("--trash-days", "0")
        cache = os.path.join(loop_image(t, f"cache-{transport}", 8 << 30), "cache")
        os.mkdir(cache, 0o700)
        self.mount = m = harness.Mount(t, self.volume, "--writeback", "--upload-delay", "10h", cache=cache, port=proxy.port,
                                       name=f"jfs-{transport}", start=False)
        process = t.spawn(*m.command("--foreground", f"--transport={TRANSPORTS[transport]}"), name=f"jfs-{transport}")
        t.defer(process.wait, 60)
        t.defer(subprocess.run, ["umount", m.dir])
        core.wait_until(lambda: os.path.exists(m.path(".config")), what="the mount")
        self.daemon, self.dir = process.pid, m.dir
