#!/usr/bin/env python3
"""The commands as an operator meets them: installed, through mount(8) and an fstab line, on a terminal, in scripts."""
import contextlib
import ctypes
import errno
import json
import mmap
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from core import children_of  # noqa: E402
from harness import *  # noqa: E402,F403
from volume import daemon_since  # noqa: E402

NEEDS = ("root", "fuse", "jfs")
CLONE_NEWNS = 0x20000
libc = ctypes.CDLL(None, use_errno=True)


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def mount_line(point):
    """(source, type, options) of what is mounted there, or None."""
    with open("/proc/self/mounts", encoding="utf-8") as f:
        for line in f:
            source, where, kind, options = line.split()[:4]
            if where == point:
                return source, kind, options.split(",")
    return None


def own_mounts(t):
    """A mount namespace for this test's process, which may cover /sbin and /etc/fstab: nobody else sees it. Copies of other tests'
    mounts would keep their daemons alive."""
    if libc.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    t.run("mount", "--make-rprivate", "/")
    t.run("umount", "-a", "-l", "-t", "fuse.jfs", status=None)


@test(timeout=120, needs=NEEDS)
def installed_and_mounted_by_mount_8(t):
    """`make install` puts the helper where mount(8) looks; from then on an fstab line is all that is needed."""
    stage = t.folder("stage")
    t.run("make", "-s", "install", f"DESTDIR={stage}", "PREFIX=/usr", f"BUILD={BUILD}", cwd=ROOT)
    assert os.readlink(os.path.join(stage, "sbin/mount.fuse.jfs")) == "/usr/bin/jfs"
    assert sorted(os.listdir(os.path.join(stage, "usr/bin"))) == ["jfs", "jfs-recover"]
    own_mounts(t)
    sbin, prefix = os.path.realpath("/sbin"), t.path("usr")
    t.run("mount", "-t", "tmpfs", "tmpfs", sbin)
    t.run("make", "-s", "install", f"PREFIX={prefix}", f"BUILD={BUILD}", cwd=ROOT)
    assert os.readlink(os.path.join(sbin, "mount.fuse.jfs")) == f"{prefix}/bin/jfs"
    installed = {os.path.relpath(os.path.join(d, f), prefix) for d, _, files in os.walk(prefix) for f in files}
    pages = {f"share/man/man{p[-1]}/{p}" for p in os.listdir(os.path.join(ROOT, "man"))}
    assert installed == {"bin/jfs", "bin/jfs-recover"} | pages, installed

    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, start=False)
    fstab = t.path("fstab")
    write(fstab, b"")
    if not os.path.exists("/etc/fstab"):
        raise Skip("there is no /etc/fstab to cover")
    t.run("mount", "--bind", fstab, "/etc/fstab")
    write(fstab, f"{m.url()}  {m.dir}  fuse.jfs  writeback,upload-delay=10m,nosuid,_netdev,x-systemd.automount,"
          f"cache-dir={m.cache},hot-dir={m.hot}  0 0\n".encode())

    def by_fstab(*words):
        before = children_of(os.getpid())
        text = t.run(*words)
        assert text == "", text
        m.pid = daemon_since(before)
    by_fstab("mount", m.dir)
    source, kind, options = mount_line(m.dir)
    assert (source, kind) == ("JuiceFS:vol", "fuse.jfs") and {"rw", "nosuid", "relatime"} <= set(options), (source, options)
    config = json.loads(read(m.path(".config")))
    assert config["Chunk"]["Writeback"] is True and config["Chunk"]["UploadDelay"] == 600_000_000_000
    write(m.path("f"), b"by fstab")
    t.run("umount", m.dir)
    m.wait_daemon()
    by_fstab("mount", "-a", "-t", "fuse.jfs")
    assert read(m.path("f")) == b"by fstab"
    text = t.run("mount", m.dir, status=1)
    assert text.startswith("mount.fuse.jfs: ") and "is busy" in text, text
    for word in ("ro", "rw"):  # with the options of the line, which must be the daemon's
        t.run("mount", "-o", f"remount,{word}", m.dir)
        assert {word, "nosuid"} <= set(mount_line(m.dir)[2]), mount_line(m.dir)
    t.run(JFS, "umount", "--flush", m.dir)
    m.wait_daemon()
    options = f"cache-dir={m.cache},hot-dir={m.hot},ro"
    by_fstab("mount", "-t", "fuse.jfs", m.url(), m.dir, "-o", options)
    assert "ro" in mount_line(m.dir)[2]
    with contextlib.suppress(OSError):
        write(m.path("g"), b"")
        raise AssertionError("a read-only mount was written")
    assert read(m.path("f")) == b"by fstab"
    t.run("umount", m.dir)
    m.wait_daemon()
    for words, code, says in ((("-o", options + ",nonsense"), 2, "unknown option -o nonsense"),
                              (("-o", options + ",upload-delay=soon"), 2, "upload-delay"),
                              (("-f", "-o", options), 0, "")):
        text = t.run("mount", "-t", "fuse.jfs", m.url(), m.dir, *words, status=code)
        assert says in text and text.count("\n") == (code != 0), text
        assert code == 0 or text.startswith("mount.fuse.jfs: "), text
        assert not mount_line(m.dir)


