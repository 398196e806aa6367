#!/usr/bin/env python3
"""Bad disks: a write or sync of the cache directory fails once, the disk is full, something on it was damaged.

A failed sync or an EIO of the journal is terminal (P12); a full disk is survived; what is damaged is found, named by path,
and the rest served."""
import errno
import os
import shutil
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "lib"), os.path.join(HERE, "..", "..", "fault-injection")]
from harness import *  # noqa: E402,F403
import parts  # noqa: E402
from crashes import CutRun, loop_folder  # noqa: E402

NEEDS = ("root", "fuse", "jfs", "tools")


def register(order, kind, wanted, times=lambda rng: (12, rng.randint(15, 40))):
    """Two calls, and more while all of them met what ends otherwise: the mounting, or the one page that decides a commit."""
    def function(t):
        results = [parts.life_with(t, order, at, kind) for at in times(t.rng)]
        while wanted not in [result for result, _ in results] and len(results) < 6:
            results.append(parts.life_with(t, order, t.rng.randint(15, 40), kind))
        t.note(order, results)
        assert wanted in [result for result, _ in results], f"{order}: {results}"
    what = order.replace(":{}+", "_from_then_on").replace(":{}", "").replace(":", "_").lower()
    add(f"p12_{what}_is_{'terminal' if kind == 'dying' else 'survived'}", function, timeout=120, needs=NEEDS)


@test(timeout=240, needs=NEEDS)
def p12_one_failed_sync_is_enough(t):
    """Whichever it is: of a segment, of the folder of segments, or of base."""
    for below, first in (("staging", 2), ("base", 15)):  # mounting itself syncs base a few times
        results = [parts.life_with(t, "sync:{}:EIO", at, "dying", below)[0] for at in (first, first + t.rng.randint(1, 10))]
        t.note(below, results)
        assert set(results) <= {"dead", "read-only"} and "read-only" in results, f"{below}: {results}"


for _order in ("sync:{}:EIO", "write:{}+:EIO", "write:{}+:torn"):
    register(_order, "dying", "read-only")
# A short write is what a disk does that fills up; base starts its transaction over, everything else goes on where it was.
for _order in ("write:{}:ENOSPC", "write:{}:short"):
    register(_order, "full", "survived")
register("space:{}+:ENOSPC", "full", "survived", lambda rng: (1, 2))


@test(timeout=180, needs=NEEDS)
def p12_a_restart_does_not_forgive(t):
    """History 10: the sync fails and the pages that it did not write are gone, while the machine stays up. The next mount
    finds out by reading the disk: a prefix with all that was synced, never a name without its data."""
    run = CutRun(t, t.rng.choice(("ext4", "xfs")), t.seed, "device")
    run.m.umount()
    run.m.env = parts.failing(run.m, f"sync:{t.rng.randint(10, 40)}+:EIO")
    run.m.mount()
    for history in run.workers.histories:
        history.bad_disk = "dying"
    alive = run.workers.run(run.work_dir, 400, run.mark)
    assert not alive, "no sync failed"
    run.stop()
    run.m.env = {}
    run.cuts(6, t.rng, deep_every=3)


def fill(path, leave=0):
    with open(path, "wb", buffering=0) as f:
        for size in (1 << 20, 4096):
            try:
                while True:
                    f.write(b"x" * size)
            except OSError as e:
                assert e.errno == errno.ENOSPC, e
        f.truncate(f.tell() - leave)


@test(timeout=240, needs=NEEDS)
def history_12_a_full_disk_is_survived(t):
    """Writers get ENOSPC, unlink works, so does recovery, and with room again everything is as if nothing had been."""
    disk = loop_folder(t, 512)
    cache = os.path.join(disk, "cache")
    os.mkdir(cache, 0o700)
    v = parts.victim(t, t.seed, cache=cache)
    for history in v.workers.histories:
        history.bad_disk = "full"
        history.workload.weights["swrite"] = 0  # ENOSPC leaves open whether the bytes are there
    filler = os.path.join(disk, "filler")
    fill(filler)
    big = os.open(v.m.path("big"), os.O_CREAT | os.O_WRONLY, 0o644)
    try:
        while True:
            os.write(big, b"y" * (1 << 20))
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
    os.close(big)
    assert v.workers.run(v.work, 150), "a full disk was taken for a broken one"
    assert sum(h.refused for h in v.workers.histories) > 0, "the disk was not full"
    os.unlink(v.m.path("big"))
    v.end_daemon(signal.SIGKILL)
    v.recover()
    v.end_daemon(signal.SIGKILL)
    v.recover()
    assert not os.path.exists(v.m.path("big"))
    os.unlink(filler)

    def room():
        with open(v.m.path("again"), "wb") as f:
            f.write(b"z" * 100000)
            os.fsync(f.fileno())
        return True
    wait_until(room, what="room again")
    os.unlink(v.m.path("again"))
    for history in v.workers.histories:
        history.bad_disk = None
    v.round(count=60, drain=False)
    v.finish()


# damage

