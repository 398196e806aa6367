#!/usr/bin/env python3
"""The journal alone under power cuts: what was reported durable is there, the rest is a prefix, no byte is torn.

journal_writer commits a known history into a cache directory on a disk that records every write and flush. The hot
directory lies on a tmpfs outside of it and is gone after a cut. journal_verify opens the journal of every image."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *  # noqa: E402,F403
from journaltools import on_each_file_system, powercut, tool  # noqa: E402

RECORDS = int(os.environ.get("JFS_CUT_RECORDS", "4000"))
CUTS = int(os.environ.get("JFS_CUTS", "20"))


def verify(image, hot):
    """Raises when what is found in the image is not a prefix with everything acknowledged. How many records the sync log gave."""
    os.mkdir(hot)
    cache = os.path.join(image.dir, "cache")
    acked = max((int(m) for m in image.marks), default=0)
    if not acked and not os.path.exists(os.path.join(cache, "id")):
        return 0  # cut while the cache directory was made: an empty one is all there can be
    r = tool("journal_verify", cache, hot, acked)
    shutil.rmtree(hot)
    assert r.returncode == 0, f"{image.info}: acknowledged {acked}: {r.stdout.strip()}"
    return int(r.stdout.split("synced=")[1])


def run(t, fs, work, env=None):
    with powercut.PowerCutDisk(size_mb=512, fs=fs) as disk:
        hot = os.path.join(work, "hot")
        w = tool("journal_writer", os.path.join(disk.dir, "cache"), hot, disk.mark_path, RECORDS, t.seed, env=env)
        assert env or w.returncode == 0, w.stdout
        shutil.rmtree(hot, ignore_errors=True)  # a power cut takes the tmpfs with it
        synced = 0
        for n in range(CUTS):
            with disk.cut(t.seed * 1000 + n) as image:
                synced += verify(image, hot)
        t.note("records from the sync log", synced)
        assert synced, "no cut met a frame of the sync log"


@on_each_file_system
def cuts_leave_a_prefix(t, fs, work):
    run(t, fs, work)


@on_each_file_system
def a_writer_that_was_killed_then_cut(t, fs, work):
    run(t, fs, work, env={"JFS_FAULT": f"{t.rng.choice(('journal.flush.after_commit', 'journal.sync.before_sync'))}:40:kill"})


if __name__ == "__main__":
    sys.exit(main())
