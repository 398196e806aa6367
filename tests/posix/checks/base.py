"""What the checks are made of. A check says what POSIX, or Linux, answers to a few system calls, on any file system:

    @check
    def only_the_owner_may(p):          # p: Place, an empty directory of its own
        p.file("f", mode=0o600)
        with user(A):
            fails(EPERM, os.chmod, p("f"), 0o644)

Each runs as root, in a process of its own, in a directory that everybody may search and write. `@check(only="jfs")` is for
what only we promise, where other file systems may differ."""
import contextlib
import ctypes
import fcntl
import os
import random
import signal
import stat
import sys
import time
import traceback
from errno import *  # noqa: F401,F403
import errno

A, B, C = 61001, 61002, 61003  # users, and groups of the same numbers
LIMIT = 60  # seconds for one check
CLOCK_REALTIME_COARSE = 5
libc = ctypes.CDLL(None, use_errno=True)
registry = {}


def check(function=None, *, only=None):
    def register(f):
        family = f.__module__
        registry.setdefault(family, {})[f.__name__] = (f, only)
        return f
    return register(function) if function else register


def fails(code, function, *args, **more):
    """The call must fail with this errno, or with one of these."""
    codes = code if isinstance(code, tuple) else (code,)
    wanted = " or ".join(errno.errorcode[c] for c in codes)
    try:
        function(*args, **more)
    except OSError as e:
        assert e.errno in codes, f"{errno.errorcode.get(e.errno, e.errno)} instead of {wanted}"
        return
    raise AssertionError(f"succeeded instead of {wanted}")


def same(got, wanted, what=""):
    assert got == wanted, f"{what + ': ' if what else ''}{got!r} instead of {wanted!r}"


def call(name, *args):
    """A function of libc that answers -1 on errors; strings may be str or bytes. Arguments of 64 bits: ctypes.c_long."""
    args = [os.fsencode(a) if isinstance(a, str) else a for a in args]
    rc = getattr(libc, name)(*args)
    if rc == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return rc


@contextlib.contextmanager
def user(uid, gid=None, groups=()):
    """Another effective user for a while, without any capability; its group has the same number unless given."""
    old_groups, old_gid = os.getgroups(), os.getegid()
    os.setgroups(list(groups))
    os.setegid(uid if gid is None else gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(old_gid)
        os.setgroups(old_groups)


@contextlib.contextmanager
def umask(mask):
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


@contextlib.contextmanager
def opened(path, flags=os.O_RDWR, mode=0o644):
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def touch_nothing_for_a_tick(st):
    """Waits until the clock that file systems stamp with shows a later time than every stamp in `st`."""
    newest = max(st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns)
    while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) <= newest:
        time.sleep(0.001)


@contextlib.contextmanager
def stamps(path, moved="", kept=""):
    """Of "amc" (atime, mtime, ctime) those that the body must move on, and those that it must not touch."""
    before = os.lstat(path)
    touch_nothing_for_a_tick(before)
    yield
    after = os.lstat(path)
    for letter in moved + kept:
        name = f"st_{letter}time_ns"
        old, new = getattr(before, name), getattr(after, name)
        if letter in moved:
            assert new > old, f"{letter}time of {os.path.basename(path)} did not move"
        else:
            assert new == old, f"{letter}time of {os.path.basename(path)} moved"


def in_child(function, *args):
    """The same in a process of its own; what goes wrong there goes wrong here."""
    wait_for(start_child(function, *args))


def start_child(function, *args):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = "the process broke"
        try:
            libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nothing is left behind when the parent breaks
            os.close(reader)
            function(*args)
            text = ""
        except BaseException:  # whatever it is, the parent tells it
            text = traceback.format_exc()
        finally:
            os.write(writer, text.encode()[:4000])
            os._exit(bool(text))
    os.close(writer)
    return pid, reader


def wait_for(child):
    pid, reader = child
    with os.fdopen(reader, "rb") as f:
        text = f.read().decode()
    status = os.waitpid(pid, 0)[1]
    assert status == 0, text or f"the process ended with status {status:#x}"


class Place:
    """The directory of one check."""

    def __init__(self, folder, seed, kind):
        self.dir, self.kind = folder, kind
        self.rng = random.Random(seed)

    def __call__(self, *parts):
        return os.path.join(self.dir, *parts)

    def own(self, path, mode, owner):
        if owner is not None:
            os.lchown(path, *(owner if isinstance(owner, tuple) else (owner, owner)))
        if mode is not None and not os.path.islink(path):
            os.chmod(path, mode)
        return path

    def file(self, name="f", data=b"", mode=0o644, owner=None):
        path = self(name)
        with open(path, "wb") as f:
            f.write(data)
        return self.own(path, mode, owner)

    def folder(self, name="d", mode=0o755, owner=None):
        os.mkdir(self(name))
        return self.own(self(name), mode, owner)

    def node(self, kind, name=None, mode=0o644, owner=None):
        """Of each KINDS one; named like its kind unless told otherwise."""
        name = name or kind
        path = self(name)
        if kind == "file":
            return self.file(name, b"", mode, owner)
        if kind == "folder":
            return self.folder(name, mode | 0o111, owner)
        if kind == "symlink":
            os.symlink("target of " + name, path)
        else:
            os.mknod(path, mode | {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "char": stat.S_IFCHR, "block": stat.S_IFBLK}[kind],
                     os.makedev(1, 3) if kind in ("char", "block") else 0)
        return self.own(path, mode, owner)


