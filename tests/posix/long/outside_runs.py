#!/usr/bin/env python3
"""fsx and fsstress (of xfstests or LTP) on a mount of ours whose replay and upload go on meanwhile; then what must hold after
every long run. Neither program is part of this project: FSX and FSSTRESS name them.

    FSX=.../ltp/fsx FSSTRESS=.../ltp/fsstress tests/posix/long/outside_runs.py [--only PATTERN] [--seed N]

OUTSIDE_OPS is how many operations (of each fsx; of all four fsstress processes together), FSX_SIZE how large fsx's file may
become. The volume, its bucket and the ext4 image for comparison lie below JFS_TEST_TMP (default /var/tmp)."""
import os
import re
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import NEEDS, assert_same_answers, assert_same_as_native, drained, mounted, native_folder, report, tree  # noqa: E402
import ring  # noqa: E402
from harness import Skip, main, test  # noqa: E402

HOURS, PROCS = 3600, 4
# What no FUSE file system has or ext4 has not, and what asks for the block size: their answers differ, and so does what follows.
NOT_ON_BOTH = ("aread awrite dread dwrite uring_read uring_write read_dontcache write_dontcache fiemap insert collapse unshare "
               "copyrange splice clonerange deduperange exchangerange rwhiteout setattr setxattr bulkstat bulkstat1 getattr listfattr "
               "snapshot subvol_create subvol_delete").split()


def program(variable):
    path = os.environ.get(variable, "")
    if not os.access(path, os.X_OK):
        raise Skip(f"{variable} names no program")
    return path


def operations(default):
    return int(os.environ.get("OUTSIDE_OPS", default))


def fsx(t, options, name):
    ops, size, start = operations(1_000_000), int(os.environ.get("FSX_SIZE", 256 << 10)), time.monotonic()
    m = mounted(t, "-o", "retention=2m")
    text = t.run(program("FSX"), "-N", ops, "-S", t.seed, "-l", size, "-o", size // 4, "-P", t.folder("fsx"), *options,
                 m.path(name), timeout=5 * HOURS)
    assert f"All {ops} operations completed A-OK!" in text, text[-2000:]
    report(t, f"fsx {' '.join(options)}, {ops} operations on up to {size} bytes: {time.monotonic() - start:.0f} s")
    left_out = re.findall(r"does not support (.*?), disabling", text)
    report(t, f"it left out: {', '.join(left_out) or 'nothing'}")
    drained(t, m)


@test(timeout=6 * HOURS, needs=NEEDS)
def fsx_operations(t):
    """All kinds of operations that the file system has: reads and writes, mapped ones, too, truncate, fallocate, punch, zero,
    copy_file_range."""
    fsx(t, ["-c", "1000"], "f")


@test(timeout=6 * HOURS, needs=NEEDS)
def fsx_direct_operations(t):
    """The same with O_DIRECT, which leaves out mapped ones."""
    fsx(t, ["-Z", "-R", "-W", "-r", "4096", "-w", "4096", "-t", "4096"], "f")


def fsstress(t, folder, name, *options):
    """Returns the logs of the processes."""
    log, ops, start = os.path.join(t.folder(name), "log"), operations(200_000), time.monotonic()
    t.run(program("FSSTRESS"), "-d", folder, "-n", ops // PROCS, "-p", PROCS, "-s", t.seed, "-v", "-V", "-o", log, *options,
          timeout=2 * HOURS)
    report(t, f"fsstress, {PROCS} processes, {ops} operations {name}: {time.monotonic() - start:.0f} s")
    logs = [f"{log}.{k}" for k in range(PROCS)]
    for path in logs:
        with open(path, encoding="utf-8", errors="replace") as f:
            done = sum(re.match(r"\d+/\d+: ", line) is not None for line in f)
        assert done >= ops // PROCS // 2, f"only {done} operations in {path}"
    return logs


def without_blocks(path):
    """A log without how many blocks a file has: holes and fallocate are each file system's own business."""
    out = path + ".compared"
    with open(path, encoding="utf-8", errors="replace") as f, open(out, "w", encoding="ascii", errors="backslashreplace") as g:
        g.writelines(re.sub(r"\[(-1 \d+ \d+ \d+) \d+ (\d+)\]", r"[\1 \2]", line) for line in f)
    return out


@test(timeout=3 * HOURS, needs=NEEDS)
def fsstress_as_on_ext4(t):
    """The same operations on the mount and on ext4: equal answers, equal trees."""
    without = [word for op in NOT_ON_BOTH for word in ("-f", f"{op}=0")]
    native, m = native_folder(t), mounted(t, "-o", "retention=2m")
    logs = [fsstress(t, folder, name, *without) for folder, name in ((native, "on-native"), (m.dir, "on-mount"))]
    for a, b in zip(*logs):
        assert_same_answers(without_blocks(a), without_blocks(b))
    native_tree = tree.scan(native)
    assert_same_as_native(native_tree, tree.scan(m.dir))
    report(t, f"equal answers, and equal trees of {len(native_tree)} paths")
    drained(t, m)


@test(timeout=3 * HOURS, needs=NEEDS)
def fsstress_with_everything(t):
    """All its operations: direct and asynchronous ones, too."""
    m = mounted(t, "-o", "retention=2m")
    fsstress(t, m.dir, "on-mount")
    drained(t, m)


if __name__ == "__main__":
    with ring.as_wanted():
        sys.exit(main())