def files_with(folder, needle):
    for top, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(top, name)
            with open(path, "rb") as f:
                if needle in f.read():
                    yield path


def damage(folder, needle):
    """Flips a bit in every copy of `needle` in the files of a folder."""
    paths = list(files_with(folder, needle))
    assert paths, f"{needle} is nowhere in {folder}"
    for path in paths:
        with open(path, "r+b") as f:
            data = f.read()
            at = data.find(needle)
            while at >= 0:
                f.seek(at)
                f.write(bytes([data[at] ^ 1]))
                at = data.find(needle, at + 1)


def put(m, name, data):
    with open(m.path(name), "wb") as f:
        f.write(data)


def get(m, name):
    with open(m.path(name), "rb") as f:
        return f.read()


@test(timeout=120, needs=NEEDS)
def a_damaged_segment_is_found_and_the_rest_served(t):
    """Damaged staged bytes are neither served nor uploaded; jfs-recover names the file."""
    volume = Volume(t, RedisServer(t)).format()
    log = t.path("daemon.log")
    m = Mount(t, volume, "--writeback", "--upload-delay=1h", "--log", log)
    put(m, "bad", b"needle in the segment " * 3000)
    put(m, "good", b"hay " * 3000)
    m.umount()
    damage(os.path.join(m.cache), b"needle in the segment")
    m.mount()
    assert get(m, "good") == b"hay " * 3000
    for size in (10, 100000):
        try:
            with open(m.path("bad"), "rb", buffering=0) as f:
                data = f.read(size)
        except OSError as e:
            assert e.errno == errno.EIO, e
        else:
            raise AssertionError(f"damaged bytes were served: {data[:40]}")
    with open(log, encoding="utf-8") as f:
        assert "damaged" in f.read()
    m.umount()
    text = t.run(JFS_RECOVER, "check", "--cache-dir", m.cache, volume.url(), status=4)
    assert [line.split()[1] for line in text.splitlines() if line.startswith("broken")] == ["/bad:"], text


@test(timeout=120, needs=NEEDS)
def a_damaged_record_ends_what_recovery_takes(t):
    """What came before it is there, it and what came behind is set aside and reported by name."""
    volume = Volume(t, RedisServer(t)).format()
    log = t.path("daemon.log")
    m = Mount(t, volume, "--writeback", "--sync-interval=60s", "--log", log)
    m.flush()
    for name in ("first", "needle-in-the-log", "behind"):
        os.mkdir(m.path(name))
    m.kill()
    m.end()
    damage(m.hot, b"needle-in-the-log")
    m.mount()
    with open(log, encoding="utf-8") as f:
        assert '"behind" in directory 1' in f.read().replace("\\", ""), "the log does not name what is set aside"
    assert sorted(os.listdir(m.dir)) == ["first"], os.listdir(m.dir)
    folder = os.path.join(m.cache, os.listdir(m.cache)[0], "setaside")
    assert len(os.listdir(folder)) >= 2, os.listdir(folder)
    os.mkdir(m.path("goes-on"))
    m.umount(flush=True)
    text = t.run(JFS_RECOVER, "check", "--cache-dir", m.cache, volume.url(), status=4)
    assert "acknowledged records: setaside/" in text and "/behind: acknowledged, but set aside by recovery: new" in text, text


@test(timeout=300, needs=NEEDS)
def damaged_pages_of_base_bring_no_crash(t):
    """LMDB's pages bear no checksum: what a page says that makes no sense is refused or EIO, never a crash or a hang."""
    volume = Volume(t, RedisServer(t)).format()
    m = Mount(t, volume, "--writeback", "--upload-delay=1h")
    for n in range(300):
        put(m, f"file-{n}", b"%d" % n * 100)
    m.umount()
    base = os.path.join(m.cache, os.listdir(m.cache)[0], "base", "data.mdb")
    with open(base, "rb") as f:
        whole = f.read()
    outcomes = {"refused": 0, "damage seen": 0, "nothing seen": 0}
    for _ in range(12):
        spoiled = bytearray(whole)
        at = t.rng.randrange(len(whole) // 4096) * 4096
        spoiled[at:at + 4096] = t.rng.choice((bytes(4096), t.rng.randbytes(4096), whole[:4096]))
        with open(base, "wb") as f:
            f.write(spoiled)
        shutil.rmtree(m.hot, ignore_errors=True)
        text = t.run(*m.command("--offline"), status=None)
        if t.status:
            assert t.status == 1 and text.strip(), f"exit {t.status}: {text}"
            outcomes["refused"] += 1
            subprocess.run(["umount", "-l", m.dir], stderr=subprocess.DEVNULL, check=False)
            continue
        bad = 0
        for n in range(300):
            try:
                bad += get(m, f"file-{n}") != b"%d" % n * 100
            except OSError:
                bad += 1
        outcomes["damage seen" if bad else "nothing seen"] += 1
        subprocess.run(["umount", "-l", m.dir], check=True)
    t.note(outcomes)
    assert outcomes["refused"] + outcomes["damage seen"], outcomes


if __name__ == "__main__":
    sys.exit(main())