KINDS = ("file", "folder", "symlink", "fifo", "socket", "char", "block")


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def path_errors(p, function, search=True, last=True):
    """What every call that walks a path answers to a bad one; `function` takes the path. `last` False: for calls that do not
    follow a symlink at the end, and so never meet a loop there."""
    fails(ENAMETOOLONG, function, p("n" * 256))
    fails(ENAMETOOLONG, function, p("n" * 256, "below"))
    fails(ENAMETOOLONG, function, p("d/" * 2100 + "x"))
    fails(ENOENT, function, p("absent", "below"))
    fails(ENOENT, function, "")
    os.symlink("loop-b", p("loop-a"))
    os.symlink("loop-a", p("loop-b"))
    fails(ELOOP, function, p("loop-a", "below"))
    if last:
        fails(ELOOP, function, p("loop-a"))
    for kind in ("file", "fifo", "char"):
        p.node(kind, "path-" + kind)
        fails(ENOTDIR, function, p("path-" + kind, "below"))
    if search:
        p.folder("closed", 0o755, A)
        p.file("closed/f", owner=A)
        os.chmod(p("closed"), 0o644)
        with user(A):
            fails(EACCES, function, p("closed/f"))
        os.chmod(p("closed"), 0o755)


def creation_rules(p, make):
    """What holds for every new name: `make` takes the path, and makes something of any kind there."""
    for kind in KINDS:
        fails(EEXIST, make, p.node(kind, "old-" + kind))
    fails(EEXIST, make, p("."))
    p.folder("shut", 0o555, A)
    before = os.lstat(p("shut"))
    with user(A):
        fails(EACCES, make, p("shut/x"))
    same(os.lstat(p("shut")).st_mtime_ns, before.st_mtime_ns, "mtime after a refusal")
    with stamps(p.folder("mine", 0o755, A), moved="mc"), user(A, B):
        make(p("mine/x"))
    st = os.lstat(p("mine/x"))
    same((st.st_uid, st.st_gid), (A, B), "owner of what is new")
    p.folder("theirs", 0o2777, (A, C))
    with user(A, B):
        make(p("theirs/x"))
    st = os.lstat(p("theirs/x"))
    same((st.st_uid, st.st_gid), (A, C), "owner of what is new below a setgid directory")
    gone = p.folder("gone")
    with opened(gone, os.O_RDONLY) as fd:
        os.rmdir(gone)
        fails(ENOENT, make, f"/proc/self/fd/{fd}/x")


def sticky_rules(p, make, remove):
    """Who may take a name out of a sticky directory: the owner of either, and root. `make` makes what `remove` removes."""
    for directory_owner, owner, actor, allowed in ((A, B, C, False), (A, B, B, True), (A, B, A, True), (C, C, A, False),
                                                   (0, A, A, True), (0, 0, A, False), (A, B, 0, True)):
        folder = p.folder(f"sticky-{directory_owner}-{owner}-{actor}", 0o1777, directory_owner)
        path = os.path.join(folder, "x")
        make(path)
        os.lchown(path, owner, owner)
        ino = os.lstat(path).st_ino
        with user(actor) if actor else contextlib.nullcontext():
            if allowed:
                remove(path)
            else:
                fails((EPERM, EACCES), remove, path)
        left = os.path.lexists(path) and os.lstat(path).st_ino == ino
        same(left, not allowed, f"a name of {owner} in a directory of {directory_owner} is there after {actor}")


# running

def kind_of(folder):
    """"jfs" for a mount of ours, else the name of the file system."""
    best, kind = "", ""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as f:
        for line in f:
            point = line.split()[1].encode("utf-8", "surrogateescape").decode("unicode_escape")
            if (os.path.realpath(folder) + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
                best, kind = point, line.split()[2]
    return "jfs" if kind == "fuse.jfs" else kind


def load(families=()):
    here = os.path.dirname(os.path.abspath(__file__))
    if here not in sys.path:
        sys.path.insert(0, here)
    found = sorted(n[:-3] for n in os.listdir(here) if n.endswith(".py") and n != "base.py")
    for name in families or found:
        __import__(name)
    return list(families or found)


def run_check(family, name, folder, seed, kind):
    """"" or what went wrong; None if it does not apply."""
    function, only = registry[family][name]
    if only == "jfs" and kind != "jfs":
        return None
    os.mkdir(folder)
    os.chmod(folder, 0o777)

    def body():
        os.setpgid(0, 0)
        signal.alarm(LIMIT * int(float(os.environ.get("JFS_TEST_SLOW", "1"))))
        os.umask(0o022)
        function(Place(folder, f"{seed}/{family}.{name}", kind))
    child = start_child(body)
    os.waitid(os.P_PID, child[0], os.WEXITED | os.WNOWAIT)
    with contextlib.suppress(ProcessLookupError):  # it may have ended before it had a group
        os.killpg(child[0], signal.SIGKILL)  # children that were another user for a while outlive their parent
    try:
        wait_for(child)
    except AssertionError as e:
        return str(e)
    return ""


def run_family(family, folder, seed, told=lambda name, seconds: None):
    """Runs all checks of a family below `folder`; (how many passed, {name: what went wrong}, how many do not apply).
    `told` is called after each."""
    passed, skipped, bad, kind = 0, 0, {}, kind_of(folder)
    for name in registry[family]:
        start = time.monotonic()
        text = run_check(family, name, os.path.join(folder, f"{family}.{name}"), seed, kind)
        told(name, time.monotonic() - start)
        if text is None:
            skipped += 1
        elif text:
            bad[name] = text
        else:
            passed += 1
    return passed, bad, skipped


def lock(fd, kind, start=0, length=0, wait=False):
    fcntl.lockf(fd, kind if wait or kind == fcntl.LOCK_UN else kind | fcntl.LOCK_NB, length, start)