@test(needs=NEEDS)
def flags_change_by_remount(t):
    """The kernel's flags of a mount, and nothing else; the daemon works on, also for what a read-only mount has left over."""
    own_mounts(t)
    sbin = os.path.realpath("/sbin")
    t.run("mount", "-t", "tmpfs", "tmpfs", sbin)
    os.symlink(os.path.join(BUILD, "mount.fuse.jfs"), os.path.join(sbin, "mount.fuse.jfs"))
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay=10m", "-o", "nosuid")

    def remount(words, status=0, says=""):
        before = mount_line(m.dir)
        text = t.run("mount", "-o", "remount," + words, m.dir, status=status)
        assert says in text and text.count("\n") == (status != 0), text
        assert status == 0 or mount_line(m.dir) == before, "what is refused changes nothing"
        return mount_line(m.dir)[2]

    def fails(code, function, *args):
        try:
            function(*args)
        except OSError as e:
            assert e.errno == code, e
            return
        raise AssertionError(f"{function} did not fail")
    write(m.path("f"), b"text")
    write(m.path("program"), b"#!/bin/sh\n")
    os.chmod(m.path("program"), 0o755)
    with open(m.path("f"), "ab"):
        remount("ro", 1, "open for writing")
    assert {"ro", "nosuid"} <= set(remount("ro"))
    fails(errno.EROFS, write, m.path("g"), b"")
    fails(errno.EROFS, os.mkdir, m.path("d"))
    fails(errno.EROFS, os.unlink, m.path("f"))
    assert read(m.path("f")) == b"text"
    m.flush()
    volume.check()
    assert {"rw", "nosuid"} <= set(remount("rw"))
    write(m.path("g"), b"again")
    assert "noexec" in remount("noexec")
    fails(errno.EACCES, subprocess.run, [m.path("program")])
    assert not {"noexec", "nosuid"} & set(remount("exec,suid"))
    subprocess.run([m.path("program")], check=True)
    assert "ro" in remount(f"ro,writeback,upload-delay=600,cache-dir={m.cache}")
    for word in ("cache-dir=/elsewhere", "upload-delay=1m", "pack-below=4K", "noatime", "strictatime", "max_threads=3"):
        remount("ro," + word, 1, word.split("=", maxsplit=1)[0])
    remount("ro,nonsense", 2, "unknown option -o nonsense")
    m.kill()
    remount("rw", 1, "does not answer")
    m.mount()
    write(m.path("h"), b"")
    m.umount(flush=True)
    assert "nothing is mounted" in t.run(JFS, "mount", "-o", "remount,ro", m.url(), m.dir, status=1)
    m.mount("--read-only")
    remount("rw", 1, "was mounted read-only")
    assert read(m.path("g")) == b"again"
    m.umount()


@test(needs=NEEDS)
def help_and_exit_codes(t):
    """Help goes to stdout with exit code 0, a usage error is one line on stderr with 2."""
    def run(*command):
        r = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, check=False)
        return r.returncode, r.stdout, r.stderr
    commands = re.findall(r"^  (\w+) ", t.run(JFS, "--help"), re.M)
    assert set(commands) >= {"format", "mount", "umount", "status", "flush", "bench"}, commands
    recover = re.findall(r"^  (\w+) ", t.run(JFS_RECOVER, "--help"), re.M)
    assert set(recover) >= {"check", "replay"}, recover
    helper = os.path.join(BUILD, "mount.fuse.jfs")
    for base, usage in ([((JFS, c), 2) for c in commands] + [((helper,), 2)] + [((JFS_RECOVER, c), 16) for c in recover]):
        for option in ("--help", "-h"):
            code, out, err = run(*base, option)
            assert code == 0 and out.startswith("usage: ") and not err, (base, option, code, out, err)
        code, out, err = run(*base, "--no-such-option", "x", "y")
        assert code == usage and not out and err.count("\n") == 1 and "--no-such-option" in err, (base, code, out, err)
    for program in (JFS, JFS_RECOVER):
        code, out, err = run(program, "--version")
        assert code == 0 and re.match(r"jfs(-recover)? \d+\.\d+", out) and not err, out
    assert run(JFS)[0] == 2 and run(JFS, "nonsense")[0] == 2


