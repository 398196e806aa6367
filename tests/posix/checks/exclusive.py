"""Files that are made with O_WRONLY and O_EXCL, as programs make them that lay out trees of files: what the first descriptor
writes, seen from all sides. A file system may treat such a descriptor in a way of its own."""
import ctypes
import mmap
import os
import stat

from base import *  # noqa: F401,F403

EXCLUSIVE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
CAPABILITY = (2 << 24 | 1).to_bytes(4, "little") + (1 << 10).to_bytes(4, "little") + b"\0" * 12


@check
def all_see_what_is_written(p):
    """Readers of all kinds beside the writer: once a write has returned, nobody gets older bytes."""
    size, first, path = 1 << 20, 65536, p("f")
    text = bytearray(p.rng.randbytes(size))

    def reader():
        with opened(path, os.O_RDONLY) as fd:
            while not os.path.exists(p("done")):
                got = os.pread(fd, size, first)
                assert got == text[first:first + len(got)], "a byte that was never there"
    with opened(path, EXCLUSIVE) as fd, opened(path, os.O_RDONLY) as cached:
        os.write(fd, text[:first])
        children = [start_child(reader) for _ in range(2)]
        at = first
        with mmap.mmap(cached, first, mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
            while at < size:
                n = min(p.rng.choice((1, 100, 4095, 4096, 5000, 60000)), size - at)
                same(os.write(fd, text[at:at + n]), n)
                at += n
                assert os.pread(cached, 8192, at - 8192) == text[at - 8192:at], "read"
                same(os.fstat(cached).st_size, at)
                off = p.rng.randrange(first - 3000)
                text[off:off + 3000] = p.rng.randbytes(3000)
                os.pwrite(fd, text[off:off + 3000], off)
                assert mapped[:] == text[:first], "mapped"
    p.file("done")
    for child in children:
        wait_for(child)
    assert read(path) == text


@check
def beside_a_mapping_that_writes(p):
    data = bytearray(p.rng.randbytes(65536))
    with opened(p("f"), EXCLUSIVE) as fd:
        os.write(fd, data)
        with opened(p("f")) as other, mmap.mmap(other, 65536) as m:
            for _ in range(100):
                at, off = p.rng.randrange(65000), p.rng.randrange(65000)
                m[at:at + 100] = data[at:at + 100] = p.rng.randbytes(100)
                new = p.rng.randbytes(500)
                os.pwrite(fd, new, off)
                data[off:off + 500] = new
                assert m[:] == data
    assert read(p("f")) == data


@check
def cut_extended_and_appended(p):
    with opened(p("f"), EXCLUSIVE | os.O_APPEND) as fd:
        os.write(fd, b"0123456789")
        os.ftruncate(fd, 4)
        same(read(p("f")), b"0123")
        os.write(fd, b"abc")
        with opened(p("f"), os.O_WRONLY | os.O_APPEND) as other:
            os.write(other, b"other")
        os.write(fd, b"end")
        same(read(p("f")), b"0123abcotherend")
    with opened(p("g"), EXCLUSIVE) as fd:
        os.pwrite(fd, b"far", 1 << 20)
        same(os.stat(p("g")).st_size, (1 << 20) + 3)
        assert read(p("g")) == b"\0" * (1 << 20) + b"far"
        os.ftruncate(fd, 2 << 20)
        os.lseek(fd, 0, os.SEEK_SET)
        os.writev(fd, [b"a" * 5000, b"", b"b"])
        with stamps(p("g"), moved="mc"):
            os.write(fd, b"c")
        assert read(p("g"))[:5003] == b"a" * 5000 + b"bc\0"
        fails(EBADF, os.read, fd, 1)


@check
def from_other_files(p):
    data = p.rng.randbytes(300000)
    p.file("a", data)
    with opened(p("a"), os.O_RDONLY) as a:
        with opened(p("sent"), EXCLUSIVE) as fd:
            left = len(data)
            while left:
                left -= os.sendfile(fd, a, None, left)
        with opened(p("copied"), EXCLUSIVE) as fd:
            off = 0
            while off < len(data):
                off += os.copy_file_range(a, fd, len(data) - off, off, off)
        with opened(p("spliced"), EXCLUSIVE) as fd:
            r, w = os.pipe()
            os.lseek(a, 0, os.SEEK_SET)
            while n := os.splice(a, w, 50000):
                while n:
                    n -= os.splice(r, fd, n)
            os.close(r)
            os.close(w)
    for name in ("sent", "copied", "spliced"):
        assert read(p(name)) == data, name


@check
def from_a_mapping_of_itself(p):
    data = p.rng.randbytes(100000)
    with opened(p("f"), EXCLUSIVE) as fd:
        os.write(fd, data)
        with opened(p("f"), os.O_RDONLY) as other, mmap.mmap(other, 100000, mmap.MAP_SHARED, mmap.PROT_READ) as m:
            with memoryview(m) as own:
                os.pwrite(fd, own[:50000], 100000)
    assert read(p("f")) == data + data[:50000]


@check
def capabilities_go(p):
    with opened(p("f"), EXCLUSIVE, 0o755) as fd:
        for write in (lambda: os.write(fd, b"text"), lambda: os.pwrite(fd, b"y" * 100000, 0), lambda: os.ftruncate(fd, 1)):
            os.setxattr(p("f"), "user.stays", b"1")
            os.setxattr(p("f"), "security.capability", CAPABILITY)
            same(os.getxattr(p("f"), "security.capability"), CAPABILITY)
            write()
            fails(ENODATA, os.getxattr, p("f"), "security.capability")
            same(os.listxattr(p("f")), ["user.stays"])


def mode_as_known(path):
    """Without asking the file system anew: what the next exec goes by."""
    AT_FDCWD, AT_STATX_DONT_SYNC, STATX_MODE = -100, 0x4000, 2
    buffer = ctypes.create_string_buffer(256)
    call("statx", AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_MODE, buffer)
    return stat.S_IMODE(int.from_bytes(buffer.raw[28:30], "little"))


@check
def set_id_bits_go(p):
    os.chmod(p(), 0o777)
    with user(A):
        for n, bits in enumerate((0o4755, 0o2755, 0o6711)):
            path = p(f"f{n}")
            with umask(0), opened(path, EXCLUSIVE, bits) as fd:
                os.write(fd, b"text")
                os.access(path, os.X_OK)
                same(oct(mode_as_known(path)), oct(bits & 0o777))
                same(oct(mode(path)), oct(bits & 0o777))
                os.chmod(path, bits)
                same(oct(mode(path)), oct(bits))
                os.write(fd, b"text")
                os.access(path, os.X_OK)
                same(oct(mode_as_known(path)), oct(bits & 0o777))
    with opened(p("root"), EXCLUSIVE, 0o4755) as fd:
        os.write(fd, b"text")
    same(oct(mode(p("root"))), oct(0o4755), "whoever may set the bits keeps them")
