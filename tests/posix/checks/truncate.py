"""truncate and ftruncate: lengths, zeros, rights, times."""
import os

from base import *  # noqa: F401,F403


@check
def bad_paths(p):
    path_errors(p, lambda path: os.truncate(path, 0))


@check
def to_all_lengths(p):
    data = p.rng.randbytes(200000)
    path = p.file("f", data)
    for length in (199999, 131072, 100000, 65537, 65536, 4097, 4096, 4095, 100, 1, 0):
        os.truncate(path, length)
        same(os.stat(path).st_size, length)
        same(read(path), data[:length])
    for length in (1, 5000, 70000):
        os.truncate(path, length)
        same(read(path), b"\0" * length)


@check
def what_was_cut_is_zero(p):
    path = p.file("f", b"x" * 10000)
    os.truncate(path, 10)
    os.truncate(path, 10000)
    same(read(path), b"x" * 10 + b"\0" * 9990)
    with opened(path) as fd:
        os.ftruncate(fd, 5)
        os.pwrite(fd, b"end", 9000)
    same(read(path), b"x" * 5 + b"\0" * 8995 + b"end")


@check
def times(p):
    path = p.file("f", b"x" * 100)
    for length in (50, 200, 0):
        with stamps(path, moved="mc", kept="a"), stamps(p(), kept="mc"):
            os.truncate(path, length)
    with opened(path) as fd:
        with stamps(path, moved="mc"):
            os.ftruncate(fd, 10)
        with stamps(path, moved="mc"):
            os.ftruncate(fd, 10)


@check
def what_is_refused(p):
    path = p.file("f", b"text")
    fails(EISDIR, os.truncate, p(), 0)
    fails(EINVAL, os.truncate, path, -1)
    fails(EFBIG, os.truncate, path, (1 << 63) - 1)
    for kind in ("fifo", "socket"):
        fails((EINVAL, ENXIO), os.truncate, p.node(kind), 0)
    with opened(path, os.O_RDONLY) as fd:
        fails(EINVAL, os.ftruncate, fd, 0)
    with opened(path) as fd:
        fails(EINVAL, os.ftruncate, fd, -1)
    same(read(path), b"text")


@check
def rights(p):
    path = p.file("f", b"text", 0o644, A)
    with user(B), stamps(path, kept="amc"):
        fails(EACCES, os.truncate, path, 0)
    with user(A):
        os.truncate(path, 2)
    os.chmod(path, 0o444)
    with user(A):
        fails(EACCES, os.truncate, path, 0)
    with user(A):
        os.chmod(path, 0o644)
        with opened(path) as fd:
            os.chmod(path, 0)
            os.ftruncate(fd, 1)
    same(read(path), b"t")


@check
def an_executing_file_is_busy(p):
    path = p("program")
    with open("/bin/cat", "rb") as f, open(path, "wb") as out:
        out.write(f.read())
    os.chmod(path, 0o755)
    down, back = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(down[0], 0)
        os.dup2(back[1], 1)
        os.closerange(3, 100)
        os.execv(path, [path])
    os.close(down[0])
    os.write(down[1], b"alive")
    same(os.read(back[0], 10), b"alive")
    fails(ETXTBSY, os.truncate, path, 0)
    fails(ETXTBSY, os.open, path, os.O_RDWR)
    os.close(down[1])
    same(os.waitpid(pid, 0)[1], 0)


@check
def follows_symlinks(p):
    p.file("f", b"text")
    os.symlink("f", p("l"))
    os.truncate(p("l"), 1)
    same(read(p("f")), b"t")


@check
def seen_by_all_descriptors(p):
    path = p.file("f", b"0123456789")
    with opened(path) as a, opened(path, os.O_RDONLY) as b:
        os.lseek(b, 8, os.SEEK_SET)
        os.ftruncate(a, 4)
        same((os.fstat(b).st_size, os.read(b, 10)), (4, b""))
        os.write(a, b"ABCDEF")
        same(os.read(b, 10), b"")
        os.ftruncate(a, 20)
        same(os.read(b, 20), b"\0" * 12)
