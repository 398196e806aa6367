#!/usr/bin/env python3
"""The journal alone under power cuts: what was reported durable is there, the rest is a prefix, no byte is torn.

journal_writer commits a known history into a cache directory on a disk that records every write and flush. The hot
directory lies on a tmpfs outside of it and is gone after a cut. journal_verify opens the journal of every image."""
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
RECORDS = int(os.environ.get("JFS_CUT_RECORDS", "4000"))
CUTS = int(os.environ.get("JFS_CUTS", "20"))
SEED = int(os.environ.get("JFS_SEED", "1"))


def tool(name, *args, env=None):
    return subprocess.run([os.path.join(BUILD, "tests", "e2e", name), *map(str, args)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=120, env={**os.environ, **(env or {})})


def verify(image, hot):
    """Position found in the image; raises when it is not a prefix with everything acknowledged."""
    os.mkdir(hot)
    cache = os.path.join(image.dir, "cache")
    acked = max((int(m) for m in image.marks), default=0)
    if not acked and not os.path.exists(os.path.join(cache, "id")):
        return 0  # cut while the cache directory was made: an empty one is all there can be
    r = tool("journal_verify", cache, hot, acked)
    shutil.rmtree(hot)
    assert r.returncode == 0, f"{image.info}: acknowledged {acked}: {r.stdout.strip()}"
    return int(r.stdout.rsplit("durable=", 1)[1]) - acked


def run(fs, work, env=None):
    more = 0
    with powercut.PowerCutDisk(size_mb=512, fs=fs) as disk:
        hot = os.path.join(work, "hot")
        w = tool("journal_writer", os.path.join(disk.dir, "cache"), hot, disk.mark_path, RECORDS, SEED, env=env)
        assert env or w.returncode == 0, w.stdout
        shutil.rmtree(hot, ignore_errors=True)  # a power cut takes the tmpfs with it
        for n in range(CUTS):
            with disk.cut(SEED * 1000 + n) as image:
                more += verify(image, hot) > 0
    return more


def test_cuts_leave_a_prefix(fs, work):
    run(fs, work)


def test_a_writer_that_was_killed_then_cut(fs, work):
    run(fs, work, env={"JFS_FAULT": "journal.flush.after_commit:40:kill"})


def main():
    why = powercut.unusable()
    passed = failed = skipped = 0
    for fs in ("ext4", "xfs"):
        for name, fn in sorted(globals().items()):
            if not name.startswith("test_") or (len(sys.argv) > 1 and name not in sys.argv[1:]):
                continue
            if why or not any(os.access(os.path.join(p, f"mkfs.{fs}"), os.X_OK) for p in ("/sbin", "/usr/sbin")):
                print(f"SKIP {name} {fs}: {why or 'no mkfs.' + fs}", file=sys.stderr)
                skipped += 1
                continue
            work = tempfile.mkdtemp(prefix="jfs-cut.", dir="/dev/shm")
            try:
                fn(fs, work)
                passed += 1
            except Exception as e:  # every failure is reported, the others still run
                failed += 1
                print(f"FAIL {name} {fs} (JFS_SEED={SEED}): {type(e).__name__}: {e}", file=sys.stderr)
            finally:
                shutil.rmtree(work)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
