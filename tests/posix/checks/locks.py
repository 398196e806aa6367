"""Advisory locks of processes and of descriptors: ranges, conflicts, waiting, and what gives them up."""
import fcntl
import os
import signal
import struct
import time

from base import *  # noqa: F401,F403

BUSY = (EAGAIN, EACCES)


def busy(path, kind, start=0, length=0):
    """Asks from another process whether the lock cannot be had."""
    def ask():
        with opened(path) as fd:
            fails(BUSY, lock, fd, kind, start, length)
    in_child(ask)


def free(path, kind, start=0, length=0):
    def ask():
        with opened(path) as fd:
            lock(fd, kind, start, length)
    in_child(ask)


def until_it_waits(pid):
    while not any("->" in line and f" {pid} " in line for line in open("/proc/locks", encoding="ascii")):
        time.sleep(0.001)


@check
def shared_and_exclusive(p):
    path = p.file()
    with opened(path) as fd:
        lock(fd, fcntl.LOCK_SH)
        free(path, fcntl.LOCK_SH)
        busy(path, fcntl.LOCK_EX)
        lock(fd, fcntl.LOCK_EX)
        busy(path, fcntl.LOCK_SH)
        lock(fd, fcntl.LOCK_UN)
        free(path, fcntl.LOCK_EX)


@check
def ranges(p):
    path = p.file()
    with opened(path) as fd:
        lock(fd, fcntl.LOCK_EX, 100, 100)
        free(path, fcntl.LOCK_EX, 0, 100)
        free(path, fcntl.LOCK_EX, 200)
        busy(path, fcntl.LOCK_EX, 199, 1)
        busy(path, fcntl.LOCK_SH, 0)
        lock(fd, fcntl.LOCK_UN, 140, 20)
        free(path, fcntl.LOCK_EX, 140, 20)
        busy(path, fcntl.LOCK_EX, 139, 2)
        lock(fd, fcntl.LOCK_SH, 120, 60)
        free(path, fcntl.LOCK_SH, 120, 60)
        busy(path, fcntl.LOCK_SH, 119, 1)
        lock(fd, fcntl.LOCK_EX, 1 << 62, 0)
        busy(path, fcntl.LOCK_SH, (1 << 62) + 12345, 1)


@check
def who_holds_it(p):
    path = p.file()
    with opened(path) as fd:
        lock(fd, fcntl.LOCK_EX, 10, 5)
        holder = os.getpid()

        def ask():
            with opened(path) as other:
                got = fcntl.fcntl(other, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0))
                kind, _, start, length, pid = struct.unpack("hhqqi4x", got)
                same((kind, start, length, pid), (fcntl.F_WRLCK, 10, 5, holder))
        in_child(ask)


@check
def any_close_gives_them_up(p):
    path = p.file()
    with opened(path) as fd:
        lock(fd, fcntl.LOCK_EX)
        with opened(path):
            pass
        free(path, fcntl.LOCK_EX)
    with opened(path) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with opened(path):
            pass

        def ask():
            with opened(path) as other:
                fails(BUSY, fcntl.flock, other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        in_child(ask)


@check
def a_process_that_ends_gives_them_up(p):
    path = p.file()
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        fd = os.open(path, os.O_RDWR)
        lock(fd, fcntl.LOCK_EX)
        os.write(w, b"x")
        signal.pause()
    os.read(r, 1)
    busy(path, fcntl.LOCK_SH)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    free(path, fcntl.LOCK_EX)


@check
def waiting(p):
    """A counter that four processes raise under the lock."""
    path = p.file("count", b"0")

    def raiser():
        with opened(path) as fd:
            for _ in range(40):
                lock(fd, fcntl.LOCK_EX, wait=True)
                value = int(os.pread(fd, 20, 0))
                os.pwrite(fd, b"%d" % (value + 1), 0)
                lock(fd, fcntl.LOCK_UN)
    for child in [start_child(raiser) for _ in range(4)]:
        wait_for(child)
    same(read(path), b"160")


@check
def waiting_with_flock(p):
    path = p.file("count", b"0")

    def raiser():
        for _ in range(25):
            with opened(path) as fd:
                fcntl.flock(fd, fcntl.LOCK_EX)
                value = int(os.pread(fd, 20, 0))
                os.pwrite(fd, b"%d" % (value + 1), 0)
    for child in [start_child(raiser) for _ in range(4)]:
        wait_for(child)
    same(read(path), b"100")


@check
def who_waits_can_be_interrupted(p):
    path = p.file()
    with opened(path) as fd:
        lock(fd, fcntl.LOCK_EX)

        class Alarm(Exception):
            pass

        def wait():
            def ring(*_):
                raise Alarm
            signal.signal(signal.SIGALRM, ring)
            with opened(path) as other:
                try:
                    lock(other, fcntl.LOCK_EX, wait=True)
                except Alarm:
                    return
            raise AssertionError("got a lock that somebody holds")
        child = start_child(wait)
        until_it_waits(child[0])
        os.kill(child[0], signal.SIGALRM)
        wait_for(child)


@check
def a_deadlock_is_refused(p):
    path = p.file()
    to_child, to_parent = os.pipe(), os.pipe()

    def other():
        with opened(path) as fd:
            lock(fd, fcntl.LOCK_EX, 1, 1)
            os.write(to_parent[1], b"x")
            os.read(to_child[0], 1)
            lock(fd, fcntl.LOCK_EX, 0, 1, wait=True)
    with opened(path) as fd:
        lock(fd, fcntl.LOCK_EX, 0, 1)
        child = start_child(other)
        os.read(to_parent[0], 1)
        os.write(to_child[1], b"x")
        until_it_waits(child[0])
        fails(EDEADLK, lock, fd, fcntl.LOCK_EX, 1, 1, True)
        lock(fd, fcntl.LOCK_UN)
        wait_for(child)


@check
def of_open_file_descriptions(p):
    path = p.file()
    set_lock = 37  # F_OFD_SETLK
    request = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
    with opened(path) as a, opened(path) as b:
        fcntl.fcntl(a, set_lock, request)
        fails(BUSY, fcntl.fcntl, b, set_lock, request)
        with opened(path):
            pass
        fails(BUSY, fcntl.fcntl, b, set_lock, request)
    with opened(path) as b:
        fcntl.fcntl(b, set_lock, request)


@check
def leases(p):
    path = p.file()
    with opened(path, os.O_RDONLY) as fd:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        same(fcntl.fcntl(fd, fcntl.F_GETLEASE), fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
