#!/usr/bin/env python3
"""History 12 on a real file system: the disk fills up under the journal's flush, the daemon is killed, recovery meets the
full disk, then there is room again. Nothing that was durable is lost, and nothing ends in EIO."""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(ROOT, "fault-injection"))
import powercut  # noqa: E402

BUILD = os.environ.get("JFS_BUILD") or os.path.join(ROOT, "build")


def tool(name, *args):
    return subprocess.run([os.path.join(BUILD, "tests", "e2e", name), *map(str, args)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=120)


def fill(path):
    """Takes all of the file system but 4.5 MiB: with the tail of the first segment, which the next open gives back, room
    for one more segment and little else, so that base's pages meet the end before the segment is full."""
    with open(path, "wb", buffering=0) as f:
        for size in (1 << 20, 4096, 512):
            try:
                while True:
                    f.write(b"x" * size)
            except OSError:
                pass
        f.truncate(f.tell() - (9 << 19))


def history_12_disk_full(fs, work):
    image, mnt, hot, mark = (os.path.join(work, n) for n in ("img", "mnt", "hot", "mark"))
    cache, filler = os.path.join(mnt, "cache"), os.path.join(mnt, "filler")
    with open(image, "wb") as f:
        f.truncate((400 if fs == "xfs" else 150) << 20)
    powercut._run(*powercut.MKFS[fs], image)
    os.mkdir(hot)
    open(mark, "w").close()
    with powercut.loop_mount(image, mnt, fs):
        r = tool("journal_writer", cache, hot, mark, 500, 1)
        assert r.returncode == 0, r.stdout
        fill(filler)
        for _ in range(2):  # the first one fills what is left, the second meets it in recovery
            r = tool("journal_writer", cache, hot, mark, 10 ** 9, 2)
            assert r.returncode == 1 and "No space left" in r.stdout and "Input/output" not in r.stdout, r.stdout
        assert not os.path.exists(os.path.join(cache, "reserve")), "it was staging that was full, not base"
        os.unlink(filler)
        r = tool("journal_writer", cache, hot, mark, 1000, 3)
        assert r.returncode == 0, r.stdout
        shutil.rmtree(hot)
        os.mkdir(hot)
        r = tool("journal_verify", cache, hot, 500)
        assert r.returncode == 0, r.stdout


def main():
    why = powercut.unusable()
    passed = failed = skipped = 0
    for fs in ("ext4", "xfs"):
        if why or not any(os.access(os.path.join(p, f"mkfs.{fs}"), os.X_OK) for p in ("/sbin", "/usr/sbin")):
            print(f"SKIP history_12_disk_full {fs}: {why or 'no mkfs.' + fs}", file=sys.stderr)
            skipped += 1
            continue
        work = tempfile.mkdtemp(prefix="jfs-full.", dir="/dev/shm")
        try:
            history_12_disk_full(fs, work)
            passed += 1
        except Exception as e:  # every failure is reported, the others still run
            failed += 1
            print(f"FAIL history_12_disk_full {fs}: {type(e).__name__}: {e}", file=sys.stderr)
        finally:
            shutil.rmtree(work)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