def drained(terminal, screen):
    """Adds what the terminal shows to `screen`, and returns that."""
    while select.select([terminal], [], [], 0)[0]:
        try:
            more = os.read(terminal, 4096)
        except OSError:  # EIO: its last user has ended
            break
        screen += more
    return screen


@test(timeout=90, needs=(*NEEDS, "tools"))
def umount_flush_shows_progress_on_a_terminal(t):
    """Redis is away, so that there is something to see; when it comes back the command ends by itself."""
    server = RedisServer(t)
    volume = Volume(t, server).format("--trash-days", "0")
    net = t.enter(TcpFault(server.port))
    m = Mount(t, volume, "--writeback", port=net.port)
    os.mkdir(m.path("d"))
    m.flush()
    net("refuse")
    for i in range(20):
        write(m.path("d", str(i)), bytes(5000))
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(JFS, [JFS, "umount", "--flush", m.dir])
    screen = bytearray()
    wait_until(lambda: re.search(rb"\[[#.]{30}\] [1-9]\d* operations, 0\.\d MiB to go", drained(terminal, screen)),
               what="a progress bar")
    assert m.is_mounted()
    net("pass")

    def ended():
        drained(terminal, screen)
        done = os.waitpid(pid, os.WNOHANG)
        return done if done[0] else None
    status = wait_until(ended, 60, "the end of jfs umount --flush")
    assert status[1] == 0, (status, screen)
    assert not m.is_mounted()
    m.wait_daemon()
    os.close(terminal)
    names = volume.check().entries
    assert any(len(e) == 20 for e in names.values()), "umount --flush left something behind"


SMALL_BENCH = ("--big-file-size=3M", "--block-size=64K", "--small-file-size=2K", "--small-file-count=7", "--sync-count=3", "-p", "2")


@test(timeout=60, needs=NEEDS)
def bench_measures_a_mount_and_leaves_nothing(t):
    m = Mount(t, Volume(t, RedisServer(t)).format("--trash-days", "0"), "--writeback")
    text = t.run(JFS, "bench", *SMALL_BENCH, m.dir)
    labels = ("Write big file", "Read big file", "Write small file", "Read small file", "Stat file", "Delete small file",
              "Append 4 KiB, fsync")
    for label in labels:
        assert re.search(rf"^{label} +[1-9][\d.]* (MiB|files|syncs)/s +\d+\.\d+ (s|ms)/(file|sync)$", text, re.M), text
    assert "\033" not in text and os.listdir(m.dir) == []
    out = json.loads(t.run(JFS, "bench", *SMALL_BENCH, "--json", m.dir))
    assert (out["Directory"], out["Threads"], out["BigFileSize"], out["SmallFileCount"]) == (m.dir, 2, 3 << 20, 7), out
    results = {r["Item"]: r for r in out["Results"]}
    assert list(results) == ["write_big", "read_big", "write_small", "read_small", "stat_small", "delete_small", "append_sync"]
    assert results["write_big"]["Amount"] == 6 << 20 and results["stat_small"]["Amount"] == 14 and results["append_sync"]["Amount"] == 6
    for r in results.values():
        assert r["Value"] > 0 and r["Seconds"] > 0 and r["SecondsEach"] > 0, r
    some = json.loads(t.run(JFS, "bench", "--big-file-size=0", "--sync-count=0", "--small-file-count=1", "--json", m.dir))
    assert [r["Item"] for r in some["Results"]] == ["write_small", "read_small", "stat_small", "delete_small"], some
    assert os.listdir(m.dir) == []


@test(timeout=60)
def bench_shows_colours_on_a_terminal_only(t):
    folder = t.folder("d")
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.pop("NO_COLOR", None)
        os.execv(JFS, [JFS, "bench", *SMALL_BENCH, folder])
    screen, done = bytearray(), []

    def ended():
        drained(terminal, screen)
        done[:] = os.waitpid(pid, os.WNOHANG)
        return done[0]
    wait_until(ended, 50, "the end of jfs bench")
    drained(terminal, screen)
    os.close(terminal)
    assert done[1] == 0 and b"Stat file ..." in screen and b"\033[32m" in screen and b"syncs/s" in screen, screen
    assert os.listdir(folder) == []


