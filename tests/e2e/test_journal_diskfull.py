#!/usr/bin/env python3
"""History 12 on a real file system: the disk fills up under the journal's flush, the daemon is killed, recovery meets the
full disk, then there is room again. Nothing that was durable is lost, and nothing ends in EIO."""
import os
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *  # noqa: E402,F403
from journaltools import on_each_file_system, powercut, tool  # noqa: E402


def fill(path):
    """Takes all of the file system but 64.75 MiB: room for one segment and little else, so that base's pages meet the end before
    the segment is full."""
    with open(path, "wb", buffering=0) as f:
        for size in (1 << 20, 4096, 512):
            try:
                while True:
                    f.write(b"x" * size)
            except OSError:
                pass
        f.truncate(f.tell() - (259 << 18))


@on_each_file_system
def history_12_disk_full(_t, fs, work):
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
        shutil.rmtree(hot)
        os.mkdir(hot)
        r = tool("journal_verify", cache, hot, 0)  # its clean close gives back what was kept ahead
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


if __name__ == "__main__":
    sys.exit(main())
