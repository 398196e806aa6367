#!/usr/bin/env python3
"""Directory statistics (dirDataLength, dirUsedSpace, dirUsedInodes): exact whenever the journal is drained, by our own count
and by stock's."""
import os
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *  # noqa: E402,F403
from workload import Workload  # noqa: E402

NEEDS = ("root", "fuse", "jfs")


def volume_of(t, *options):
    return Volume(t, RedisServer(t)).format("--block-size", "64", *options)


def has_statistics(volume):
    """check() counts every directory's; here: that there is something to count."""
    ks = volume.check()
    assert len(ks.dir_stats["dirUsedSpace"]) > 1 and any(ks.dir_stats["dirDataLength"].values())
    return ks


def drained_again_and_again(t, days, query, kill):
    volume = volume_of(t, "--trash-days", days)
    m = Mount(t, volume, "--writeback", query=query)
    w = Workload(t.rng, m.path("w"))
    for _ in range(3):
        w.steps(200)
        m.flush()
        has_statistics(volume)
    w.steps(200)
    if kill:
        m.kill()
        w.close()
        m.end()
        m.mount()
        w.steps(50)
    w.close()
    m.umount(flush=True)
    has_statistics(volume)


@test(timeout=120, needs=NEEDS)
def exact_after_every_drain(t):
    drained_again_and_again(t, "0", "batch_size=100", kill=True)


@test(timeout=120, needs=NEEDS)
def exact_after_every_drain_with_trash(t):
    drained_again_and_again(t, "1", "batch_size=100", kill=True)


@test(timeout=120, needs=NEEDS)
def exact_after_every_drain_of_unsafe_batches(t):
    drained_again_and_again(t, "1", "batch_size=100&unsafe_batch=1", kill=False)


@test(timeout=120, needs=NEEDS)
def exact_at_every_moment(t):
    """Whoever looks at Redis in the middle of the work sees a volume in which everything fits (P5)."""
    volume = volume_of(t, "--trash-days", "1")
    m = Mount(t, volume, "--writeback", query="batch_size=100")
    workload, ended, positions = Workload(t.rng, m.path("work")), threading.Event(), set()

    def works():
        while not ended.is_set():
            workload.steps(20)
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(works)
        try:
            while len(positions) < 20 and not working.done():
                positions.add(volume.check().table("zjfs")["seq"])
        finally:
            ended.set()
        working.result()
    workload.close()
    m.umount(flush=True)
    volume.check()


@test(timeout=60, needs=NEEDS)
def what_goes_into_the_trash_counts_there(t):
    volume = volume_of(t, "--trash-days", "1")
    m = Mount(t, volume, "--writeback")
    os.makedirs(m.path("d/sub"))
    with open(m.path("f"), "wb") as f:
        f.truncate(70000)
    os.link(m.path("f"), m.path("g"))
    m.flush()
    os.rmdir(m.path("d/sub"))  # the directory loses it and its own name in one window
    os.rmdir(m.path("d"))
    with open(m.path("f"), "r+b") as f:
        os.unlink(m.path("f"))
        os.unlink(m.path("g"))
        m.flush()
        f.truncate(1)  # both names lie in the trash
        m.flush()
        volume.check()
    m.umount(flush=True)
    ks = has_statistics(volume)
    assert sum(len(e) for ino, e in ks.entries.items() if ino > 1 << 62) == 5, "an hour, f, g, d, and d/sub"


@test(timeout=120, needs=(*NEEDS, "juicefs"))
def stock_counts_the_same(t):
    volume = volume_of(t, "--trash-days", "1")
    m = Mount(t, volume, "--writeback", query="batch_size=100")
    w = Workload(t.rng, m.path("w"))
    w.steps(800)
    w.close()
    m.umount(flush=True)
    before = has_statistics(volume)
    stock = Stock(t, volume.url())
    stock.quiet("fsck", "--path", "/", "-r")
    stock.quiet("fsck", "--path", "/", "-r", "--sync-dir-stat", "--repair")
    assert volume.check().dir_stats == before.dir_stats, "stock repaired something"
    seen = StockMount(t, volume.url())
    for verb, option in (("info", "-r"), ("summary", "--csv")):
        fast, strict = stock.run(verb, option, url=seen.dir), stock.run(verb, option, "--strict", url=seen.dir)
        assert fast == strict, f"{verb} says\n{fast}\nand with --strict\n{strict}"


if __name__ == "__main__":
    sys.exit(main())