@test(timeout=60, needs=("root",))
def bench_ends_cleanly_when_it_cannot_go_on(t):
    """Interrupted, on a full disk, and where there is nothing to work in: one line, status 1, nothing left."""
    folder = t.folder("d")
    for sig in (signal.SIGINT, signal.SIGTERM):
        p = subprocess.Popen([JFS, "bench", "--big-file-size=0", "--small-file-count=0", "--sync-count=100000000", "-p", "3", folder],
                             stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        wait_until(lambda: any(names for _, _, names in os.walk(folder)), what="a file of the bench")
        p.send_signal(sig)
        out, err = p.communicate(timeout=30)
        assert (p.returncode, out, err) == (1, "", "jfs bench: interrupted\n"), (p.returncode, out, err)
        assert os.listdir(folder) == []
    small = t.folder("small")
    t.run("mount", "-t", "tmpfs", "-o", "size=1m", "none", small)
    t.defer(t.run, "umount", small)
    text = t.run(JFS, "bench", *SMALL_BENCH, small, status=1)
    assert "cannot write " in text and "No space left on device" in text and text.count("\n") == 1, text
    assert os.listdir(small) == []
    assert "cannot make a folder" in t.run(JFS, "bench", t.path("nothing"), status=1)
    assert "--threads" in t.run(JFS, "bench", "-p", "0", folder, status=2)
    assert "nothing is left to measure" in t.run(JFS, "bench", "--big-file-size=0", "--small-file-count=0", "--sync-count=0", folder,
                                                 status=2)


@test(timeout=60, needs=NEEDS)
def flush_takes_any_path_and_status_both(t):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, "--writeback", "--upload-delay=1h")
    os.mkdir(m.path("d"))
    os.symlink(m.path("d"), t.path("link"))
    for n, path in enumerate((m.dir, m.path("d"), m.path("d", "f"), t.path("link"), t.path("link", "f"))):
        write(m.path("d", "f"), b"%d" % n * 1000)
        assert m.stats()["staging_blocks"] > 0
        assert t.run(JFS, "flush", path) == ""
        assert m.stats()["staging_blocks"] == 0 and m.stats()["backlog_operations"] == 0
        ks = volume.check()
        ino = os.stat(m.path("d", "f")).st_ino
        assert any(key[0] == ino for key in ks.chunks), "flush returned before Redis had the file"
    assert t.run(JFS, "flush", ".", cwd=m.path("d")) == ""
    shown = m.status()
    assert shown["Config"]["Meta"]["MountPoint"] == m.dir and shown["Stats"]["juicefs_staging_blocks"] == 0
    whole = json.loads(t.run(JFS, "status", "--json", volume.url()))
    assert whole["Setting"]["Name"] == "vol", whole
    m.umount(flush=True)


@test(timeout=60, needs=NEEDS)
def units_and_defaults_are_those_of_juicefs(t):
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    m = Mount(t, volume, start=False)
    for options, wanted in (
            ((), {"Writeback": False, "UploadDelay": 0, "BufferSize": 300 << 20}),
            (("--writeback", "--upload-delay=10m", "--buffer-size=64"),
             {"Writeback": True, "UploadDelay": 600 * 10**9, "BufferSize": 64 << 20}),
            (("-o", "writeback,upload_delay=90,buffer-size=1G"),
             {"Writeback": True, "UploadDelay": 90 * 10**9, "BufferSize": 1 << 30}),
            (("--writeback", "--upload-delay", "1h30m"), {"UploadDelay": 5400 * 10**9})):
        m.mount(*options)
        chunk = json.loads(read(m.path(".config")))["Chunk"]
        assert {k: chunk[k] for k in wanted} == wanted, (options, chunk)
        folder = chunk["CacheDir"]
        assert os.path.dirname(folder) == m.cache and os.stat(folder).st_mode & 0o7777 == 0o700
        os.setxattr(m.dir, "user.on", b"1")
        m.umount(flush=True)


@test(timeout=60, needs=NEEDS)
def access_times_by_mode(t):
    """A mode holds for the whole life of a mount, also after the volume's setting was changed."""
    volume = Volume(t, RedisServer(t)).format("--trash-days", "0")
    log = t.path("log/daemon.log")
    m = Mount(t, volume, "--writeback", "--no-syslog", "--log", log, start=False)

    def look(name):
        fd = os.open(m.path(name), os.O_RDONLY | os.O_DIRECT)  # past the kernel's cache
        os.preadv(fd, [mmap.mmap(-1, 4096)], 0)
        os.close(fd)
        return os.stat(m.path(name)).st_atime_ns
    for days, (mode, first, again) in enumerate((("relatime", True, False), ("strictatime", True, True), ("noatime", False, False))):
        m.mount("--atime-mode", mode, "--heartbeat", "50ms")
        write(m.path("f"), bytes(4096))
        made = os.stat(m.path("f")).st_atime_ns
        t.run(JFS, "format", volume.url(), "vol", "--trash-days", days + 1)
        wait_until(lambda days=days: b"trash_days=%d" % (days + 1) in read(log), what="the new setting")
        seen = look("f")
        assert (seen > made) == first, (mode, made, seen)
        if again:
            wait_until(lambda seen=seen: look("f") > seen, what="an access time a second later")
        else:
            wait_until(lambda seen=seen: time.time_ns() > seen + 1_100_000_000, what="a second")
            assert look("f") == seen, mode
        m.umount(flush=True)


if __name__ == "__main__":
    sys.exit(main())
