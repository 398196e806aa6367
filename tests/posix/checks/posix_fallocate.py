"""posix_fallocate, and what fallocate's modes do to length and bytes."""
import ctypes
import os

from base import *  # noqa: F401,F403

KEEP, PUNCH, COLLAPSE, ZERO, INSERT, UNSHARE = 1, 2, 8, 16, 32, 64
MODES_JUICEFS_HAS_NOT = (COLLAPSE, INSERT, UNSHARE, UNSHARE | KEEP)


def fallocate(fd, flags, off, length):
    call("fallocate", fd, flags, ctypes.c_long(off), ctypes.c_long(length))


@check
def lengthens(p):
    path = p.file("f", b"text")
    with opened(path) as fd:
        with stamps(path, moved="mc"):
            os.posix_fallocate(fd, 0, 10000)
        same(read(path), b"text" + b"\0" * 9996)
        os.posix_fallocate(fd, 20000, 5)
        same(os.fstat(fd).st_size, 20005)
        os.posix_fallocate(fd, 100, 200)
        same(os.fstat(fd).st_size, 20005)
        same(read(path), b"text" + b"\0" * 20001)


@check
def what_is_refused(p):
    with opened(p.file()) as fd:
        fails(EINVAL, os.posix_fallocate, fd, 0, 0)
        fails(EINVAL, os.posix_fallocate, fd, -1, 10)
        fails(EINVAL, os.posix_fallocate, fd, 0, -1)
        fails(EFBIG, os.posix_fallocate, fd, (1 << 63) - 10, 100)
        same(os.fstat(fd).st_size, 0)
    with opened(p("f"), os.O_RDONLY) as fd:
        fails(EBADF, os.posix_fallocate, fd, 0, 10)
    with opened(p(), os.O_RDONLY) as fd:
        fails((EBADF, EISDIR, ENODEV), os.posix_fallocate, fd, 0, 10)


@check
def keeps_the_length_when_told(p):
    with opened(p.file("f", b"text")) as fd:
        fallocate(fd, KEEP, 0, 100000)
        same(read(p("f")), b"text")
        fails(EOPNOTSUPP, fallocate, fd, PUNCH, 0, 10)
        fails(EOPNOTSUPP, fallocate, fd, PUNCH | ZERO | KEEP, 0, 10)


@check
def punches_and_zeroes(p):
    data = bytearray(p.rng.randbytes(300000))
    path = p.file("f", data)
    with opened(path) as fd:
        for flags in (PUNCH | KEEP, ZERO, ZERO | KEEP):
            for off, length in ((0, 1), (4096, 4096), (5000, 100000), (131072, 65536), (250000, 50000)):
                with stamps(path, moved="mc"):
                    fallocate(fd, flags, off, length)
                data[off:off + length] = b"\0" * length
                same(read(path) == data, True, f"bytes after mode {flags} at {off}")
            data = bytearray(p.rng.randbytes(300000))
            os.pwrite(fd, data, 0)
        fallocate(fd, PUNCH | KEEP, 299000, 100000)
        fallocate(fd, ZERO | KEEP, 299500, 100000)
        same(os.fstat(fd).st_size, 300000)
        fallocate(fd, ZERO, 299900, 1000)
        same(os.fstat(fd).st_size, 300900)
        same(read(path), bytes(data[:299000]) + b"\0" * 1900)


@check
def setuid_goes(p):
    path = p.file("f", b"text" * 1000, 0o666, A)
    for flags in (0, KEEP, ZERO, PUNCH | KEEP):
        os.chmod(path, 0o6777)
        with user(B), opened(path) as fd:
            fallocate(fd, flags, 0, 5000)
        same(mode(path), 0o777, f"after mode {flags}")


@check(only="jfs")
def modes_that_juicefs_has_not(p):
    path = p.file("f", b"x" * 100000)
    with opened(path) as fd:
        for flags in MODES_JUICEFS_HAS_NOT:
            with stamps(path, kept="amc"):
                fails(EOPNOTSUPP, fallocate, fd, flags, 0, 65536)
    same(read(path), b"x" * 100000)
