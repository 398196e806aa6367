"""Power cuts without a power switch: a mounted file system whose disk records every write and flush, and images of what
a cut at any point could have left.

    with PowerCutDisk(size_mb=256) as disk:            # an ext4 (or fs="xfs"), mounted at disk.dir
        ... run the program under test in disk.dir; after each operation that was reported synced: disk.mark("17")
        with disk.cut(seed=1) as image:                # also while the program still runs, as often as wanted
            image.dir       the same file system after the cut, mounted read-write on its own loop device
            image.marks     the marks written before the cut, in order
            image.info      cut, flush, kept, ... as powercut.c prints them

A C program may write its marks itself, with one write(2) each, to disk.mark_path. A mark says that an operation was
acknowledged as synced *before* the mark; the verifier demands everything up to the last mark, and allows what came later.
Everything (log, images, loop devices, mounts) is undone on the way out, also after an exception. Needs root, loop
devices and FUSE. Memory: the log and an image lie in /dev/shm; the log is limited (max_log_mb)."""
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MKFS = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-K"],
}
MOUNT_OPTS = {"ext4": "noatime", "xfs": "noatime,nouuid"}


def unusable():
    """Why there can be no PowerCutDisk here, or None."""
    if os.geteuid() != 0:
        return "not root"
    for dev in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(dev):
            return f"no {dev}"
    return None


def _run(*argv):
    r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if r.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: exit {r.returncode}: {r.stdout.strip()}")
    return r.stdout


def _tool(name):
    return os.path.join(os.environ.get("JFS_BUILD") or os.path.join(ROOT, "build"), "fault-injection", name)


def _umount(path):
    """Lazily only when something still holds the mount: the holder is the caller's mistake, a leaked loop device ours."""
    if subprocess.run(["umount", path], capture_output=True).returncode != 0:
        _run("umount", "-l", path)


@contextlib.contextmanager
def loop_mount(image, where, fs="ext4", opts=None):
    """Attaches `image` to a loop device and mounts it at `where` (made if missing)."""
    with contextlib.ExitStack() as stack:
        os.makedirs(where, exist_ok=True)
        loop = _run("losetup", "-f", "--show", image).strip()
        stack.callback(_run, "losetup", "-d", loop)
        _run("mount", "-t", fs, "-o", opts or MOUNT_OPTS[fs], loop, where)
        stack.callback(_umount, where)
        yield loop


class Cut:
    def __init__(self, directory, image, text):
        self.dir = directory
        self.image = image
        self.marks = []
        self.info = {}
        for line in text.splitlines():
            if line.startswith("mark "):
                self.marks.append(line[5:])
            else:
                key, value = line.split("=")
                self.info[key] = float(value) if "." in value else int(value)


class PowerCutDisk:
    def __init__(self, size_mb=256, fs="ext4", mount_opts=None, mkfs_opts=(), max_log_mb=2048, workdir=None):
        self.size_mb, self.fs, self.mount_opts = size_mb, fs, mount_opts
        self.mkfs_opts, self.max_log_mb, self.workdir = list(mkfs_opts), max_log_mb, workdir
        self.stack = contextlib.ExitStack()
        self.mount = None  # an ExitStack of its own, so that unmount() can come before the cuts

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *exc):
        self.stack.close()

    def _start(self):
        parent = self.workdir or ("/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self.work = tempfile.mkdtemp(prefix="powercut.", dir=parent)
        self.stack.callback(shutil.rmtree, self.work)
        self.base = os.path.join(self.work, "base.img")
        self.log = os.path.join(self.work, "log")
        self.dir = os.path.join(self.work, "mnt")
        blk = os.path.join(self.work, "blk")
        os.mkdir(blk)
        with open(self.base, "wb") as f:
            f.truncate(self.size_mb << 20)
        _run(*MKFS[self.fs], *self.mkfs_opts, self.base)
        self.proc = subprocess.Popen([_tool("blklog"), blk, self.base, self.log, str(self.max_log_mb)],
                                     stdout=subprocess.PIPE, text=True)
        self.stack.callback(self._stop_blklog)
        if self.proc.stdout.readline() != "ready\n":
            raise RuntimeError("blklog did not start")
        self.mount = contextlib.ExitStack()
        self.stack.callback(self.mount.close)
        self.mount.enter_context(loop_mount(os.path.join(blk, "disk"), self.dir, self.fs, self.mount_opts))
        self.mark_path = os.path.join(blk, "mark")
        self._mark_fd = os.open(self.mark_path, os.O_WRONLY)
        self.mount.callback(os.close, self._mark_fd)
        self._ncut = 0

    def _stop_blklog(self):
        self.proc.send_signal(signal.SIGTERM)
        self.proc.wait(30)
        self.proc.stdout.close()

    def mark(self, text):
        os.write(self._mark_fd, str(text).encode())

    def unmount(self):
        """Ends the history orderly (its last records are those of the umount). Cuts remain possible."""
        self.mount.close()

    def records(self):
        """How many records the log has by now: a position for cut(from_rec=..., to_rec=...) and at()."""
        return int(_run(_tool("powercut"), "list", self.log).splitlines()[0].split("=")[1])

    def marks(self):
        """[(record number, text)] of all marks so far."""
        lines = [line.split(" ", 2) for line in _run(_tool("powercut"), "list", self.log).splitlines()]
        return [(int(words[1]), words[2]) for words in lines if words[0] == "mark"]

    def cut(self, seed, from_rec=None, to_rec=None, where=None):
        """A seeded random cut between two records (default: around the marks). `where`: mount the image there, e.g. at
        disk.dir after unmount(), for a program that knows its directory by name."""
        args = [] if from_rec is None else [str(from_rec), str(to_rec)]
        return self._image(where, "cut", str(seed), *args)

    def at(self, seed, record, where=None):
        """The cut right behind record number `record`."""
        return self._image(where, "at", str(seed), str(record))

    @contextlib.contextmanager
    def _image(self, where, verb, *args):
        self._ncut += 1
        image = os.path.join(self.work, f"cut{self._ncut}.img")
        with contextlib.ExitStack() as stack:
            if where is None:
                where = os.path.join(self.work, f"cut{self._ncut}")
                os.mkdir(where)
                stack.callback(os.rmdir, where)
            stack.callback(lambda: os.path.exists(image) and os.unlink(image))
            cut = Cut(where, image, _run(_tool("powercut"), verb, self.log, self.base, image, *args))
            stack.enter_context(loop_mount(image, where, self.fs, self.mount_opts))
            yield cut
