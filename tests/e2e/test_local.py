#!/usr/bin/env python3
"""The FUSE front over a journal of its own (`jfs mount --local-only`): no Redis, no S3. What a file system must do for the
programs on it, what survives kill -9, and how the commands behave."""
import contextlib
import ctypes
import errno
import json
import mmap
import multiprocessing
import os
import re
import signal
import stat
import struct
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *  # noqa: E402, F403

NEEDS = ("root", "fuse", "jfs")
libc = ctypes.CDLL(None, use_errno=True)


class Local(Mount):
    """A mount with nothing behind it."""

    def __init__(self, t, *options, **more):
        class Nothing:
            s3 = None

            def url(self, query, port):
                return "local"
        super().__init__(t, Nothing(), "--local-only", "--log", os.path.join(t.log_dir, "daemon.log"), *options, **more)

    def config(self):
        with open(self.path(".config"), encoding="utf-8") as f:
            return json.load(f)


def write(path, data, mode="wb"):
    with open(path, mode) as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


DEAD = (errno.ENOTCONN, errno.ECONNABORTED, errno.ECANCELED)  # the latter two: the kernel was just about to notice


def same_command(pid):
    """The processes that were started with the same words as this one."""
    def words(n):
        with contextlib.suppress(OSError):
            with open(f"/proc/{n}/cmdline", "rb") as f:
                return f.read()
        return b""

    return [int(n) for n in os.listdir("/proc") if n.isdigit() and words(n) == words(pid) != b""]


def fails(code, function, *args, **more):
    codes = code if isinstance(code, tuple) else (code,)
    words = " or ".join(errno.errorcode[c] for c in codes)
    try:
        function(*args, **more)
    except OSError as e:
        assert e.errno in codes, f"{errno.errorcode.get(e.errno)} instead of {words}"
        return
    raise AssertionError(f"{words} was expected")


def renameat2(old, new, flags):
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


