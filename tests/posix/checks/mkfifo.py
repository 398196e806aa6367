"""mkfifo: a pipe with a name, which works, too."""
import os
import stat

from base import *  # noqa: F401,F403


@check
def bad_paths(p):
    path_errors(p, os.mkfifo, last=False)


@check
def rules_of_creation(p):
    creation_rules(p, os.mkfifo)


@check
def what_is_made(p):
    with umask(0o022), stamps(p(), moved="mc"):
        os.mkfifo(p("fifo"), 0o666)
    st = os.lstat(p("fifo"))
    same((stat.S_ISFIFO(st.st_mode), mode(p("fifo")), st.st_size, st.st_nlink), (True, 0o644, 0, 1))
    assert abs(st.st_mtime_ns - os.lstat(p()).st_mtime_ns) < 10**9


@check
def bytes_go_through(p):
    os.mkfifo(p("fifo"))

    def writer():
        with open(p("fifo"), "wb") as f:
            f.write(b"through the pipe" * 1000)
    child = start_child(writer)
    same(read(p("fifo")), b"through the pipe" * 1000)
    wait_for(child)
    same(os.lstat(p("fifo")).st_size, 0)
    fails(ENXIO, os.open, p("fifo"), os.O_WRONLY | os.O_NONBLOCK)


@check
def survives_its_name(p):
    os.mkfifo(p("fifo"))
    with opened(p("fifo"), os.O_RDWR | os.O_NONBLOCK) as fd:
        os.unlink(p("fifo"))
        os.write(fd, b"x")
        same(os.read(fd, 10), b"x")
        same(os.fstat(fd).st_nlink, 0)


@check
def cannot_be_positioned_or_shortened(p):
    os.mkfifo(p("fifo"))
    with opened(p("fifo"), os.O_RDWR | os.O_NONBLOCK) as fd:
        fails(ESPIPE, os.lseek, fd, 0, os.SEEK_SET)
        fails(EINVAL, os.ftruncate, fd, 0)
        fails(ESPIPE, os.posix_fallocate, fd, 0, 1)
    fails(EINVAL, os.truncate, p("fifo"), 0)
