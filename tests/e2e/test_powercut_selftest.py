#!/usr/bin/env python3
"""The power-cut harness tells the truth from a lie: what was fsynced is in every image, what was not is missing in some,
and a writer that reports "synced" without fsync is caught."""
import contextlib
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "fault-injection"))
import powercut  # noqa: E402

FILES = 60
CUTS = 25
SEED = int(os.environ.get("JFS_SEED", "1"))


def content(i):
    return (b"file %d " % i) * 700  # more than one block, so that it can be torn


def write_files(disk, sync, claim):
    """Writes FILES files; each is reported synced if `claim`, and really is if `sync`."""
    d = os.open(disk.dir, os.O_RDONLY | os.O_DIRECTORY)
    for i in range(FILES):
        fd = os.open(os.path.join(disk.dir, f"f{i}"), os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(fd, content(i))
        if sync:
            os.fsync(fd)
        os.close(fd)
        if sync:
            os.fsync(d)
        if claim:
            disk.mark(i)
    os.close(d)
    if not sync:
        os.sync()  # the honest writer's flushes come as it goes; this one's come late


def good(directory, i):
    try:
        with open(os.path.join(directory, f"f{i}"), "rb") as f:
            return f.read() == content(i)
    except FileNotFoundError:
        return False


def violations(disk, may_be_ruined=False):
    """Files reported synced before a cut that are not whole after it, over all cuts; and how many later ones are there.
    `may_be_ruined`: XFS checks its blocks as wholes, so that one torn while it went home without anybody waiting for it may be
    what keeps an image from being mounted; then all that was reported is lost."""
    broken = later = 0
    for n in range(CUTS):
        with contextlib.ExitStack() as stack:
            try:
                image = stack.enter_context(disk.cut(SEED * 1000 + n))
            except RuntimeError as e:
                if not may_be_ruined or "cannot mount" not in str(e):
                    raise
                print(f"  cut {n} ruined the file system")
                broken += 1
                continue
            acked = 1 + max((int(m) for m in image.marks), default=-1)
            broken += sum(not good(image.dir, i) for i in range(acked))
            later += sum(not good(image.dir, i) for i in range(acked, FILES))
            with open(os.path.join(image.dir, "still-writable"), "w") as f:
                f.write("x")
    return broken, later


def test_synced_data_always_survive(fs):
    with powercut.PowerCutDisk(size_mb=512 if fs == "xfs" else 64, fs=fs) as disk:
        write_files(disk, sync=True, claim=True)
        broken, missing_later = violations(disk)
    assert broken == 0, f"{broken} synced files lost"
    assert missing_later > 0, "no cut lost anything: they do not cut"


def test_a_lie_is_caught(fs):
    with powercut.PowerCutDisk(size_mb=512 if fs == "xfs" else 64, fs=fs) as disk:
        write_files(disk, sync=False, claim=True)
        broken, _ = violations(disk, may_be_ruined=fs == "xfs")
    assert broken > 0, "a writer that never synced passed for an honest one"


def test_data_without_the_directory_is_caught():
    """fsync of a file that is renamed afterwards does not make the new name durable."""
    with powercut.PowerCutDisk(size_mb=64) as disk:
        lost = 0
        fd = os.open(os.path.join(disk.dir, "old"), os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(fd, b"x")
        os.fsync(fd)
        os.close(fd)
        os.rename(os.path.join(disk.dir, "old"), os.path.join(disk.dir, "new"))
        disk.mark("renamed")
        with disk.at(SEED, disk.records() - 1) as image:
            assert image.marks == ["renamed"]
            lost += not os.path.exists(os.path.join(image.dir, "new"))
            assert os.path.exists(os.path.join(image.dir, "old")) or not lost
    assert lost == 1


def test_same_seed_same_image():
    with powercut.PowerCutDisk(size_mb=64) as disk:
        write_files(disk, sync=True, claim=True)
        infos = []
        for _ in range(2):
            with disk.cut(7, 0, disk.records()) as image:
                infos.append((image.info, image.marks))
        assert infos[0][0]["cut"] == infos[1][0]["cut"] and infos[0] == infos[1]


def test_nothing_is_left_behind():
    with powercut.PowerCutDisk(size_mb=64) as disk:
        work = disk.work
        try:
            with disk.at(1, disk.records() - 1):
                raise KeyError("in the middle")
        except KeyError:
            pass
    assert not os.path.exists(work)
    with open("/proc/mounts") as f:
        assert work not in f.read()
    for dev in os.listdir("/sys/block"):
        backing = f"/sys/block/{dev}/loop/backing_file"
        if os.path.exists(backing):
            with open(backing) as f:
                assert work not in f.read()


def main():
    why = powercut.unusable()
    tests = [(n, f, fs) for fs in ("ext4", "xfs") for n, f in sorted(globals().items())
             if n.startswith("test_") and (f.__code__.co_argcount or fs == "ext4")]
    passed = failed = skipped = 0
    for name, fn, fs in tests:
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        if why or not any(os.access(os.path.join(p, f"mkfs.{fs}"), os.X_OK) for p in ("/sbin", "/usr/sbin")):
            print(f"SKIP {name} {fs}: {why or 'no mkfs.' + fs}", file=sys.stderr)
            skipped += 1
            continue
        try:
            fn(fs) if fn.__code__.co_argcount else fn()
            passed += 1
        except Exception as e:  # every failure is reported, the others still run
            failed += 1
            print(f"FAIL {name} {fs} (JFS_SEED={SEED}): {type(e).__name__}: {e}", file=sys.stderr)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
