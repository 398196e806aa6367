"""Holes: SEEK_DATA and SEEK_HOLE, block counts, copy_file_range, and files up to the size limits."""
import ctypes
import fcntl
import os

from base import *  # noqa: F401,F403

PUNCH_KEEP = 3
JFS_LIMIT = (1 << 31) * (64 << 20)  # 2^31 chunks of 64 MiB


def data_and_holes(fd):
    """[(start, end of data)]"""
    out, size, off = [], os.fstat(fd).st_size, 0
    while off < size:
        try:
            start = os.lseek(fd, off, os.SEEK_DATA)
        except OSError as e:
            same(e.errno, ENXIO)
            break
        off = os.lseek(fd, start, os.SEEK_HOLE)
        out.append((start, off))
    return out


@check
def data_is_found(p):
    """What was written is reported as data, whatever else is; holes hold zeros."""
    path = p.file()
    with opened(path) as fd:
        os.ftruncate(fd, 10 << 20)
        same(data_and_holes(fd), [])
        for off in (1 << 20, 5 << 20, (10 << 20) - 65536):
            os.pwrite(fd, b"x" * 65536, off)
        os.fsync(fd)
        found = data_and_holes(fd)
        for off in (1 << 20, 5 << 20, (10 << 20) - 65536):
            assert any(a <= off and off + 65536 <= b for a, b in found), f"data at {off} is not in {found}"
        assert sum(b - a for a, b in found) < 5 << 20, "no hole at all"
        before = 0
        for a, b in [*found, (10 << 20, 0)]:
            assert not os.pread(fd, a - before, before).strip(b"\0"), "a hole with bytes in it"
            before = b


@check
def errors_of_seeking(p):
    with opened(p.file("f", b"x" * 1000)) as fd:
        fails(ENXIO, os.lseek, fd, 1000, os.SEEK_DATA)
        fails(ENXIO, os.lseek, fd, 1001, os.SEEK_HOLE)
        fails((ENXIO, EINVAL), os.lseek, fd, -1, os.SEEK_DATA)
        same((os.lseek(fd, 0, os.SEEK_DATA), os.lseek(fd, 0, os.SEEK_HOLE), os.lseek(fd, 999, os.SEEK_HOLE)), (0, 1000, 1000))
    with opened(p.file("empty")) as fd:
        fails(ENXIO, os.lseek, fd, 0, os.SEEK_DATA)


@check(only="jfs")
def holes_are_exact(p):
    """To the block of 4096 bytes, also where extents meet, after punching, cutting and growing."""
    with opened(p.file()) as fd:
        os.ftruncate(fd, 200 << 20)
        os.pwrite(fd, b"x" * 1000, 100)
        os.pwrite(fd, b"x" * 1000, 1100)
        os.pwrite(fd, b"x", 5000)
        os.pwrite(fd, b"x" * 4096, 12288)
        os.pwrite(fd, b"x" * 20, (64 << 20) - 10)
        os.pwrite(fd, b"x", (200 << 20) - 1)
        end = 200 << 20
        same(data_and_holes(fd), [(0, 8192), (12288, 16384), ((64 << 20) - 4096, (64 << 20) + 4096), (end - 4096, end)])
        same([os.lseek(fd, off, os.SEEK_DATA) for off in (1, 4096, 8191, 8192, 12288, 16384, end - 2)],
             [1, 4096, 8191, 12288, 12288, (64 << 20) - 4096, end - 2])
        same([os.lseek(fd, off, os.SEEK_HOLE) for off in (1, 8191, 8192, 9000, 12289, end - 1)], [8192, 8192, 8192, 9000, 16384, end])
        call("fallocate", fd, PUNCH_KEEP, ctypes.c_long(100), ctypes.c_long(2000))
        same(data_and_holes(fd)[0], (4096, 8192))
        os.ftruncate(fd, 13000)
        os.ftruncate(fd, 30000)
        same(data_and_holes(fd), [(4096, 8192), (12288, 16384)])


