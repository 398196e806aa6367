#!/usr/bin/env python3
"""Our drained volumes in the hands of the stock client, and what it made of them in ours.

Every test needs JUICEFS=/path/to/juicefs. Each starts with the same kind of history on a mount of ours: the operations of
several recorded scenarios, each in a directory of its own, then a seeded random one, with --writeback and small windows, so
that much of it is coalesced. Then `jfs umount --flush`."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import keycompare  # noqa: E402
import scenario  # noqa: E402
import tree  # noqa: E402
from harness import *  # noqa: E402,F403

NEEDS = ("root", "fuse", "jfs", "juicefs")
HISTORIES = ("names", "small", "rename", "truncate", "large", "dirstats")


class Drained:
    """A volume after a history and `jfs umount --flush`; `tree` is what our mount showed just before."""

    def __init__(self, t, *options, histories=HISTORIES, s3=None, trash_days=0, random=True):
        self.t = t
        self.redis = RedisServer(t)
        self.volume = Volume(t, self.redis, s3=s3).format("--block-size", "64", "--trash-days", str(trash_days), *options)
        self.mount = Mount(t, self.volume, "--writeback", query="batch_size=200")
        for name in histories:
            folder = self.mount.path(name)
            os.mkdir(folder)
            scenario.run_operations(t, name, folder, self.volume)
        if random:
            random_history(t.rng, self.mount.path("random"), 400)
        self.tree = tree.scan(self.mount.dir)
        self.mount.umount(flush=True)
        self.stock = Stock(t, self.volume.url())

    def compare(self, seen, what):
        tree.assert_same(self.tree, seen, what)

    def fresh_mount(self):
        """A mount of ours that knows nothing: another cache directory."""
        return Mount(self.t, self.volume, name="fresh")

    def drain_again(self):
        self.mount.umount(flush=True)
        return self.volume.check()


def random_history(rng, folder, steps):
    """Files of a few names are made, overwritten, appended, cut, moved, linked, removed."""
    os.mkdir(folder)
    paths = [os.path.join(folder, d, f"f{i}") for d in ("a", "b") for i in range(6)]
    for d in ("a", "b"):
        os.mkdir(os.path.join(folder, d))
    for _ in range(steps):
        path, other = rng.sample(paths, 2)
        verb = rng.choice(("write", "write", "write", "append", "truncate", "rename", "link", "remove"))
        try:
            if verb in ("write", "append"):
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | (os.O_APPEND if verb == "append" else 0), 0o644)
                os.pwrite(fd, rng.randbytes(rng.choice((1, 100, 5000, 70000))), rng.randrange(200000))
                os.close(fd)
            elif verb == "truncate":
                os.truncate(path, rng.randrange(200000))
            elif verb == "rename":
                os.rename(path, other)
            elif verb == "link":
                os.link(path, other)
            else:
                os.unlink(path)
        except (FileNotFoundError, FileExistsError):
            pass


@test(timeout=180, needs=NEEDS)
def stock_shows_our_tree(t):
    d = Drained(t)
    stock = StockMount(t, d.volume.url())
    d.compare(tree.scan(stock.dir), "our mount's and stock's tree")
    stock.umount()
    d.volume.check()


@test(timeout=180, needs=NEEDS)
def stock_shows_our_compressed_blocks(t):
    for compression in ("lz4", "zstd"):
        # Not with holes and zstd: stock 1.4.1 shows what its decompressor left behind the end of a short block instead of
        # the zeros of a hole that follows, on volumes of its own as well.
        d = Drained(t, "--compress", compression, histories=("small", "layout-lz4"), random=compression != "zstd")
        stock = StockMount(t, d.volume.url(), name="stock-" + compression)
        d.compare(tree.scan(stock.dir), "our mount's and stock's tree")
        stock.umount()
        d.stock.find_nothing()


@test(timeout=180, needs=(*NEEDS, "swift"))
def stock_shows_our_tree_from_s3(t):
    d = Drained(t, histories=("small", "large"), s3=Swift(t))
    stock = StockMount(t, d.volume.url())
    d.compare(tree.scan(stock.dir), "our mount's and stock's tree")
    stock.umount()
    d.stock.quiet("fsck")


@test(timeout=180, needs=NEEDS)
def a_fresh_mount_of_ours_shows_the_same(t):
    d = Drained(t)
    for query in ("", "prime=1"):
        m = Mount(t, d.volume, name="fresh", query=query)
        d.compare(tree.scan(m.dir), f"the tree before and with an empty cache ({query})")
        m.umount(flush=True)
        d.volume.check()


@test(timeout=180, needs=NEEDS)
def stock_tools_find_nothing(t):
    d = Drained(t)
    before = d.volume.check()
    d.stock.find_nothing()
    lines = keycompare.differences(before, d.volume.check(), exact=True)
    assert not lines, "gc --delete changed the volume:\n" + "\n".join(lines)
    m = d.fresh_mount()
    d.compare(tree.scan(m.dir), "the tree before and after gc --delete")
    m.umount()


@test(timeout=180, needs=NEEDS)
def stock_tools_find_nothing_with_trash(t):
    d = Drained(t, trash_days=1)
    d.volume.check()
    d.stock.find_nothing()


@test(timeout=180, needs=NEEDS)
def stock_collects_what_nothing_names(t):
    """Objects of overwritten data stay until the retention is over; a gc that takes them early takes nothing else."""
    d = Drained(t)
    before = d.volume.check()
    d.stock.run("gc", "--delete", env={"JFS_GC_SKIPPEDTIME": "0"})
    lines = keycompare.differences(before, d.volume.check(), exact=True)
    assert not lines, "gc --delete changed the keyspace:\n" + "\n".join(lines)
    d.stock.find_nothing()
    m = d.fresh_mount()
    d.compare(tree.scan(m.dir), "the tree before and after gc --delete")
    m.umount()


@test(timeout=180, needs=NEEDS)
def stock_dumps_and_loads_our_volume(t):
    d = Drained(t)
    url = d.redis.url(db=1)
    d.stock.dump_and_load(d.volume, url)
    stock = StockMount(t, url)
    d.compare(tree.scan(stock.dir), "our tree and that of the loaded volume")
    stock.umount()
    Stock(t, url).quiet("fsck")


@test(timeout=180, needs=NEEDS)
def stock_compacts_what_we_read_then(t):
    d = Drained(t)
    d.stock.run("gc", "--compact")
    d.volume.check()
    d.mount.mount()
    d.compare(tree.scan(d.mount.dir), "the tree before and after compaction, warm")
    d.drain_again()
    m = d.fresh_mount()
    d.compare(tree.scan(m.dir), "the tree before and after compaction, cold")
    m.umount()


@test(timeout=180, needs=NEEDS)
def stock_restores_from_our_trash(t):
    d = Drained(t, histories=("small",), trash_days=1)
    d.mount.mount()
    for name in ("one", "large", "kb"):
        os.unlink(d.mount.path("small/d", name))
    d.drain_again()
    hours = sorted(n.decode() for n in d.volume.keyspace().entries[keycompare.TRASH])
    assert hours and all(re.fullmatch(r"\d{4}-\d\d-\d\d-\d\d", h) for h in hours), hours
    for hour in hours:
        d.stock.run("restore", hour, "--put-back")
    d.volume.check()
    m = d.fresh_mount()
    seen = tree.scan(m.dir)
    for name in ("one", "large", "kb"):
        path = f"/small/d/{name}"
        assert seen[path]["sha256"] == d.tree[path]["sha256"], f"{path} is not what was deleted"
    m.umount(flush=True)
    d.volume.check()


@test(timeout=240, needs=NEEDS)
def both_write_in_turns(t):
    d = Drained(t, histories=("small", "rename"))
    for turn in range(3):
        stock = StockMount(t, d.volume.url(), read_only=False, name=f"writer-{turn}")
        d.compare(tree.scan(stock.dir), "our tree and stock's")
        random_history(t.rng, stock.path(f"stock-{turn}"), 60)
        d.tree = tree.scan(stock.dir)
        d.volume.settle()
        stock.umount()
        d.volume.check()
        d.mount.mount()
        d.compare(tree.scan(d.mount.dir), "stock's tree and ours")
        random_history(t.rng, d.mount.path(f"ours-{turn}"), 60)
        d.tree = tree.scan(d.mount.dir)
        d.drain_again()
        d.stock.quiet("fsck")


@test(timeout=180, needs=NEEDS)
def stock_reads_while_we_write(t):
    """Another host's stock mount sees states that existed: numbered files appear in order, and once there is a next one,
    a file is complete."""
    volume = Volume(t, RedisServer(t)).format("--block-size", "64", "--trash-days", "0")
    m = Mount(t, volume, "--writeback")
    stock = StockMount(t, volume.url(), "--attr-cache", "0", "--entry-cache", "0", "--dir-entry-cache", "0")
    body = t.rng.randbytes(100_000)
    for i in range(60):
        with open(m.path(f"{i:03d}"), "wb") as f:
            f.write(body[i:])
        if i % 10 == 9:
            names = sorted(n for n in os.listdir(stock.dir) if n.isdigit())
            assert names == [f"{k:03d}" for k in range(len(names))], f"not a prefix: {names}"
            for n in names[-4:-1]:
                with open(stock.path(n), "rb") as f:
                    assert f.read() == body[int(n):], f"file {n} is incomplete"
    m.flush()
    wait_until(lambda: len([n for n in os.listdir(stock.dir) if n.isdigit()]) == 60, what="all files in the stock mount")
    m.umount()
    stock.umount()


if __name__ == "__main__":
    sys.exit(main())
