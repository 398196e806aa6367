"""utimensat and futimens: to the nanosecond, UTIME_NOW and UTIME_OMIT, rights."""
import os
import struct
import time

from base import *  # noqa: F401,F403

NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2
NOFOLLOW = 0x100


def utimes(path, atime, mtime, flags=0):
    """Times are (seconds, nanoseconds or NOW or OMIT); None for both: a null pointer."""
    call("utimensat", -100, path, None if atime is None else struct.pack("4q", *atime, *mtime), flags)


def times_of(path):
    st = os.lstat(path)
    return st.st_atime_ns, st.st_mtime_ns


@check
def bad_paths(p):
    path_errors(p, lambda path: utimes(path, (1, 0), (2, 0)))


@check
def exact_on_every_kind(p):
    for kind in KINDS:
        path = p.node(kind)
        for a, m in ((1, 999999999), (10**18 + 123456789, 10**18 + 987654321), (0, 0), (2**31 * 10**9 - 1, 2**31 * 10**9 + 1),
                     (2**32 * 10**9 + 5, 15 * 10**18 // 10)):
            os.utime(path, ns=(a, m), follow_symlinks=False)
            same(times_of(path), (a, m), kind)


@check
def before_the_epoch(p):
    path = p.file()
    utimes(path, (-1, 5), (-1000, 999999999))
    same(times_of(path), (-10**9 + 5, -1000 * 10**9 + 999999999))


@check
def now(p):
    path = p.file()
    utimes(path, (1, 2), (3, 4))
    with stamps(path, moved="amc"):
        utimes(path, None, None)
    utimes(path, (1, 2), (3, 4))
    utimes(path, (0, NOW), (0, NOW))
    assert abs(times_of(path)[0] - time.time_ns()) < 5 * 10**9
    utimes(path, (1, 2), (0, NOW))
    same(times_of(path)[0], 10**9 + 2)
    assert abs(times_of(path)[1] - time.time_ns()) < 5 * 10**9


@check
def omitted(p):
    path = p.file()
    utimes(path, (1, 2), (3, 4))
    utimes(path, (9, OMIT), (5, 6))
    same(times_of(path), (10**9 + 2, 5 * 10**9 + 6))
    utimes(path, (7, 8), (9, OMIT))
    same(times_of(path), (7 * 10**9 + 8, 5 * 10**9 + 6))
    with stamps(path, kept="amc"):
        utimes(path, (9, OMIT), (9, OMIT))
    with stamps(path, moved="c", kept="am"):
        utimes(path, (7, 8), (5, 6))
    fails(EINVAL, utimes, path, (0, 10**9), (0, 0))
    fails(EINVAL, utimes, path, (0, 0), (0, -1))


@check
def symlinks(p):
    p.file("f")
    utimes(p("f"), (1, 2), (3, 4))
    os.symlink("f", p("l"))
    utimes(p("l"), (5, 6), (7, 8), NOFOLLOW)
    same((times_of(p("l")), times_of(p("f"))), ((5 * 10**9 + 6, 7 * 10**9 + 8), (10**9 + 2, 3 * 10**9 + 4)))
    utimes(p("l"), (9, 9), (9, 9))
    same(times_of(p("f")), (9 * 10**9 + 9, 9 * 10**9 + 9))
    fails(ENOENT, utimes, p.node("symlink", "dangling"), (1, 1), (1, 1))


@check
def rights(p):
    path = p.file("f", b"", 0o644, A)
    with user(A):
        utimes(path, (1, 2), (3, 4))
        utimes(path, None, None)
    with user(B):
        fails(EACCES, utimes, path, None, None)
        fails(EACCES, utimes, path, (0, NOW), (0, NOW))
        fails(EPERM, utimes, path, (1, 2), (3, 4))
        fails(EPERM, utimes, path, (0, NOW), (0, OMIT))
        utimes(path, (0, OMIT), (0, OMIT))
    os.chmod(path, 0o666)
    with user(B), stamps(path, moved="amc"):
        utimes(path, None, None)
    with user(B):
        fails(EPERM, utimes, path, (1, 2), (3, 4))
        fails(EPERM, utimes, path, (0, NOW), (0, OMIT))
        fails(EPERM, utimes, path, (0, NOW), (3, 4))
    os.chmod(path, 0)
    with user(A):
        utimes(path, (1, 2), (3, 4))
    same(times_of(path), (10**9 + 2, 3 * 10**9 + 4))


@check
def of_an_open_file(p):
    with opened(p.file(), os.O_RDONLY) as fd:
        os.utime(fd, ns=(11, 12))
        same(times_of(p("f")), (11, 12))
        os.unlink(p("f"))
        os.utime(fd, ns=(13, 14))
        same(os.fstat(fd).st_mtime_ns, 14)


@check
def a_later_write_moves_mtime_again(p):
    path = p.file("f", b"text")
    os.utime(path, ns=(1, 2))
    with opened(path) as fd:
        os.utime(fd, ns=(3, 4))
        os.pwrite(fd, b"T", 0)
    assert times_of(path)[1] > 10**18 and times_of(path)[0] == 3