@check
def a_file_of_holes(p):
    path = p.file()
    size = 1 << 40
    with opened(path) as fd:
        os.ftruncate(fd, size)
        os.pwrite(fd, b"end", size - 3)
        os.pwrite(fd, b"middle", size // 2)
        same((os.pread(fd, 6, size // 2), os.pread(fd, 10, size - 10), os.pread(fd, 10, 1 << 33)), (b"middle", b"\0" * 7 + b"end", b"\0" * 10))
        same(os.fstat(fd).st_size, size)
        same(os.lseek(fd, 1 << 33, os.SEEK_DATA) <= size // 2, True)
        os.ftruncate(fd, size // 2 + 6)
        same(os.pread(fd, 100, size // 2), b"middle")


@check(only="jfs")
def up_to_the_limit(p):
    path = p.file()
    with opened(path) as fd:
        os.pwrite(fd, b"x", JFS_LIMIT - 2)
        same(os.fstat(fd).st_size, JFS_LIMIT - 1)
        same(os.pread(fd, 10, JFS_LIMIT - 5), b"\0\0\0x")
        fails(EFBIG, os.pwrite, fd, b"x", JFS_LIMIT)
        fails(EFBIG, os.ftruncate, fd, JFS_LIMIT)
        fails(EFBIG, os.posix_fallocate, fd, JFS_LIMIT - 10, 20)
        os.ftruncate(fd, 10)
        os.ftruncate(fd, JFS_LIMIT - 1)
        same(os.lseek(fd, 0, os.SEEK_HOLE), 0)
        os.ftruncate(fd, 10)  # stock looks at every chunk of a file that it deletes


@check
def copies(p):
    data = p.rng.randbytes(300000)
    with opened(p.file("a", data), os.O_RDONLY) as a, opened(p.file("b", b"y" * 1000)) as b:
        for source, target, n in ((0, 0, 300000), (5, 100001, 65536), (299990, 7, 100), (0, 1 << 20, 1)):
            expected = bytearray(read(p("b")))
            chunk = data[source:source + n]
            expected += b"\0" * (target + len(chunk) - len(expected))
            expected[target:target + len(chunk)] = chunk
            done = 0
            while done < len(chunk):
                got = os.copy_file_range(a, b, n - done, source + done, target + done)
                assert got > 0
                done += got
            assert read(p("b")) == expected, (source, target, n)
        same(os.copy_file_range(a, b, 10, 300000, 0), 0)
    with opened(p("a"), os.O_RDONLY) as a:
        fails(EBADF, os.copy_file_range, a, a, 10, 0, 1000)
    with opened(p("b")) as b:
        fails(EINVAL, os.copy_file_range, b, b, 1000, 0, 500)
        same(os.copy_file_range(b, b, 500, 0, 500), 500)
    assert read(p("b"))[500:1000] == read(p("b"))[:500]
    with opened(p(), os.O_RDONLY) as d, opened(p("b")) as b:
        fails(EISDIR, os.copy_file_range, d, b, 10)


@check
def copies_part_when_one_is_written(p):
    data = p.rng.randbytes(200000)
    with opened(p.file("a", data)) as a, opened(p.file("b")) as b:
        done = 0
        while done < 200000:
            done += os.copy_file_range(a, b, 200000 - done)
        os.pwrite(a, b"AAAA", 1000)
        os.pwrite(b, b"BBBB", 150000)
        os.ftruncate(a, 120000)
    assert read(p("b")) == data[:150000] + b"BBBB" + data[150004:]
    assert read(p("a")) == data[:1000] + b"AAAA" + data[1004:120000]
    os.unlink(p("a"))
    assert read(p("b")) == data[:150000] + b"BBBB" + data[150004:]


@check
def copies_keep_times_right(p):
    p.file("a", b"x" * 5000)
    p.file("b")
    with stamps(p("b"), moved="mc"), stamps(p("a"), kept="mc"), opened(p("a"), os.O_RDONLY) as a, opened(p("b")) as b:
        os.copy_file_range(a, b, 5000)


@check(only="jfs")
def reference_copies_are_not_there(p):
    """FICLONE never reaches a FUSE server."""
    with opened(p.file("a", b"text"), os.O_RDONLY) as a, opened(p.file("b")) as b:
        fails((EOPNOTSUPP, ENOTTY), fcntl.ioctl, b, 0x40049409, a)


@check
def cuts_hide_what_was_behind(p):
    """Write, cut, write behind the cut: between them are zeros, however often."""
    path = p.file()
    model = bytearray()
    with opened(path) as fd:
        for _ in range(120):
            size = p.rng.randrange(100000)
            os.ftruncate(fd, size)
            model = model[:size] + b"\0" * (size - len(model))
            off, data = p.rng.randrange(120000), p.rng.randbytes(p.rng.randrange(1, 5000))
            os.pwrite(fd, data, off)
            model += b"\0" * (off + len(data) - len(model))
            model[off:off + len(data)] = data
    assert read(path) == model
