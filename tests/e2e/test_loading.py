#!/usr/bin/env python3
"""A large tree is loaded, by `find` or at the mount (prime=1), while other programs go on."""
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *  # noqa: E402,F403

NEEDS = ("root", "fuse", "jfs")
GROUPS, EACH = 20, 100


class Syncs(threading.Thread):
    """Writes and fsyncs without a pause; how often, and the longest in seconds."""

    def __init__(self, path):
        super().__init__()
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        self.count, self.longest, self.ending = 0, 0.0, False

    def run(self):
        while not self.ending:
            os.write(self.fd, b"line\n")
            before = time.monotonic()
            os.fsync(self.fd)
            self.longest = max(self.longest, time.monotonic() - before)
            self.count += 1

    def end(self):
        self.ending = True
        self.join()
        os.close(self.fd)
        return self.count, self.longest


def names_below(top):
    return sum(len(dirs) + len(files) for _, dirs, files in os.walk(top))


@test(timeout=180, needs=NEEDS)
def h24_a_large_tree_is_loaded_while_somebody_fsyncs(t):
    volume = Volume(t, RedisServer(t)).format("--block-size", "64", "--trash-days", "0")
    m = Mount(t, volume, "--writeback")
    for i in range(GROUPS):
        for k in range(EACH):
            os.makedirs(m.path("tree", f"g{i}", f"d{k}"))
            with open(m.path("tree", f"g{i}", f"d{k}", "f"), "wb"):
                pass
    m.umount(flush=True)
    wanted = GROUPS * (1 + 2 * EACH)
    for query in ("", "prime=1"):
        m = Mount(t, volume, "--writeback", query=query, name="fresh" + query[:5])
        syncs, disk = Syncs(m.path("log" + query[:5])), Syncs(os.path.join(m.cache, "log"))
        for thread in (syncs, disk):
            thread.start()
        before = time.monotonic()
        assert names_below(m.path("tree")) == wanted
        took = time.monotonic() - before
        count, longest = syncs.end()
        _, of_disk = disk.end()
        assert count >= 10 and longest < took / 2 + 0.5 + 4 * of_disk, \
            f"{count} fsyncs in {took:.1f} s, the longest {longest:.2f} s (of the disk {of_disk:.2f} s)"
        m.umount(flush=True)
    volume.check()


def reads_of(redis):
    """How often the server has read from a connection: a pipeline counts once."""
    with redis.client() as c:
        text = c("INFO", "stats").decode()
    return int(next(line.split(":")[1] for line in text.splitlines() if line.startswith("total_reads_processed:")))


@test(timeout=120, needs=NEEDS)
def lists_of_small_files_come_together(t):
    """In whatever order they are read, and whatever was done to them before their lists were known: that lies on top."""
    redis = RedisServer(t)
    volume = Volume(t, redis).format("--block-size", "64", "--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--pack-below=128K")
    want = {f"f{i}": b"%d " % i * (1 + i % 50) for i in range(600)}
    for name, data in want.items():
        with open(m.path(name), "wb") as f:
            f.write(data)
    m.umount(flush=True)

    def read_all(m):
        names = list(want)
        t.rng.shuffle(names)
        before = reads_of(redis)
        for name in names:
            with open(m.path(name), "rb") as f:
                assert f.read() == want[name], name
        return reads_of(redis) - before

    m = Mount(t, volume, "--writeback", name="fresh")
    reads = read_all(m)
    assert reads < len(want) / 4, f"{reads} round trips for {len(want)} files"
    m.umount(flush=True)
    m = Mount(t, volume, "--writeback", name="changed")
    for name in t.rng.sample(sorted(want), 200):
        verb = t.rng.choice(("append", "cut", "over", "remove", "patch"))
        if verb == "remove":
            os.unlink(m.path(name))
            del want[name]
        elif verb == "cut":
            want[name] = want[name][:t.rng.randint(0, len(want[name]))]
            os.truncate(m.path(name), len(want[name]))
        else:
            data = bytearray(want[name])
            at = {"append": len(data), "over": 0, "patch": t.rng.randint(0, len(data))}[verb]
            with open(m.path(name), "wb" if verb == "over" else "r+b") as f:
                f.seek(at)
                f.write(b"news")
            data = bytearray() if verb == "over" else data
            data[at:at + 4] = b"news"
            want[name] = bytes(data)
    read_all(m)
    m.umount(flush=True)
    volume.check()
    m = Mount(t, volume, name="later")
    read_all(m)
    m.umount(flush=True)


if __name__ == "__main__":
    sys.exit(main())
