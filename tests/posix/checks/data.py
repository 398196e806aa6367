"""Reading and writing: appends of several processes, O_DIRECT, O_SYNC, mappings, vectors, and bytes that all descriptors see."""
import ctypes
import mmap
import os
import signal
import struct

from base import *  # noqa: F401,F403


@check
def written_bytes_come_back(p):
    """A model in memory against random writes, appends, truncations and reads."""
    path, model = p.file(), bytearray()
    with opened(path) as fd:
        for _ in range(300):
            off, n = p.rng.randrange(300000), p.rng.choice((1, 100, 4096, 10000, 70000))
            action = p.rng.randrange(8)
            if action == 0:
                size = p.rng.randrange(300000)
                os.ftruncate(fd, size)
                model = model[:size] + b"\0" * (size - len(model))
            elif action < 5:
                data = p.rng.randbytes(n)
                os.pwrite(fd, data, off)
                model += b"\0" * (off + n - len(model))
                model[off:off + n] = data
            else:
                assert os.pread(fd, n, off) == model[off:off + n], f"{n} bytes at {off}"
        same(os.fstat(fd).st_size, len(model))
    assert read(path) == model


@check
def short_reads_at_the_end(p):
    with opened(p.file("f", b"0123456789")) as fd:
        same((os.pread(fd, 100, 5), os.pread(fd, 100, 10), os.pread(fd, 1, 1 << 40)), (b"56789", b"", b""))
        same(os.preadv(fd, [bytearray(4), bytearray(4), bytearray(4)], 0), 10)


@check
def offsets(p):
    with opened(p.file("f", b"0123456789")) as fd:
        same((os.lseek(fd, 3, os.SEEK_SET), os.lseek(fd, 2, os.SEEK_CUR), os.lseek(fd, -1, os.SEEK_END)), (3, 5, 9))
        fails(EINVAL, os.lseek, fd, -20, os.SEEK_END)
        same(os.lseek(fd, 0, os.SEEK_CUR), 9)
        other = os.dup(fd)
        os.lseek(other, 1, os.SEEK_SET)
        same(os.read(fd, 1), b"1", "a duplicate shares the offset")
        os.close(other)
        fails(EINVAL, os.pread, fd, 1, -1)
        fails(EINVAL, os.pwrite, fd, b"x", -1)


@check
def appends_of_several_processes(p):
    path = p.file()

    def appender(who):
        with opened(path, os.O_WRONLY | os.O_APPEND) as fd:
            for n in range(150):
                line = b"%d %d " % (who, n)
                os.write(fd, line + b"x" * (n % 90) + b"\n")
    for child in [start_child(appender, who) for who in range(4)]:
        wait_for(child)
    seen = {who: [] for who in range(4)}
    for line in read(path).splitlines():
        who, n, rest = line.split(b" ")
        same(len(rest), int(n) % 90)
        seen[int(who)].append(int(n))
    same(seen, {who: list(range(150)) for who in range(4)})


@check
def appending_ignores_the_offset(p):
    path = p.file("f", b"text")
    with opened(path, os.O_RDWR | os.O_APPEND) as fd:
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, b"1")
        same(os.lseek(fd, 0, os.SEEK_CUR), 5)
        os.truncate(path, 2)
        os.write(fd, b"2")
        os.pwrite(fd, b"3", 0)  # on Linux O_APPEND wins here, too
    same(read(path), b"te23")


@check
def direct(p):
    size = 1 << 20
    with mmap.mmap(-1, size) as buffer, opened(p.file(), os.O_RDWR | os.O_DIRECT) as fd:
        buffer.write(p.rng.randbytes(size))
        same(os.pwritev(fd, [buffer], 0), size)
        with mmap.mmap(-1, size) as back:
            same(os.preadv(fd, [back], 0), size)
            assert back[:] == buffer[:]
            assert read(p("f")) == buffer[:], "through the page cache"
            with opened(p("f")) as cached:
                os.pwrite(cached, b"cached" * 1000, 4096)
            os.preadv(fd, [back], 0)
            same(back[4096:4102], b"cached", "a cached write, read directly")
            os.pwritev(fd, [memoryview(buffer)[:4096]], 4096)
            assert read(p("f"))[:8192] == buffer[:4096] * 2, "a direct write, read from the cache"


class Aio:
    """Linux's asynchronous I/O, one request at a time."""
    NUMBERS = {"x86_64": (206, 209, 208), "aarch64": (0, 2, 4)}[os.uname().machine]

    def __init__(self):
        self.context = ctypes.c_ulong(0)
        self.call(0, 1, ctypes.byref(self.context))

    def call(self, which, *args):
        return call("syscall", self.NUMBERS[which], *args)

    def pwrite(self, fd, buffer, off):
        address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        request = ctypes.create_string_buffer(struct.pack("QIIHhIQQqQII", 0, 0, 0, 1, 0, fd, address, len(buffer), off, 0, 0, 0), 64)
        events = (ctypes.c_longlong * 4)()
        self.call(1, self.context, ctypes.c_long(1), ctypes.byref(ctypes.c_void_p(ctypes.addressof(request))))
        self.call(2, self.context, ctypes.c_long(1), ctypes.c_long(1), events, None)
        same(events[2], len(buffer))


