#!/usr/bin/env python3
"""A stock gc beside a backlog that is older than an hour: Redis is away for --minutes, work goes on meanwhile, and from the moment
Redis is back `juicefs gc --delete` runs again and again while everything is replayed. Nothing may be missing afterwards.

gc deletes what no list names and is older than an hour, and inodes that look that old: the rules against it (an object that was not
published in time is uploaded anew; no record's ctime is older than half an hour when it is replayed) have tests with a clock of their
own; this is the real thing. Needs root, FUSE, redis-server, and JUICEFS naming a stock client."""
import argparse
import hashlib
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rows import bench_test, core, harness  # noqa: E402


class Tree:
    """What was written: {path: digest}. Files of 1 byte to 1 MiB, also written over, appended to, renamed and removed."""

    def __init__(self, top, seed):
        self.top, self.rng, self.files, self.made = top, random.Random(seed), {}, 0

    def write(self, name, mode, data):
        with open(os.path.join(self.top, name), mode) as f:
            f.write(data)
        before = self.files.get(name, b"") if mode == "ab" else b""
        self.files[name] = before + data

    def step(self):
        names, rng = list(self.files), self.rng
        what = rng.choice(("new", "new", "new", "over", "append", "rename", "remove")) if names else "new"
        data = rng.randbytes(rng.choice((1, 100, 1000, 5000, 70000, 300000, 1 << 20)) if rng.random() < 0.2 else 1000)
        if what == "new":
            folder = f"d{self.made // 100}"
            os.makedirs(os.path.join(self.top, folder), exist_ok=True)
            self.write(f"{folder}/f{self.made}", "wb", data)
            self.made += 1
            return
        name = rng.choice(names)
        if what == "over":
            self.write(name, "wb", data)
        elif what == "append":
            self.write(name, "ab", data)
        elif what == "rename":
            os.rename(os.path.join(self.top, name), os.path.join(self.top, name + "r"))
            self.files[name + "r"] = self.files.pop(name)
        else:
            os.unlink(os.path.join(self.top, name))
            del self.files[name]

    def differences(self, top):
        found = {}
        for folder, _, names in os.walk(top):
            for name in names:
                path = os.path.join(folder, name)
                with open(path, "rb") as f:
                    found[os.path.relpath(path, top)] = hashlib.sha256(f.read()).hexdigest()
        expected = {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}
        return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def until(moment, work):
    while time.monotonic() < moment:
        work()
        time.sleep(0.2)  # the pace of the work, nothing waits for it


def outage(t, minutes, seed):
    """[line of a table]"""
    redis = harness.RedisServer(t)
    volume = harness.Volume(t, redis).format("--trash-days", "0")
    m = harness.Mount(t, volume, "--writeback")
    stock = harness.Stock(t, volume.url())
    tree = Tree(m.path("w"), seed)
    os.mkdir(m.path("w"))
    until(time.monotonic() + 10, tree.step)
    redis.stop()
    until(time.monotonic() + minutes * 60, tree.step)
    waiting = m.stats()["backlog_operations"]
    redis.start()
    texts, failed, done = [], [], threading.Event()

    def collect():
        last = False
        while not last and not failed:
            last = done.is_set()
            try:
                texts.append(stock.run("gc", "--delete"))
            except core.CommandError as e:
                failed.append(e)

    collector = threading.Thread(target=collect)
    collector.start()
    until(time.monotonic() + 20, tree.step)
    t.run(harness.JFS, "flush", m.dir, timeout=600)
    done.set()
    collector.join()
    if failed:
        raise failed[0]
    wrong = tree.differences(tree.top)
    m.umount()
    stock.quiet("fsck")
    reader = harness.StockMount(t, volume.url())
    wrong += tree.differences(reader.path("w"))
    assert not wrong, wrong[:20]
    return [f"minutes without Redis            {minutes:g}", f"operations that waited for it    {waiting:,}", f"runs of gc --delete beside       {len(texts)}",
            f"files compared, twice            {len(tree.files):,}, none missing or different"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minutes", type=float, default=65)
    p.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    args = p.parse_args()
    for need in ("root", "fuse", "jfs", "juicefs"):
        if core.missing(need):
            sys.exit(f"outage: cannot run: {core.missing(need)}")
    print(f"seed {args.seed}", flush=True)
    with bench_test() as t:
        print("\n".join(outage(t, args.minutes, args.seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
