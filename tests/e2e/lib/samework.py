"""The same random work on several file systems: operations by a few processes at a time, each in a folder of its own, which
depend on the seed alone. What they answer and leave behind must be the same everywhere."""
import json
import mmap
import os
import random


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def one_step(rng, base):
    """One operation with random arguments on a few names below `base`."""
    def name():
        return os.path.join(base, rng.choice(["", "d0", "d1", "d0/e"]), rng.choice("abcdefgh"))

    def data(limit):
        return rng.randbytes(rng.choice([1, 100, 4096, 5000, rng.randrange(1, limit)]))

    def at(path, flags, function):
        fd = os.open(path, flags | os.O_RDWR, 0o644)
        try:
            function(fd)
        finally:
            os.close(fd)

    def through_mapping(path, d):
        def store(fd):
            os.ftruncate(fd, max(len(d), os.fstat(fd).st_size))
            with mmap.mmap(fd, 0) as m:
                m[:len(d)] = d
        at(path, os.O_CREAT, store)

    what = rng.randrange(16)
    if what < 4:
        write(name(), data(300_000))
    elif what == 4:
        d, off = data(3_000_000), rng.randrange(1_000_000)
        at(name(), os.O_CREAT, lambda fd: os.pwrite(fd, d, off))
    elif what == 5:
        d = data(10_000)
        at(name(), os.O_CREAT | os.O_APPEND, lambda fd: os.write(fd, d))
    elif what == 6:
        os.truncate(name(), rng.randrange(500_000))
    elif what == 7:
        os.unlink(name())
    elif what == 8:
        os.rename(name(), name())
    elif what == 9:
        os.link(name(), name())
    elif what == 10:
        os.symlink("x" * rng.randrange(1, 2000), name())
    elif what == 11:
        os.mkdir(os.path.join(base, rng.choice(["d0", "d1", "d0/e"])))
    elif what == 12:
        os.rmdir(os.path.join(base, rng.choice(["d0", "d1", "d0/e"])))
    elif what == 13:
        os.setxattr(name(), "user." + rng.choice("xyz"), rng.randbytes(rng.randrange(100)))
    elif what == 14:
        through_mapping(name(), data(50_000))
    else:
        d = data(100_000)
        at(name(), os.O_CREAT, lambda fd: (os.write(fd, d), os.fsync(fd)))


def play(base, seed, steps):
    """Many steps; the error codes, for they must be the same everywhere."""
    rng, codes = random.Random(seed), []
    os.mkdir(base)
    for _ in range(steps):
        try:
            one_step(rng, base)
            codes.append(0)
        except OSError as e:
            codes.append(e.errno)
    return codes


def play_all(folder, seed, steps=80, players=3):
    running = []
    for i in range(players):
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                with os.fdopen(w, "w", encoding="ascii") as f:
                    json.dump(play(os.path.join(folder, f"p{i}"), f"{seed}/{i}", steps), f)
            finally:
                os._exit(0)
        os.close(w)
        running.append((pid, r))
    codes = []
    for pid, r in running:
        with os.fdopen(r, encoding="ascii") as f:
            codes.append(json.load(f))
        os.waitpid(pid, 0)
    return codes