@check
def direct_and_asynchronous_beside_cached_readers(p):
    """Once the write has completed, no reader gets older bytes out of the page cache."""
    size = 256 << 10
    path = p.file("f", b"\0" * size)

    def reader():
        with opened(path, os.O_RDONLY) as fd:
            while not os.path.exists(p("done")):
                os.pread(fd, size, 0)
    children = [start_child(reader) for _ in range(2)]
    aio = Aio()
    with opened(path, os.O_RDWR | os.O_DIRECT) as fd, opened(path, os.O_RDONLY) as cached, mmap.mmap(-1, size) as buffer:
        for n in range(1, 31):
            buffer[:] = bytes([n]) * size
            aio.pwrite(fd, buffer, 0)
            same(set(os.pread(cached, size, 0)), {n})
    p.file("done")
    for child in children:
        wait_for(child)


@check
def synchronous(p):
    for flag in (os.O_SYNC, os.O_DSYNC):
        with opened(p.file(f"f{flag}"), os.O_RDWR | flag) as fd:
            os.write(fd, b"one")
            os.pwrite(fd, b"two", 100000)
        same(len(read(p(f"f{flag}"))), 100003)
    with opened(p.file()) as fd:
        os.write(fd, b"text")
        os.fdatasync(fd)
        os.fsync(fd)
        os.pwritev(fd, [b"more"], 4, os.RWF_DSYNC)
    with opened(p(), os.O_RDONLY) as fd:
        os.fsync(fd)
        os.fdatasync(fd)
    with opened(p("f"), os.O_RDONLY) as fd:
        os.fsync(fd)


@check
def shared_mappings(p):
    path = p.file("f", b"\0" * 100000)
    with opened(path) as fd, mmap.mmap(fd, 100000) as m, mmap.mmap(fd, 100000) as other:
        m[5000:5005] = b"hello"
        same(other[5000:5005], b"hello")
        same(os.pread(fd, 5, 5000), b"hello", "read(2) of a mapped change")
        os.pwrite(fd, b"HELLO", 70000)
        same(m[70000:70005], b"HELLO", "a written change in the mapping")
        m.flush()
        os.fsync(fd)

        def seen():
            same(read(path)[5000:5005], b"hello")
        in_child(seen)
    with opened(path, os.O_RDONLY) as fd, mmap.mmap(fd, 100000, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as private:
        private[0:5] = b"never"
    same(read(path)[:5], b"\0" * 5)


@check
def a_mapping_outlives_descriptor_and_name(p):
    with opened(p.file("f", b"x" * 8192)) as fd:
        m = mmap.mmap(fd, 8192)
    os.unlink(p("f"))
    m[0:5] = b"alive"
    m.flush()
    same(m[0:6], b"alivex")
    m.close()


@check
def beyond_the_end_of_a_mapping(p):
    path = p.file("f", b"x" * 100)

    def touch():
        with opened(path) as fd, mmap.mmap(fd, 100) as m:
            m[99] = 1
            same(m[:], b"x" * 99 + b"\1")
            os.ftruncate(fd, 0)
            signal.signal(signal.SIGBUS, signal.SIG_DFL)
            m[0]
    pid, reader = start_child(touch)
    os.close(reader)
    same(os.WTERMSIG(os.waitpid(pid, 0)[1]), signal.SIGBUS)


@check
def readers_beside_a_writer(p):
    """They see what was there before or what is written, and nothing else."""
    path = p.file("f", b"\0" * 65536)
    allowed = {0} | {n % 256 for n in range(300) if n % 16 == 5}

    def reader():
        with opened(path, os.O_RDONLY) as fd:
            while not os.path.exists(p("done")):
                seen = set(os.pread(fd, 4096, 4096 * 5))
                assert seen and seen <= allowed, seen - allowed
    children = [start_child(reader) for _ in range(2)]
    with opened(path) as fd:
        for n in range(300):
            os.pwrite(fd, bytes([n % 256]) * 4096, 4096 * (n % 16))
    p.file("done")
    for child in children:
        wait_for(child)
    last = {n % 16: n % 256 for n in range(300)}
    assert read(path) == b"".join(bytes([last[n]]) * 4096 for n in range(16))


@check
def vectors(p):
    path = p.file()
    with opened(path) as fd:
        parts = [p.rng.randbytes(n) for n in (1, 5000, 0, 4096, 70000, 3)]
        same(os.writev(fd, parts), sum(map(len, parts)))
        back = [bytearray(len(part)) for part in parts]
        os.preadv(fd, back, 0)
        same([bytes(b) for b in back] == parts, True)


@check
def sending_from_file_to_file(p):
    data = p.rng.randbytes(500000)
    with opened(p.file("a", data), os.O_RDONLY) as a, opened(p.file("b")) as b:
        left = 500000
        while left:
            left -= os.sendfile(b, a, None, left)
    assert read(p("b")) == data
    with opened(p("a"), os.O_RDONLY) as a, opened(p("b")) as b:
        r, w = os.pipe()
        for off in range(0, 500000, 50000):
            n = os.splice(a, w, 50000)
            os.splice(r, b, n)
        os.close(r)
        os.close(w)
    same(os.stat(p("b")).st_size, 500000)


@check
def a_full_write_of_many_sizes(p):
    path = p.file()
    with opened(path) as fd:
        for n in (1, 4095, 4096, 4097, 131072, 131073, 1 << 20, (1 << 20) + 1, 5 << 20):
            data = p.rng.randbytes(n)
            same(os.pwrite(fd, data, 3), n)
            assert os.pread(fd, n, 3) == data, n
