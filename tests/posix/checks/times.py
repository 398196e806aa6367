"""Which of the three times reading and writing move, and that they agree wherever one looks."""
import mmap
import os

from base import *  # noqa: F401,F403


@check
def writing(p):
    path = p.file("f", b"text")
    with opened(path) as fd:
        with stamps(path, moved="mc", kept="a"), stamps(p(), kept="mc"):
            os.write(fd, b"T")
        with stamps(path, moved="mc", kept="a"):
            os.pwrite(fd, b"x", 100000)
        with stamps(path, kept="amc"):
            os.write(fd, b"")


@check
def reading_moves_atime_once(p):
    """relatime: a read moves an atime that is not after mtime and ctime; the next one need not."""
    path = p.file("f", b"text")
    with stamps(path, moved="a", kept="mc"):
        same(read(path), b"text")
    with stamps(path, kept="mc"):
        same(read(path), b"text")


@check
def reading_from_the_page_cache(p):
    path = p.file("f", b"text" * 5000)
    with opened(path) as fd:
        os.pread(fd, 20000, 0)
        os.pwrite(fd, b"T", 0)
        with stamps(path, kept="mc"):
            os.pread(fd, 20000, 0)


@check
def listing(p):
    p.file("d-x")
    with stamps(p(), kept="mc"):
        os.listdir(p())
    p.folder("d")
    os.utime(p("d"), ns=(1, 1))
    with stamps(p("d"), moved="a", kept="mc"):
        os.listdir(p("d"))


@check
def a_shared_mapping(p):
    path = p.file("f", b"x" * 8192)
    with opened(path) as fd, mmap.mmap(fd, 8192) as m:
        with stamps(path, moved="mc"):
            m[0] = 1
            m.flush()
            os.fsync(fd)
    same(read(path)[:2], b"\1x")


@check
def same_everywhere(p):
    path = p.file("f", b"text")
    os.link(path, p("g"))
    with opened(path) as fd:
        for step in (lambda: os.write(fd, b"x"), lambda: os.fchmod(fd, 0o600), lambda: os.ftruncate(fd, 9), lambda: os.rename(p("g"), p("h")),
                     lambda: os.utime(path, ns=(5, 6)), lambda: os.pread(fd, 5, 0)):
            step()
            name = p("h") if os.path.exists(p("h")) else p("g")
            same(os.fstat(fd)[1:9], os.stat(path)[1:9])
            for letter in "amc":
                same(len({getattr(s, f"st_{letter}time_ns") for s in (os.fstat(fd), os.stat(path), os.stat(name))}), 1, letter + "time")


@check
def never_backwards(p):
    path = p.file()
    last = 0
    for n in range(200):
        os.chmod(path, 0o600 + n % 8)
        now = os.stat(path).st_ctime_ns
        assert now >= last, "ctime went back"
        last = now
