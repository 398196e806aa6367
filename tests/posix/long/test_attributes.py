#!/usr/bin/env python3
"""Attributes that another process asks for while they change. It is held up between the daemon's answer and its taking it in
by a process of higher priority on its CPU, while the daemon and the change have the other CPU."""
import ctypes
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import NEEDS, mounted  # noqa: E402
from harness import Skip, main, test, wait_until  # noqa: E402

HOG = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)); print('runs', flush=True)\nwhile True: pass"


READER = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); sys.stdin.read(); os.stat(sys.argv[2])"


def mounted_on_one_cpu(t):
    """A mount whose daemon, and this process, use one CPU, and another CPU."""
    if len(os.sched_getaffinity(0)) < 2:
        raise Skip("needs two CPUs")
    here, there = sorted(os.sched_getaffinity(0))[:2]
    m = mounted(t, "--transport=classic")
    t.run("taskset", "-a", "-c", "-p", str(here), str(m.pid))
    os.sched_setaffinity(0, {here})
    return m, there


def state_of(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return f.read().rpartition(")")[2].split()[0]


def stat_that_dawdles(t, m, there, path, change):
    """Another process asks for the attributes, and is kept from taking the answer until `change` has been answered.
    The time just before that."""
    reader = subprocess.Popen([sys.executable, "-c", READER, str(there), path], stdin=subprocess.PIPE)
    wait_until(lambda: os.sched_getaffinity(reader.pid) == {there}, what="the reader")
    os.chmod(path, 0o751)  # the kernel must ask
    os.setxattr(path, "user.before", os.urandom(8))
    m.signal(signal.SIGSTOP)
    try:
        wait_until(lambda: all(state_of(f"{m.pid}/task/{n}") == "T" for n in os.listdir(f"/proc/{m.pid}/task")),
                   what="a standstill")
        reader.stdin.write(b"\n")
        reader.stdin.close()
        wait_until(lambda: in_request(reader.pid), what="the reader's request")
        hog = t.spawn("taskset", "-c", str(there), sys.executable, "-c", HOG, name="hog")
        wait_until(lambda: os.sched_getscheduler(hog.pid) == os.SCHED_FIFO, what="the other CPU to be busy")
    finally:
        m.signal(signal.SIGCONT)
    wait_until(lambda: state_of(reader.pid) == "R", what="the answer")
    before = time.time_ns()
    change()
    assert reader.poll() is None
    hog.kill()
    hog.wait()
    assert reader.wait(20) == 0
    return before


def in_request(pid):
    with open(f"/proc/{pid}/wchan", encoding="ascii") as f:
        return "request_wait" in f.read()


@test(timeout=120, needs=NEEDS)
def late_answers_leave_no_old_attributes(t):
    """The kernel keeps attributes for ever, so that an answer from before a change must not arrive after it."""
    m, there = mounted_on_one_cpu(t)
    path = m.path("f")
    with open(path, "wb") as f:
        f.write(bytes(100_000))
    fd = os.open(path, os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    for name, change in {
            "punch": lambda: libc.fallocate64(fd, 3, ctypes.c_int64(0), ctypes.c_int64(10)),
            "setxattr": lambda: os.setxattr(path, "user.a", b"1"),
            "removexattr": lambda: os.removexattr(path, "user.a"),
            "write": lambda: os.pwrite(fd, b"x", 0),
            "chmod": lambda: os.chmod(path, 0o640)}.items():
        before = stat_that_dawdles(t, m, there, path, change)
        assert os.stat(path).st_ctime_ns >= before, f"the attributes are those from before {name}"
    os.close(fd)


@test(timeout=120, needs=NEEDS)
def late_answers_leave_no_old_directories(t):
    m, there = mounted_on_one_cpu(t)
    path = m.path("d")
    os.mkdir(path)
    for name, change in {
            "mkdir": lambda: os.mkdir(path + "/s"),
            "create": lambda: os.close(os.open(path + "/n", os.O_CREAT | os.O_WRONLY)),
            "unlink": lambda: os.unlink(path + "/n"),
            "rmdir": lambda: os.rmdir(path + "/s")}.items():
        before = stat_that_dawdles(t, m, there, path, change)
        assert os.stat(path).st_ctime_ns >= before, f"the attributes are those from before {name}"


if __name__ == "__main__":
    sys.exit(main())
