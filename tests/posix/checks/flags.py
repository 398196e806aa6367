"""chattr: immutable and append-only files and directories, and who may make them so."""
import array
import contextlib
import fcntl
import os

from base import *  # noqa: F401,F403

GET, SET = 0x80086601, 0x40086602
IMMUTABLE, APPEND, SECURE, COMPRESS = 0x10, 0x20, 0x1, 0x4


def flags(path):
    with opened(path, os.O_RDONLY) as fd:
        out = array.array("i", [0])
        fcntl.ioctl(fd, GET, out)
        return out[0] & (IMMUTABLE | APPEND | SECURE)


def set_flags(path, value):
    with opened(path, os.O_RDONLY) as fd:
        out = array.array("i", [0])
        fcntl.ioctl(fd, GET, out)
        fcntl.ioctl(fd, SET, array.array("i", [(out[0] & ~(IMMUTABLE | APPEND)) | value]))


@contextlib.contextmanager
def flagged(path, value):
    set_flags(path, value)
    try:
        yield
    finally:
        set_flags(path, 0)


def write_at(path, off, how=os.O_WRONLY):
    with opened(path, how) as fd:
        os.pwrite(fd, b"new", off)


@check
def immutable_files(p):
    path = p.file("f", b"text")
    p.file("other")
    with stamps(path, moved="c", kept="am"):
        set_flags(path, IMMUTABLE)
    with flagged(path, IMMUTABLE):
        same(flags(path), IMMUTABLE)
        for function in (lambda: write_at(path, 0), lambda: write_at(path, 4, os.O_WRONLY | os.O_APPEND), lambda: os.truncate(path, 0), lambda: os.chmod(path, 0o600),
                         lambda: os.chown(path, A, A), lambda: os.utime(path, ns=(1, 1)), lambda: os.unlink(path), lambda: os.rename(path, p("g")),
                         lambda: os.rename(p("other"), path), lambda: os.link(path, p("g")), lambda: os.setxattr(path, "user.a", b"1")):
            fails((EPERM, EACCES), function)
        same(read(path), b"text")
    same(flags(path), 0)
    write_at(path, 0)
    same(read(path), b"newt")


@check
def append_only_files(p):
    path = p.file("f", b"text")
    with flagged(path, APPEND):
        same(flags(path), APPEND)
        for function in (lambda: write_at(path, 0), lambda: os.truncate(path, 0), lambda: os.unlink(path), lambda: os.rename(path, p("g")),
                         lambda: os.link(path, p("g")), lambda: os.setxattr(path, "user.a", b"1")):
            fails((EPERM, EACCES), function)
        write_at(path, 0, os.O_WRONLY | os.O_APPEND)
        same(read(path), b"textnew")


@check
def immutable_directories(p):
    folder = p.folder()
    p.file("d/old", b"text")
    p.file("f")
    with flagged(folder, IMMUTABLE):
        for function in (lambda: p.file("d/new"), lambda: os.mkdir(p("d/new")), lambda: os.symlink("x", p("d/new")), lambda: os.unlink(p("d/old")),
                         lambda: os.rename(p("d/old"), p("x")), lambda: os.rename(p("f"), p("d/new")), lambda: os.rmdir(folder)):
            fails((EPERM, EACCES), function)
        write_at(p("d/old"), 0)
    same((os.listdir(folder), read(p("d/old"))), (["old"], b"newt"))


@check
def append_only_directories(p):
    folder = p.folder()
    p.file("d/old")
    with flagged(folder, APPEND):
        p.file("d/new")
        fails(EPERM, os.unlink, p("d/old"))
        fails(EPERM, os.rename, p("d/old"), p("x"))
    same(sorted(os.listdir(folder)), ["new", "old"])


@check
def for_root_alone(p):
    path = p.file("f", owner=A)
    for who in (A, B):
        with user(who):
            fails((EPERM, EACCES), set_flags, path, IMMUTABLE)
            fails((EPERM, EACCES), set_flags, path, APPEND)
    same(flags(path), 0)


@check(only="jfs")
def what_juicefs_keeps(p):
    path = p.file()
    set_flags(path, SECURE)
    same(flags(path), SECURE)
    fails(EOPNOTSUPP, set_flags, path, COMPRESS)
    with opened(path) as fd:
        fails((ENOTTY, EINVAL), fcntl.ioctl, fd, 0x5401)
