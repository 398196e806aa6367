"""Goals for small files that share objects: S3's requests to store them, and the first read of all on a host that has no cache.

S3 is counting_s3.py, 10 ms away, Redis 1 ms. Stock reads the same files where each is an object of its own, as it stores them itself;
both mounts are new for each order, both run in the background, one thread reads. Listing the directory is part of the time, mounting
is not. With fewer files for stock than for ours the times of one file are compared: stock's grows with their number, ours has a part
that does not."""
import os
import random
import time

from bench import say
from counting_s3 import CountingS3
from goals_sides import TRANSPORTS
from rows import core, environment, harness

S3_MS, REDIS_MS, SIZE, SEED = 10, 1, 1024, 1


class Hosts:
    """Redis and S3 behind their delays, and hosts that come and go there."""

    def __init__(self, t):
        self.t, self.redis, self.s3 = t, harness.RedisServer(t), CountingS3(t)
        self.redis_port = t.enter(harness.DelayProxy(self.redis.port, REDIS_MS * 500)).port
        self.s3_port = t.enter(harness.DelayProxy(self.s3.port, S3_MS * 500)).port

    def volume(self, name, db):
        volume = harness.Volume(self.t, self.redis, name, db, self.s3)
        return volume.format("--trash-days", "0", bucket=f"http://127.0.0.1:{self.s3_port}/{name}")

    def stored(self, volume, count, *options):
        """Writes that many files and waits until Redis and S3 have them; (requests of S3, seconds)."""
        m = harness.Mount(self.t, volume, "--writeback", "--upload-delay=10m", *options, name=volume.name,
                          port=self.redis_port)
        os.mkdir(m.path("d"))
        before, start = self.s3.snapshot(), time.perf_counter()
        for i in range(count):
            with open(m.path("d", f"f{i}"), "xb", buffering=0) as f:
                f.write(contents(i))
        m.flush(timeout=1800)
        requests, took = self.s3.since(before), time.perf_counter() - start
        m.umount(flush=True)
        return requests, took

    def first_read(self, mount, count, shuffled, **how):
        """(seconds, requests of S3) to read all files of a mount that is new; it is unmounted then."""
        before, start = self.s3.snapshot(), time.perf_counter()
        names = sorted(os.listdir(mount.path("d")))
        if shuffled:
            random.Random(SEED).shuffle(names)
        got = {name: read(mount.path("d", name)) for name in names}
        took, requests = time.perf_counter() - start, self.s3.since(before)
        mount.umount(**how)
        if got != {f"f{i}": contents(i) for i in range(count)}:
            raise RuntimeError(f"{mount.dir}: not what was written")
        return took, requests

    def ours(self, volume, transport, order):
        return harness.Mount(self.t, volume, f"--transport={TRANSPORTS[transport]}", name=f"fresh-{order}", port=self.redis_port)

    def stock(self, volume, order):
        with environment({"ACCESS_KEY": self.s3.access, "SECRET_KEY": self.s3.secret}):
            return harness.StockMount(self.t, volume.url(port=self.redis_port), name=f"stock-{order}")


def contents(i):
    return (b"file %d " % i * SIZE)[:SIZE]


def read(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        data = os.read(fd, 2 * SIZE)
        return data + os.read(fd, SIZE)
    finally:
        os.close(fd)


def listed(requests):
    return ", ".join(f"{n:,} {what}" for what, n in sorted(requests.items())) or "none"


def packed(sides, args, table):
    hosts, transport = Hosts(sides.t), sides.transports[-1]
    together = hosts.volume("together", 0)
    say("packed: stored")
    requests, took = hosts.stored(together, args.packed)
    total = requests.total()
    table.add(f"S3 requests for {args.packed:,} x 1 KB", f"one PUT each, at {S3_MS} ms", total, "<= 10", total <= 10,
              f"{total} ({listed(requests)})", f"{took:.1f} s until S3 has all")
    objects, no_stock = hosts.s3.blocks("together"), core.missing("juicefs")
    if not no_stock:
        alone = hosts.volume("alone", 1)
        hosts.stored(alone, args.alone, "--pack-below=0")
    for order in ("sorted", "shuffled"):
        say(f"packed: first read, {order}")
        what = f"first read of {args.packed:,} files, {order}, {transport}"
        ours, requests = hosts.first_read(hosts.ours(together, transport, order), args.packed, order == "shuffled", flush=True)
        gets = requests["GET"]
        table.add(f"S3 requests of the {what}", f"{objects} objects", gets, "", None, f"{gets} ({listed(requests)})", f"{ours:.2f} s")
        what += f" at {S3_MS} ms"
        if no_stock:
            table.missing(what, no_stock)
            continue
        stock, requests = hosts.first_read(hosts.stock(alone, order), args.alone, order == "shuffled")
        ratio = (ours / args.packed) / (stock / args.alone)
        table.add(what, f"stock, {args.alone:,} files, {listed(requests)}", ratio, "<= 1/50", ratio <= 1 / 50, f"1/{1 / ratio:.0f}",
                  f"{ours / args.packed * 1e6:.0f} us a file, stock {stock / args.alone * 1e6:,.0f} us")
