"""The journal alone on a disk of its own: its writer and its verifier (tests/e2e/journal_*.c), on each file system that a
cache directory may have."""
import functools
import os
import shutil
import subprocess
import sys
import tempfile

from harness import BUILD, ROOT, Skip, add

sys.path.insert(0, os.path.join(ROOT, "fault-injection"))
import powercut  # noqa: E402


def tool(name, *args, env=None):
    return subprocess.run([os.path.join(BUILD, "tests", "e2e", name), *map(str, args)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=120, env={**os.environ, **(env or {})}, check=False)


def _on(fs, function, t):
    why = powercut.unusable()
    if why or not any(os.access(os.path.join(p, f"mkfs.{fs}"), os.X_OK) for p in ("/sbin", "/usr/sbin")):
        raise Skip(why or f"no mkfs.{fs}")
    work = tempfile.mkdtemp(prefix="jfs-journal.", dir="/dev/shm")  # the hot directory has to be on a tmpfs
    t.defer(shutil.rmtree, work)
    function(t, fs, work)


def on_each_file_system(function):
    """Registers function(t, fs, work) as one test for each file system; `work` lies on a tmpfs."""
    for fs in ("ext4", "xfs"):
        add(f"{function.__name__}_{fs}", functools.partial(_on, fs, function), timeout=180, needs=("root", "fuse", "tools"))
    return function
