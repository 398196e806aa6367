"""A random tree of files: everything that changes what directories hold, how large files are, and who owns them."""
import contextlib
import ctypes
import errno
import os

from op import AT_FDCWD, libc, system_call

# What the steps may meet: they choose without looking.
EXPECTED = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EDQUOT, errno.ENOSPC,
            errno.EXDEV, errno.ELOOP, errno.EPERM}
EXCHANGE = 2
KEEP_SIZE, PUNCH, ZERO = 1, 2 | 1, 16
SIZES = (0, 1, 4095, 4096, 4097, 20000, 70000, 200000)


class Workload:
    """Steps of a seeded generator below `root`. `refused` counts what was answered EDQUOT or ENOSPC."""

    def __init__(self, rng, root, dirs=("a", "a/x", "a/x/y", "b", "b/z", "c"), owners=()):
        self.rng, self.root, self.owners = rng, root, owners
        self.held = []  # descriptors of files that may have lost their names
        self.refused = 0
        self.dirs = [os.path.join(root, d) for d in dirs]
        for d in self.dirs:
            os.makedirs(d, exist_ok=True)

    def folder(self):
        return self.rng.choice(self.dirs)

    def file(self):
        return os.path.join(self.folder(), f"f{self.rng.randrange(8)}")

    def directory(self):
        return os.path.join(self.folder(), f"d{self.rng.randrange(4)}")

    def steps(self, count, without=()):
        verbs = [getattr(self, n) for n in dir(type(self)) if n.startswith("do_") and n not in without]
        for _ in range(count):
            try:
                self.rng.choice(verbs)()
            except OSError as e:
                if e.errno not in EXPECTED:
                    raise
                self.refused += e.errno in (errno.EDQUOT, errno.ENOSPC)

    def close(self):
        for fd in self.held:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.held = []

    @contextlib.contextmanager
    def opened(self, flags=os.O_RDWR | os.O_CREAT):
        fd = os.open(self.file(), flags, 0o644)
        try:
            yield fd
        finally:
            os.close(fd)

    def do_write(self):
        with self.opened() as fd:
            os.pwrite(fd, self.rng.randbytes(self.rng.choice(SIZES) or 1), self.rng.choice((0, 100, 30000)))

    def do_append(self):
        with self.opened(os.O_WRONLY | os.O_CREAT | os.O_APPEND) as fd:
            os.write(fd, self.rng.randbytes(self.rng.choice((1, 5000))))

    def do_rewrite(self):
        with self.opened(os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
            os.write(fd, b"x" * self.rng.choice(SIZES))

    def do_truncate(self):
        os.truncate(self.file(), self.rng.choice(SIZES))

    def do_fallocate(self):
        with self.opened() as fd:
            mode, at, size = self.rng.choice((0, KEEP_SIZE, PUNCH, ZERO, ZERO | KEEP_SIZE)), self.rng.choice(SIZES), self.rng.choice(SIZES)
            system_call(libc.fallocate(fd, mode, ctypes.c_long(at), ctypes.c_long(size or 1)))

    def do_copy_range(self):
        with self.opened() as a, self.opened() as b:
            os.copy_file_range(a, b, 100000, 0, self.rng.choice(SIZES))

    def do_rename(self):
        os.rename(self.file(), self.file())

    def do_exchange(self):
        one, other = self.rng.choice((self.file, self.directory))(), self.rng.choice((self.file, self.directory))()
        system_call(libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), EXCHANGE))

    def do_link(self):
        os.link(self.file(), self.file())

    def do_unlink(self):
        os.unlink(self.file())

    def do_unlink_open(self):
        path = self.file()
        fd = os.open(path, os.O_RDWR)
        self.held.append(fd)
        os.unlink(path)
        os.pwrite(fd, b"y" * 9000, self.rng.choice(SIZES))
        os.ftruncate(fd, self.rng.choice(SIZES))
        if len(self.held) > 4:
            os.close(self.held.pop(0))

    def do_symlink(self):
        os.symlink("nowhere" * self.rng.randrange(1, 9), self.file())

    def do_special(self):
        os.mkfifo(os.path.join(self.folder(), "p"))

    def do_unlink_special(self):
        os.unlink(os.path.join(self.folder(), "p"))

    def do_mkdir(self):
        os.mkdir(self.directory())

    def do_fill(self):
        """A directory with something in it, so that moving it moves a tree."""
        top = self.directory()
        os.makedirs(os.path.join(top, "sub"), exist_ok=True)
        with open(os.path.join(top, "sub", "s"), "ab") as f:
            f.write(self.rng.randbytes(self.rng.choice((1, 10000))))

    def do_rmdir(self):
        os.rmdir(self.directory())

    def do_empty(self):
        top = self.directory()
        os.unlink(os.path.join(top, "sub", "s"))
        os.rmdir(os.path.join(top, "sub"))

    def do_move_dir(self):
        os.rename(self.directory(), self.directory())

    def do_move_tree(self):
        """One of the fixed ones goes elsewhere, and comes back."""
        source = self.folder()
        target = os.path.join(self.folder(), "moved")
        os.rename(source, target)
        try:
            if self.rng.random() < 0.5:
                self.steps(2)
        finally:
            os.rename(target, source)

    def do_chown(self):
        if self.owners:
            os.chown(self.rng.choice((self.file, self.directory))(), self.rng.choice(self.owners), self.rng.choice(self.owners),
                     follow_symlinks=False)