@test(timeout=60, needs=NEEDS)
def every_operation(t):
    m = Local(t)
    p = m.path
    os.mkdir(p("d"), 0o750)
    write(p("d/f"), b"hello")
    os.chmod(p("d/f"), 0o640)
    os.chown(p("d/f"), 12, 34)
    os.utime(p("d/f"), ns=(1_000_000_001, 2_000_000_002))
    st = os.stat(p("d/f"))
    assert (st.st_mode, st.st_uid, st.st_gid, st.st_size) == (stat.S_IFREG | 0o640, 12, 34, 5), st
    assert (st.st_atime_ns, st.st_mtime_ns) == (1_000_000_001, 2_000_000_002), st
    os.link(p("d/f"), p("l"))
    assert os.stat(p("l")).st_nlink == 2 and os.stat(p("l")).st_ino == st.st_ino
    os.symlink("d/f", p("s"))
    assert os.readlink(p("s")) == "d/f" and read(p("s")) == b"hello"
    os.mkfifo(p("fifo"))
    os.mknod(p("null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    write(p("null"), b"x")
    assert os.stat(p("null")).st_rdev == os.makedev(1, 3)
    os.setxattr(p("l"), "user.k", b"v")
    assert os.getxattr(p("d/f"), "user.k") == b"v" and os.listxattr(p("l")) == ["user.k"]
    os.removexattr(p("l"), "user.k")
    fails(errno.ENODATA, os.getxattr, p("l"), "user.k")
    os.rename(p("d/f"), p("g"))
    fails(errno.ENOENT, os.stat, p("d/f"))
    fails(errno.EEXIST, os.mkdir, p("d"))
    fails(errno.ENOTEMPTY, lambda: (write(p("d/x"), b""), os.rmdir(p("d"))))
    os.unlink(p("d/x"))
    assert os.stat(p("")).st_nlink == 3
    os.rmdir(p("d"))
    os.unlink(p("g"))
    assert os.stat(p("l")).st_nlink == 1
    assert sorted(os.listdir(p(""))) == ["fifo", "l", "null", "s"]
    v = os.statvfs(p(""))
    assert v.f_bsize == 4096 and v.f_namemax == 255 and v.f_blocks >= v.f_bavail > 0
    assert json.loads(t.run("findmnt", "-J", "-o", "FSTYPE,SOURCE", m.dir))["filesystems"] == [
        {"fstype": "fuse.jfs", "source": "JuiceFS:local"}]


@test(timeout=60, needs=NEEDS)
def without_xattrs_the_kernel_does_not_ask_for_them(t):
    """One getxattr of the kernel for each file that is written; with --no-xattr one for all."""
    def asked(m):
        before = m.stats().get("fuse_ops_total_getxattr", 0)
        for i in range(20):
            write(m.path(f"f{i}"), b"x")
            os.stat(m.path(f"f{i}"))
        return m.stats().get("fuse_ops_total_getxattr", 0) - before
    m = Local(t)
    assert asked(m) == 20
    os.setxattr(m.path("f0"), "user.k", b"v")
    m.umount()
    m.options.append("--no-xattr")
    m.mount()
    assert asked(m) <= 1
    fails(errno.EOPNOTSUPP, os.getxattr, m.path("f0"), "user.k")
    fails(errno.EOPNOTSUPP, os.setxattr, m.path("f0"), "user.k", b"w")
    fails(errno.EOPNOTSUPP, os.listxattr, m.path("f0"))
    m.umount()
    m.options.remove("--no-xattr")
    m.mount()
    assert os.getxattr(m.path("f0"), "user.k") == b"v", "what others set is gone"


@test(timeout=60, needs=NEEDS)
def an_exclusive_writer_sends_each_write_once(t):
    """Past the page cache (Linux 6.16): pieces that end within a page are not split, with xattrs or without."""
    if tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2]) < (6, 16):
        t.note("this kernel does not do it: not tested")
        return
    for m in (Local(t), Local(t, "--no-xattr", name="mnt2")):
        before = m.stats().get("fuse_ops_total_write", 0)
        fd = os.open(m.path("f"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        for _ in range(10):
            os.write(fd, b"d" * 5000)
        os.close(fd)
        assert m.stats()["fuse_ops_total_write"] - before == 10
        assert read(m.path("f")) == b"d" * 50000


@test(timeout=60, needs=NEEDS)
def a_long_listing_asks_no_file_for_its_label(t):
    """`ls -l` stops asking for SELinux labels when it is told that there are none; labels that are there are kept and found. Where
    the kernel has SELinux, it answers without us."""
    if os.path.exists("/sys/fs/selinux/enforce"):
        t.note("this kernel uses labels: not tested")
        return
    m = Local(t)
    names = [m.path(f"f{i}") for i in range(100)]
    for name in names:
        write(name, b"x")
    before = m.stats()["fuse_ops_total_getxattr"]
    assert len(t.run("ls", "-l", m.dir).splitlines()) == 101
    assert m.stats()["fuse_ops_total_getxattr"] - before < 20
    fails(errno.EOPNOTSUPP, os.getxattr, names[0], "security.selinux")
    fails(errno.ENODATA, os.getxattr, names[0], "security.other")
    fails(errno.ENODATA, os.setxattr, names[0], "security.selinux", b"l", os.XATTR_REPLACE)
    os.setxattr(names[1], "security.selinux", b"label")
    fails(errno.ENODATA, os.getxattr, names[0], "security.selinux")
    m.remount()
    assert os.getxattr(names[1], "security.selinux") == b"label" and os.listxattr(names[1]) == ["security.selinux"]
    fails(errno.ENODATA, os.getxattr, names[0], "security.selinux")


@test(timeout=60, needs=NEEDS)
def shell_redirection_shortens(t):
    """OPEN is never sent, so the truncation of `>` must come as a SETATTR."""
    m = Local(t)
    t.run("sh", "-ec", "echo 'a long line' > f; echo x > f; test \"$(cat f)\" = x; : > f; test ! -s f; echo y >> f; "
          "echo z >> f; test \"$(cat f)\" = 'y\nz'; cp f g; cmp f g; mv g h; rm -r f h; test -z \"$(ls)\"", cwd=m.dir)


@test(timeout=60, needs=NEEDS)
def names_of_every_length(t):
    m = Local(t)
    write(m.path("n" * 255), b"1")
    write(m.path("ü" * 127), b"2")
    fails(errno.ENAMETOOLONG, write, m.path("n" * 300), b"")
    fails(errno.ENAMETOOLONG, os.stat, m.path("n" * 300))
    os.symlink("t" * 4000, m.path("link"))
    assert os.readlink(m.path("link")) == "t" * 4000
    m.remount()
    assert sorted(os.listdir(m.dir)) == sorted(["n" * 255, "ü" * 127, "link"])


@test(timeout=60, needs=NEEDS)
def holes_read_as_zeros(t):
    m = Local(t)
    size = 200 << 20
    with open(m.path("f"), "wb+") as f:
        f.seek(size)
        f.write(b"end")
        f.seek(70 << 20)
        f.write(b"middle")
        f.flush()
        f.seek((70 << 20) - 3)
        assert f.read(12) == b"\0\0\0middle\0\0\0"
        assert os.lseek(f.fileno(), 0, os.SEEK_DATA) == 70 << 20
        assert os.lseek(f.fileno(), 70 << 20, os.SEEK_HOLE) == (70 << 20) + 4096
        f.truncate(10)
        f.truncate(71 << 20)
        f.seek(70 << 20)
        assert f.read(6) == bytes(6), "truncated bytes came back"
    write(m.path("g"), b"a" * 100_000)
    with open(m.path("g"), "r+b") as f:
        if libc.fallocate64(f.fileno(), 3, ctypes.c_int64(5000), ctypes.c_int64(20_000)):
            raise OSError(ctypes.get_errno(), "punch")
        f.seek(0)
        assert f.read() == b"a" * 5000 + bytes(20_000) + b"a" * 75_000
        os.posix_fallocate(f.fileno(), 0, 150_000)
        assert os.fstat(f.fileno()).st_size == 150_000
    with open(m.path("g"), "rb") as a, open(m.path("c"), "wb") as b:
        assert 0 < os.copy_file_range(a.fileno(), b.fileno(), 80_000, 1000, 0) <= 80_000
    assert read(m.path("c")) == read(m.path("g"))[1000:81_000]


@test(timeout=60, needs=NEEDS)
def rename_in_all_ways(t):
    m = Local(t)
    for n in "abc":
        write(m.path(n), n.encode())
    os.mkdir(m.path("d"))
    write(m.path("d/e"), b"e")
    renameat2(m.path("a"), m.path("b"), 2)
    assert (read(m.path("a")), read(m.path("b"))) == (b"b", b"a")
    renameat2(m.path("a"), m.path("d"), 2)
    assert read(m.path("a/e")) == b"e" and read(m.path("d")) == b"b"
    fails(errno.EEXIST, renameat2, m.path("b"), m.path("c"), 1)
    renameat2(m.path("b"), m.path("new"), 1)
    os.rename(m.path("new"), m.path("c"))
    assert read(m.path("c")) == b"a"
    os.mkdir(m.path("x"))
    os.mkdir(m.path("x/y"))
    fails(errno.EINVAL, os.rename, m.path("x"), m.path("x/y/z"))
    fails(errno.ENOTEMPTY, os.rename, m.path("x"), m.path("a"))


@test(timeout=60, needs=NEEDS)
def unlinked_files_live_until_closed(t):
    m = Local(t)
    data = os.urandom(300_000)
    f = open(m.path("f"), "wb+")
    f.write(data)
    f.flush()
    os.unlink(m.path("f"))
    write(m.path("f"), b"another")
    os.pwrite(f.fileno(), b"tail", 299_000)
    assert os.fstat(f.fileno()).st_nlink == 0
    assert os.pread(f.fileno(), 400_000, 0) == data[:299_000] + b"tail" + data[299_004:]
    f.close()
    used = m.stats()["used_inodes"]
    os.unlink(m.path("f"))
    wait_until(lambda: m.stats()["used_inodes"] < used, what="the unlinked inode's end")


def append_lines(path, who, n):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    for i in range(n):
        os.write(fd, b"%d:%d\n" % (who, i))
    os.close(fd)


@test(timeout=120, needs=NEEDS)
def appends_of_several_processes(t):
    m = Local(t)
    write(m.path("log"), b"")
    jobs = [multiprocessing.Process(target=append_lines, args=(m.path("log"), w, 500)) for w in range(4)]
    for j in jobs:
        j.start()
    for j in jobs:
        j.join()
        assert j.exitcode == 0
    lines = read(m.path("log")).split()
    assert sorted(lines) == sorted(b"%d:%d" % (w, i) for w in range(4) for i in range(500))
    for w in range(4):  # each writer's lines in its own order
        mine = [int(x.split(b":")[1]) for x in lines if x.startswith(b"%d:" % w)]
        assert mine == sorted(mine)


@test(timeout=60, needs=NEEDS)
def shared_mappings_are_written(t):
    m = Local(t)
    write(m.path("f"), bytes(1 << 20))
    with open(m.path("f"), "r+b") as f, mmap.mmap(f.fileno(), 1 << 20) as view:
        view[5000:5005] = b"mmap1"
        view.flush()
        assert os.pread(f.fileno(), 5, 5000) == b"mmap1"
        os.pwrite(f.fileno(), b"pwrite", 9000)
        assert view[9000:9006] == b"pwrite"
        view[(1 << 20) - 4:] = b"last"
    m.remount()
    data = read(m.path("f"))
    assert len(data) == 1 << 20 and data[5000:5005] == b"mmap1" and data[-4:] == b"last", "an unmounted mapping was lost"


@test(timeout=60, needs=NEEDS)
def suid_goes_with_a_write_of_others(t):
    suid_goes(Local(t))
    suid_goes(Local(t, "--no-xattr", name="mnt2"))


def suid_goes(m):
    os.chmod(m.dir, 0o777)
    for name, change in (("w", lambda p: write(p, b"y", "r+b")), ("t", lambda p: os.truncate(p, 1))):
        path = m.path(name)
        write(path, b"xx")
        os.chmod(path, 0o6777)
        pid = os.fork()
        if pid == 0:
            os.chdir(m.dir)  # nobody else may enter the test's folder
            os.setgid(1000)
            os.setuid(1000)
            with contextlib.suppress(OSError):
                change(name)
                os._exit(0)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        assert os.stat(path).st_mode & 0o7777 == 0o777, oct(os.stat(path).st_mode)
    os.chmod(m.path("w"), 0o6777)
    os.chown(m.path("w"), 5, 5)
    assert os.stat(m.path("w")).st_mode & 0o6000 == 0


@test(timeout=120, needs=NEEDS)
def ten_thousand_files_in_a_directory(t):
    m = Local(t)
    os.mkdir(m.path("d"))
    for i in range(10_000):
        write(m.path("d", f"f{i}"), b"%d" % i)
    assert len(os.listdir(m.path("d"))) == 10_000
    assert t.run("sh", "-c", f"ls -l {m.path('d')} | wc -l").strip() == "10001"
    # reading stays whole while entries go
    left = 0
    with os.scandir(m.path("d")) as it:
        for e in it:
            if int(e.name[1:]) % 2:
                os.unlink(e.path)
            left += 1
    assert left == 10_000
    m.remount()
    assert sorted(int(n[1:]) for n in os.listdir(m.path("d"))) == list(range(0, 10_000, 2))
    assert read(m.path("d/f9998")) == b"9998"
    t.run("rm", "-r", m.path("d"))
    assert m.stats()["used_inodes"] <= 2


@test(timeout=120, needs=NEEDS)
def build_tools_work(t):
    """git, tar and make, as a build host uses them."""
    m = Local(t)
    source = t.folder("src")
    for i in range(30):
        write(os.path.join(source, f"m{i}.c"), b"int f%d(void) { return %d; }\n" % (i, i))
    write(os.path.join(source, "main.c"), "".join(
        ["#include <stdio.h>\n", *(f"int f{i}(void);\n" for i in range(30)), "int main(void) { printf(\"%d\\n\", ",
         " + ".join(f"f{i}()" for i in range(30)), "); return 0; }\n"]).encode())
    write(os.path.join(source, "Makefile"), b"prog: $(patsubst %.c,%.o,$(wildcard *.c))\n\tcc -o $@ $^\n")
    t.run("sh", "-ec", f"tar -C {source} -cf - . | tar -xf - -C {m.dir}; cd {m.dir}; make -s -j4; test $(./prog) = 435; "
          "git init -q .; git config user.email a@b; git config user.name n; git add .; git commit -qm one; "
          "echo '/* */' >> main.c; git commit -qam two; git checkout -q HEAD~1; make -s; git fsck --strict; git status --short; "
          f"git gc -q; tar -cf {t.path('out.tar')} .; diff -r {source} . -x .git -x '*.o' -x prog",
          env={"GIT_CONFIG_GLOBAL": "/dev/null", "HOME": t.dir})
    m.remount()
    t.run("sh", "-ec", f"cd {m.dir}; git -c safe.directory='*' fsck --strict; make -s; tar -df {t.path('out.tar')}")


@test(timeout=120, needs=NEEDS)
def acknowledged_work_survives_kill(t):
    """P1: what was answered before kill -9 is there after the next mount, which detaches the dead one by itself."""
    m = Local(t)
    expected = {}
    for life in range(3):
        for i in range(300):
            name = f"f{life}-{i}"
            data = t.rng.randbytes(t.rng.randrange(1, 9000))
            write(m.path(name), data)
            expected[name] = data
            if i % 7 == 3:
                victim = t.rng.choice(sorted(expected))
                os.unlink(m.path(victim))
                del expected[victim]
        m.kill()
        fails(DEAD, os.listdir, m.dir)
        m.mount()
        assert sorted(os.listdir(m.dir)) == sorted(expected)
    for name, data in expected.items():
        assert read(m.path(name)) == data, name


@test(timeout=120, needs=NEEDS)
def an_open_unlinked_file_ends_with_the_daemon(t):
    m = Local(t)
    f = open(m.path("f"), "wb")
    f.write(bytes(1 << 20))
    f.flush()
    os.unlink(m.path("f"))
    m.kill()
    with contextlib.suppress(OSError):
        f.close()
    m.mount()
    assert os.listdir(m.dir) == [] and m.stats()["used_inodes"] <= 1


@test(timeout=60, needs=NEEDS)
def mounting_right_after_umount(t):
    m = Local(t)
    for i in range(5):
        write(m.path(f"f{i}"), b"x" * 100_000)
        t.run("umount", m.dir)  # returns while the daemon still writes its journal
        m.mount()
    m.umount()
    m.mount()
    assert len(os.listdir(m.dir)) == 5


@test(timeout=60, needs=NEEDS)
def signals_unmount(t):
    m = Local(t)
    for number in (signal.SIGTERM, signal.SIGINT):
        write(m.path("f"), b"1")
        m.signal(number)
        assert m.wait_daemon() == 0
        assert not m.is_mounted()
        m.mount()
    fd = os.open(m.path("f"), os.O_RDONLY)  # busy: detached, and the daemon ends all the same
    m.signal(signal.SIGTERM)
    assert m.wait_daemon() == 0
    assert not m.is_mounted()
    fails(DEAD, os.fsync, fd)
    os.close(fd)
    m.mount()
    assert read(m.path("f")) == b"1"


def reads_of(m):
    """System calls of the daemon that read: one for each request on the classic transport."""
    with open(f"/proc/{m.pid}/io", encoding="ascii") as f:
        return int(dict(line.split(": ") for line in f)["syscr"])


@test(timeout=60, needs=NEEDS)
def closing_a_new_file_sends_nothing(t):
    """Also before anybody has opened a file that was there."""
    m, n = Local(t, "--transport=classic"), 500

    def making(names):
        before = reads_of(m)
        for name in names:
            os.close(os.open(m.path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        return reads_of(m) - before
    first = making(f"a{i}" for i in range(n))
    os.close(os.open(m.path("a0"), os.O_RDONLY))
    then = making(f"b{i}" for i in range(n))
    assert first < then + n // 2, (first, then)


@test(timeout=60, needs=NEEDS)
def synced_files_are_durable(t):
    m = Local(t, "--sync-interval", "60s")
    fd = os.open(m.path("f"), os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"data")
    s = m.stats()
    assert s["sequence_durable"] < s["sequence_committed"]
    os.fsync(fd)
    assert m.stats()["sequence_durable"] >= s["sequence_committed"]
    # O_SYNC: the kernel sends the FSYNC by itself
    fd2 = os.open(m.path("g"), os.O_WRONLY | os.O_CREAT | os.O_SYNC)
    os.write(fd2, b"data")
    s = m.stats()
    assert s["sequence_durable"] == s["sequence_committed"]
    os.mkdir(m.path("d"))
    before = m.stats()["sequence_committed"]
    d = os.open(m.path("d"), os.O_RDONLY)
    os.fsync(d)
    assert m.stats()["sequence_durable"] >= before
    write(m.path("h"), b"x")
    before = m.stats()["sequence_committed"]
    m.flush()
    assert m.stats()["sequence_durable"] >= before
    fd3 = os.open(m.path("x"), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fd3, b"data")
    s = m.stats()
    assert s["sequence_durable"] < s["sequence_committed"]
    os.pwritev(fd3, [b"more"], 4, os.RWF_DSYNC)
    s = m.stats()
    assert s["sequence_durable"] == s["sequence_committed"]
    fd4 = os.open(m.path("y"), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_DSYNC)
    os.write(fd4, b"data")
    s = m.stats()
    assert s["sequence_durable"] == s["sequence_committed"]
    os.write(fd4, b"more")
    after = m.stats()
    assert after["sequence_durable"] == after["sequence_committed"]
    assert (after["journal_flushes"], after["journal_syncs"]) == (s["journal_flushes"], s["journal_syncs"] + 1), "a flush, not one small write"
    for n in (fd, fd2, fd3, fd4, d):
        os.close(n)


def in_fsync(pid):
    return read(f"/proc/{pid}/syscall").startswith(b"74 ")


@test(timeout=60, needs=NEEDS)
def who_waits_can_be_killed(t):
    """Data that waits for S3 where there is none: close and fsync do not return, but a fatal signal ends them, no other
    does, and unmounting does not wait for them."""
    m = Local(t, "--data-waits")
    program = ("import os, signal, sys\nsignal.signal(signal.SIGUSR1, lambda *a: None)\n"
               "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\nos.write(fd, b'x')\nos.fsync(fd)")
    waiting = [subprocess.Popen([sys.executable, "-c", program, m.path(f"f{i}")], stderr=subprocess.DEVNULL)
               for i in range(3)]
    for p in waiting:
        wait_until(lambda p=p: in_fsync(p.pid), what="the process in fsync")
    waiting[0].send_signal(signal.SIGKILL)
    assert waiting[0].wait(20) == -signal.SIGKILL
    waiting[1].send_signal(signal.SIGUSR1)
    os.mkdir(m.path("d"))  # later than the signal's interrupt request
    wait_until(lambda: in_fsync(waiting[1].pid), what="the process in fsync again")
    assert waiting[1].poll() is None
    waiting[1].send_signal(signal.SIGKILL)  # the kernel sends no second interrupt request
    assert waiting[1].wait(20) == -signal.SIGKILL
    m.signal(signal.SIGTERM)  # busy: the daemon detaches the mount and ends
    m.wait_daemon()
    assert waiting[2].wait(20) != 0
    m.mount()
    assert sorted(os.listdir(m.dir)) == ["d", "f0", "f1", "f2"]


@test(timeout=60, needs=NEEDS)
def strict_durability(t):
    m = Local(t, "--sync-interval", "60s", "--durability", "strict")
    for i in range(20):
        write(m.path(f"f{i}"), b"x")
        s = m.stats()
        assert s["sequence_durable"] == s["sequence_committed"]
    fails(errno.EEXIST, os.mkdir, m.path("f1"))


def write_pattern(path, who, count):
    with open(path, "wb", buffering=0) as f:
        for i in range(count):
            f.write(bytes([(who + i) % 251]) * 200_000)


@test(timeout=120, needs=NEEDS)
def writers_wait_for_room(t):
    """HISTORIES 13, 60: back-pressure parks writers in workers; operations on names go on, and nothing is lost."""
    m = Local(t, "--dirty-limit", "1M", "--hot-size", "2M", "--sync-interval", "20ms")
    jobs = [multiprocessing.Process(target=write_pattern, args=(m.path(f"w{w}"), w, 100)) for w in range(6)]
    for j in jobs:
        j.start()
    made = 0
    while any(j.is_alive() for j in jobs):
        os.mkdir(m.path(f"d{made}"))
        os.rmdir(m.path(f"d{made}"))
        made += 1
    assert all(j.exitcode == 0 for j in jobs) and made > 10, made
    t.note("directories made and removed meanwhile:", made)
    m.kill()
    m.mount()
    for w in range(6):
        assert read(m.path(f"w{w}")) == b"".join(bytes([(w + i) % 251]) * 200_000 for i in range(100))


@test(timeout=60, needs=NEEDS)
def virtual_files(t):
    m = Local(t)
    write(m.path("f"), b"12345")
    s = m.stats()
    for name in ("staging_blocks", "staging_block_bytes", "durable_lag", "cpu_usage", "memory", "uptime", "used_space",
                 "used_buffer_size_bytes", "fuse_ops_durations_histogram_seconds_total", "blockcache_hit_bytes",
                 "object_request_data_bytes_GET", "fuse_ops_total_create"):
        assert name in s, name
    assert s["fuse_written_size_bytes_sum"] >= 5
    c = m.config()
    assert c["Pid"] == m.pid and c["Meta"]["MountPoint"] == m.dir and not c.get("CommPath"), c
    assert c["Chunk"]["CacheDir"].startswith(m.cache)
    assert [n for n in os.listdir(m.dir) if n.startswith(".")] == []
    assert stat.S_IMODE(os.stat(m.path(".accesslog")).st_mode) == 0o400
    for name in (".stats", ".control", ".config", ".accesslog"):
        fails(errno.EPERM, os.unlink, m.path(name))
        fails(errno.EPERM, os.rename, m.path("f"), m.path(name))
        fails(errno.EEXIST, os.mkdir, m.path(name))
    fails(errno.EACCES, write, m.path(".stats"), b"x", "r+b")
    fd = os.open(m.path(".control"), os.O_RDWR)
    for _ in range(2):
        os.write(fd, struct.pack(">II", 1005, 4) + b"1234")
        assert os.read(fd, 100) == bytes([errno.EINVAL])
    os.close(fd)
    lines = []
    log = open(m.path(".accesslog"), "rb", buffering=0)
    reader = threading.Thread(target=lambda: lines.append(log.read(4096)))
    reader.start()
    os.mkdir(m.path("d"))
    reader.join()
    while b"mkdir" not in b"".join(lines):
        lines.append(log.read(4096))
    log.close()
    text = b"".join(lines).decode()
    assert re.search(r"^\d{4}\.\d\d\.\d\d \d\d:\d\d:\d\d\.\d{6} \[uid:0,gid:0,pid:\d+\] mkdir \(1,d,0\d+\) - OK <0\.\d{6}>$",
                     text, re.M), text


@test(timeout=60, needs=NEEDS)
def mistakes_are_named(t):
    m = Local(t, start=False)

    def refused(*words, status=1, says):
        text = t.run(JFS, *words, status=status)
        assert re.search(says, text) and text.count("\n") == 1, text
    where = ["mount", "--local-only", "--cache-dir", m.cache, "--hot-dir", m.hot, "local"]
    refused(*where, m.dir + "/none", says="does not exist.*mkdir")
    write(t.path("file"), b"")
    refused(*where, t.path("file"), says="not a directory")
    write(m.path("x"), b"")
    refused(*where, m.dir, says="not empty.*--force")
    os.unlink(m.path("x"))
    refused(*where, "--nonsense", m.dir, status=2, says="unknown option --nonsense")
    refused("mount", "local", status=2, says="too few arguments")
    refused("umount", m.dir, says="nothing is mounted")
    refused("flush", m.dir, says="not on a jfs mount")
    write(t.path("cache-file"), b"")
    refused("mount", "--local-only", "--cache-dir", t.path("cache-file"), "local", m.dir, says="cache-file")
    m.mount()
    refused(*where, m.dir, says="busy")
    refused(*where, t.folder("other"), says=f"mounted on {m.dir}")
    with open(m.path("open"), "wb"):
        refused("umount", m.dir, says="in use")
    m.umount()


@test(timeout=60, needs=NEEDS)
def mount_helper_is_silent(t):
    m = Local(t, start=False)
    helper = t.path("mount.fuse.jfs")
    os.symlink(JFS, helper)
    text = t.run(helper, "local", m.dir, "-n", "-o",
                 f"rw,_netdev,nosuid,x-test,local-only,cache-dir={m.cache},hot-dir={m.hot},log={t.path('log/daemon.log')}")
    assert text == "", text
    assert m.is_mounted()
    m.pid = m.config()["Pid"]
    assert "nosuid" in t.run("findmnt", "-n", "-o", "OPTIONS", m.dir)
    write(m.path("f"), b"1")
    m.umount()
    assert m.mount("-o", "ro") is not None
    fails(errno.EROFS, write, m.path("g"), b"")
    assert read(m.path("f")) == b"1"


@test(timeout=60, needs=NEEDS)
def foreground_ends_with_its_mount(t):
    """And teaches the kernel meanwhile that there are no file handles, by a process that ends at once: no file is released."""
    m = Local(t, start=False)
    p = subprocess.Popen(m.command("-f"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(m.is_mounted)
    wait_until(lambda: same_command(p.pid) == [p.pid], what="one process alone")
    for i in range(3):
        with open(m.path(f"f{i}"), "xb") as f:
            f.write(b"1")
    ops = parse_stats(m.path(".stats"))
    assert ops["fuse_ops_total_create"] == 3 and ops.get("fuse_ops_total_release", 0) == 0, ops
    t.run("umount", m.dir)
    assert p.wait(30) == 0


if __name__ == "__main__":
    sys.exit(main())
