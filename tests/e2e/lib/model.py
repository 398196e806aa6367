"""An in-memory POSIX file system, a seeded workload, and the comparison with what a real mount shows.

Every operation is one tuple and changes the tree by at most one system call, so that a crash leaves it done or not done:

    ("create", path, mode)            ("write", path, offset, seed, length)     ("append", path, seed, length)
    ("truncate", path, size)          ("fallocate", path, mode, offset, length) ("chmod", path, mode)
    ("mkdir", path, mode)             ("rmdir", path)                           ("unlink", path)
    ("symlink", target, path)         ("link", old, new)                        ("rename", old, new, flags)
    ("setxattr", path, name, value)   ("removexattr", path, name)
    ("fsync", path)                   ("fsyncdir", path)
    ("swrite", path, offset, seed, length)      ("copy", source, offset, target, offset, length)
    ("open", slot, path)   ("hwrite", slot, offset, seed, length)   ("hcheck", slot)   ("close", slot)   ("crash",)

"swrite" is a write to a file opened with O_SYNC, "copy" a copy_file_range. A slot holds an open file, whatever becomes of
its names; "hcheck" compares length, links and bytes; "crash" stands in a history where the mount went away and all handles
with it.

Model.apply and Real.apply both answer 0 or the errno. A History holds what was acknowledged:

    history = History(seed)
    history.run(directory, 500)                 # raises Mismatch when the mount answers otherwise than POSIX
    history.check_exact(tree_of(directory))     # all of it, and possibly the one operation that was in flight
    history.check_prefix(tree_of(directory))    # some prefix that contains everything synced (P2, P3)

What is not modelled: times, owners, and more than one writer: several threads have a directory and a History each
(crashes.py).
"""
import contextlib
import copy
import ctypes
import errno
import hashlib
import os
import random
import stat
import string
import time

PAGE = 4096
ZERO = bytes(PAGE)
NOREPLACE, EXCHANGE = 1, 2
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
ALL_FEATURES = frozenset(("xattr", "exchange", "fallocate", "link", "symlink", "fsync", "copy", "handles"))
WRITES = ("write", "append", "swrite", "hwrite")
# What a mount answers once its daemon is gone: the operation is in flight, not failed. EINTR: over a ring the kernel copies a
# request in a thread of the daemon, and where that was killed meanwhile it gets no pages of the ring's buffer any more.
GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.ECANCELED, errno.EIO, errno.ESHUTDOWN, errno.EROFS, errno.EINTR)
SHORT = -1  # what Real.apply answers for a write that was cut by a full disk
libc = ctypes.CDLL(None, use_errno=True)


class Short(Exception):
    """A write(2) that ended early: the kernel sent it in pieces, and the daemon died between them."""

    def __init__(self, done):
        super().__init__(done)
        self.done = done


class Mismatch(AssertionError):
    """The mount does not behave or look as it must."""


def data_of(seed, length):
    return random.Random(seed).randbytes(length)


class Content:
    """Sparse bytes in pages; a page that is missing is zero."""

    def __init__(self):
        self.size, self.pages, self._digest = 0, {}, None

    def write(self, offset, data):
        self._digest = None
        done = 0
        while done < len(data):
            number, start = divmod(offset + done, PAGE)
            n = min(PAGE - start, len(data) - done)
            page = self.pages.setdefault(number, bytearray(PAGE))
            page[start:start + n] = data[done:done + n]
            done += n
        if data:
            self.size = max(self.size, offset + len(data))

    def read(self, offset, length):
        out = bytearray()
        while len(out) < length:
            number, start = divmod(offset + len(out), PAGE)
            n = min(PAGE - start, length - len(out))
            out += self.pages.get(number, ZERO)[start:start + n]
        return bytes(out)

    def zero(self, start, end):
        self._digest = None
        for number in [p for p in self.pages if p * PAGE < end and (p + 1) * PAGE > start]:
            a, b = max(start - number * PAGE, 0), min(end - number * PAGE, PAGE)
            self.pages[number][a:b] = bytes(b - a)

    def resize(self, size):
        if size < self.size:
            self.zero(size, self.size)
        self._digest = None
        self.size = size

    def digest(self):
        if self._digest is None:
            h = hashlib.sha256(str(self.size).encode())
            for number in sorted(self.pages):
                if self.pages[number] != ZERO:
                    h.update(b"%d:" % number + self.pages[number])
            self._digest = h.hexdigest()[:16]
        return self._digest


def file_digest(path):
    """The same figure for a real file."""
    with open(path, "rb", buffering=0) as f:
        return fd_digest(f.fileno())


def fd_digest(fd):
    """Holes are skipped where the file system tells of them."""
    content = Content()
    content.size = os.fstat(fd).st_size
    pos = 0
    while True:
        try:
            pos = os.lseek(fd, pos, os.SEEK_DATA)
            end = os.lseek(fd, pos, os.SEEK_HOLE)
        except OSError as e:
            if e.errno == errno.ENXIO:
                break
            raise
        pos -= pos % PAGE
        while pos < end:
            data = os.pread(fd, 256 * PAGE, pos)
            if not data:
                break
            for i in range(0, len(data), PAGE):
                page = data[i:i + PAGE]
                content.pages[(pos + i) // PAGE] = page if len(page) == PAGE else page + bytes(PAGE - len(page))
            pos += len(data)
        pos = max(pos, end)
        if pos >= content.size:
            break
    return content.digest()


class Inode:
    def __init__(self, kind, mode, now):
        self.kind, self.mode, self.nlink, self.changed = kind, mode, 1, now
        self.xattrs = {}
        self.content = Content() if kind == "file" else None
        self.entries = {} if kind == "dir" else None  # name: [Inode, number of the operation that made the name]
        self.target = None


class Error(Exception):
    pass


class Model:
    """`now` is the number of operations applied; an inode's `changed` and a name's birth are such numbers."""

    def __init__(self):
        self.now = 0
        self.root = Inode("dir", 0o755, 0)
        self.handles = {}  # slot: Inode
        self.seen = None   # what the last hcheck must have found

    def apply(self, op):
        """Carries one operation out: 0 or the errno that POSIX and Linux demand. A failed one changes nothing."""
        self.now += 1
        try:
            getattr(self, "op_" + op[0])(*op[1:])
        except Error as e:
            return e.args[0]
        return 0

    # names

    def walk(self, path):
        """The chain of [Inode, birth] from the root to the path. Symlinks are not followed."""
        chain = [[self.root, 0]]
        for name in filter(None, path.split("/")):
            here = chain[-1][0]
            if here.kind != "dir":
                raise Error(errno.ENOTDIR)
            if name not in here.entries:
                raise Error(errno.ENOENT)
            chain.append(here.entries[name])
        return chain

    def knows(self, op):
        """False when a name on the way of the operation is a symlink: where that leads is not modelled. No workload draws
        such a path, but what is left of one may contain it."""
        paths = {"rename": op[1:3], "link": op[1:3], "symlink": op[2:], "copy": op[1:4:2], "open": op[2:]}
        for path in paths.get(op[0], () if op[0] in ("hwrite", "hcheck", "close", "crash") else op[1:2]):
            here = self.root
            for name in path.split("/")[:-1]:
                here = here.entries[name][0] if here.entries and name in here.entries else None
                if here is None or here.kind == "symlink":
                    break
            if here and here.kind == "symlink":
                return False
        return True

    def find(self, path):
        return self.walk(path)[-1][0]

    def parent(self, path):
        head, _, name = path.rpartition("/")
        d = self.find(head)
        if d.kind != "dir":
            raise Error(errno.ENOTDIR)
        return d, name

    def regular(self, path):
        node = self.find(path)
        if node.kind != "file":
            raise Error(errno.EISDIR if node.kind == "dir" else errno.ELOOP)
        return node

    def add(self, d, name, node):
        d.entries[name] = [node, self.now]
        d.changed = self.now

    def new(self, path, kind, mode):
        d, name = self.parent(path)
        if name in d.entries:
            raise Error(errno.EEXIST)
        node = Inode(kind, mode, self.now)
        self.add(d, name, node)
        return node

    def drop(self, d, name):
        node = d.entries.pop(name)[0]
        node.nlink -= 1
        node.changed = d.changed = self.now

    # operations

    def op_create(self, path, mode):
        self.new(path, "file", mode)

    def op_mkdir(self, path, mode):
        self.new(path, "dir", mode)

    def op_symlink(self, target, path):
        self.new(path, "symlink", 0o777).target = target

    def op_write(self, path, offset, seed, length, part=None):
        node = self.regular(path)
        node.content.write(offset, data_of(seed, length)[:part])
        node.changed = self.now

    def op_append(self, path, seed, length, part=None):
        node = self.regular(path)
        node.content.write(node.content.size, data_of(seed, length)[:part])
        node.changed = self.now

    def op_swrite(self, path, offset, seed, length, part=None):
        self.op_write(path, offset, seed, length, part)

    def op_copy(self, source, source_at, target, target_at, length):
        """The kernel's checks in its order: both files are opened, then the ranges are looked at."""
        src = self.find(source)
        if src.kind == "symlink":
            raise Error(errno.ELOOP)
        dst = self.regular(target)
        if src.kind != "file":
            raise Error(errno.EISDIR)
        n = max(0, min(length, src.content.size - source_at))
        if src is dst and n and source_at < target_at + n and target_at < source_at + n:
            raise Error(errno.EINVAL)
        if n:
            dst.content.write(target_at, src.content.read(source_at, n))
            dst.changed = self.now

    def handle(self, slot):
        if slot not in self.handles:
            raise Error(errno.EBADF)
        return self.handles[slot]

    def op_open(self, slot, path):
        node = self.regular(path)
        self.handles[slot] = node

    def op_hwrite(self, slot, offset, seed, length, part=None):
        node = self.handle(slot)
        node.content.write(offset, data_of(seed, length)[:part])
        node.changed = self.now

    def op_hcheck(self, slot):
        node = self.handle(slot)
        self.seen = (node.nlink, node.content.size, node.content.digest())

    def op_close(self, slot):
        self.handle(slot)
        del self.handles[slot]

    def op_crash(self):
        self.handles.clear()

    def op_truncate(self, path, size):
        node = self.regular(path)
        node.content.resize(size)
        node.changed = self.now

    def op_fallocate(self, path, mode, offset, length):
        node = self.regular(path)
        if mode & (PUNCH_HOLE | ZERO_RANGE):
            node.content.zero(offset, offset + length)
        if not mode & KEEP_SIZE:
            node.content.resize(max(node.content.size, offset + length))
        node.changed = self.now

    def op_chmod(self, path, mode):
        node = self.find(path)
        node.mode = mode
        node.changed = self.now

    def op_unlink(self, path):
        d, name = self.parent(path)
        if name not in d.entries:
            raise Error(errno.ENOENT)
        if d.entries[name][0].kind == "dir":
            raise Error(errno.EISDIR)
        self.drop(d, name)

    def op_rmdir(self, path):
        d, name = self.parent(path)
        if name not in d.entries:
            raise Error(errno.ENOENT)
        if d.entries[name][0].kind != "dir":
            raise Error(errno.ENOTDIR)
        if d.entries[name][0].entries:
            raise Error(errno.ENOTEMPTY)
        self.drop(d, name)

    def op_link(self, old, new):
        node = self.find(old)
        d, name = self.parent(new)
        if name in d.entries:
            raise Error(errno.EEXIST)
        if node.kind == "dir":
            raise Error(errno.EPERM)
        node.nlink += 1
        node.changed = self.now
        self.add(d, name, node)

    def op_rename(self, old, new, flags):
        od, oname = self.parent(old)
        nd, nname = self.parent(new)
        if oname not in od.entries:
            raise Error(errno.ENOENT)
        node = od.entries[oname][0]
        there = nd.entries[nname][0] if nname in nd.entries else None
        if there and flags & NOREPLACE:
            raise Error(errno.EEXIST)
        if not there and flags & EXCHANGE:
            raise Error(errno.ENOENT)
        if (new + "/").startswith(old + "/") and new != old:
            raise Error(errno.EINVAL)
        if (old + "/").startswith(new + "/") and new != old:
            raise Error(errno.EINVAL if flags & EXCHANGE else errno.ENOTEMPTY)
        if there is node:
            return
        if flags & EXCHANGE:
            self.add(od, oname, there)
            self.add(nd, nname, node)
            node.changed = there.changed = self.now
            return
        if there:
            if node.kind == "dir" and there.kind != "dir":
                raise Error(errno.ENOTDIR)
            if node.kind != "dir" and there.kind == "dir":
                raise Error(errno.EISDIR)
            if there.entries:
                raise Error(errno.ENOTEMPTY)
            self.drop(nd, nname)
        del od.entries[oname]
        od.changed = node.changed = self.now
        self.add(nd, nname, node)

    def op_setxattr(self, path, name, value):
        node = self.find(path)
        node.xattrs[name] = value
        node.changed = self.now

    def op_removexattr(self, path, name):
        node = self.find(path)
        if name not in node.xattrs:
            raise Error(errno.ENODATA)
        del node.xattrs[name]
        node.changed = self.now

    def op_fsync(self, path):
        self.regular(path)

    def op_fsyncdir(self, path):
        if self.find(path).kind != "dir":
            raise Error(errno.ENOTDIR)

    def synced_by(self, op):
        """The number of operations that must survive a power cut once this fsync was acknowledged: the last that changed
        the object itself or a name on the way to it."""
        chain = self.walk(op[1])
        return max([chain[-1][0].changed] + [birth for _, birth in chain])

    def covered_by(self, op):
        """The same for any operation, before it is applied; None: it makes nothing durable, or fails."""
        try:
            if op[0] in ("fsync", "fsyncdir"):
                return self.synced_by(op)
            if op[0] == "swrite":
                self.regular(op[1])
                return max(self.synced_by(op), self.now + 1)
        except Error:
            pass
        return None

    def tree(self):
        """{path: what tree_of says of a real one}."""
        out, first = {}, {}

        def visit(path, node):
            group = first.setdefault(id(node), path)
            nlink = 2 + sum(e[0].kind == "dir" for e in node.entries.values()) if node.kind == "dir" else node.nlink
            value = {"file": lambda: node.content.digest(), "dir": lambda: None, "symlink": lambda: node.target}[node.kind]()
            size = node.content.size if node.kind == "file" else None
            out[path] = (node.kind, node.mode, nlink, size, value, tuple(sorted(node.xattrs.items())), group)
            if node.kind == "dir":
                for name in sorted(node.entries):
                    visit(path + "/" + name, node.entries[name][0])
        visit("", self.root)
        return out


def tree_of(directory, skip=("lost+found",)):
    """{path: (kind, mode, nlink, size, digest or target, xattrs, first path of the same inode)}. The root's own mode and
    what the file system put there (skip, .stats and the like are not listed) do not count."""
    out, first = {}, {}

    def visit(path):
        full = directory + path
        st = os.lstat(full)
        kind = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink"}.get(stat.S_IFMT(st.st_mode), "other")
        group = first.setdefault(st.st_ino, path)
        value = file_digest(full) if kind == "file" else os.readlink(full) if kind == "symlink" else None
        xattrs = ()
        if kind in ("file", "dir"):
            names = [n for n in list_xattrs(full) if n.startswith("user.")]
            xattrs = tuple(sorted((n, os.getxattr(full, n)) for n in names))
        mode = 0o755 if not path else stat.S_IMODE(st.st_mode)
        nlink = st.st_nlink - (not path and any(os.path.isdir(os.path.join(directory, s)) for s in skip))
        out[path] = (kind, mode, nlink, st.st_size if kind == "file" else None, value, xattrs, group)
        if kind == "dir":
            for name in sorted(os.listdir(full)):
                if path or name not in skip:
                    visit(path + "/" + name)
    visit("")
    return out


def list_xattrs(path):
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError as e:
        if e.errno == errno.ENOTSUP:
            return []
        raise


def tree_diff(found, expected):
    """The differences, one line each, in the order of the paths."""
    lines = []
    for path in sorted(found.keys() | expected.keys()):
        if found.get(path) != expected.get(path):
            lines.append(f"{path or '/'}: found {found.get(path)}, expected {expected.get(path)}")
    return lines


class Real:
    """The same operations on a directory of a real file system."""

    def __init__(self, directory):
        self.directory = directory
        self.handles = {}  # slot: descriptor
        self.part = self.copied = 0
        self.bad_disk = None  # History.bad_disk
        self.seen = None

    def close(self):
        """Gives all handles up, as the end of a mount or of a process does."""
        for fd in self.handles.values():
            with contextlib.suppress(OSError):
                os.close(fd)
        self.handles.clear()

    def path(self, path):
        return self.directory + "/" + path

    def apply(self, op):
        self.part = 0
        try:
            getattr(self, "op_" + op[0])(*op[1:])
        except Short as e:
            self.part = e.done
            if self.bad_disk:
                return SHORT if self.bad_disk == "full" else errno.ENOTCONN
            with contextlib.suppress(OSError):
                os.statvfs(self.directory)  # never answered from the kernel's caches
                raise Mismatch(f"{op} took {e.done} bytes") from None
            return errno.ENOTCONN
        except OSError as e:
            return e.errno
        return 0

    def with_fd(self, path, flags, call, mode=0o644):
        fd = os.open(self.path(path), flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            call(fd)
        finally:
            os.close(fd)

    def pwrite(self, fd, offset, data):
        whole(os.pwrite(fd, data, offset), len(data))

    def op_create(self, path, mode):
        self.with_fd(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, lambda fd: None, mode)

    def op_write(self, path, offset, seed, length, part=None):
        self.with_fd(path, os.O_WRONLY, lambda fd: self.pwrite(fd, offset, data_of(seed, length)[:part]))

    def op_swrite(self, path, offset, seed, length, part=None):
        self.with_fd(path, os.O_WRONLY | os.O_SYNC,
                     lambda fd: self.pwrite(fd, offset, data_of(seed, length)[:part]))

    def op_copy(self, source, source_at, target, target_at, length):
        def copy(src):
            self.with_fd(target, os.O_WRONLY, lambda dst: self.copy(src, dst, length, source_at, target_at))
        self.with_fd(source, os.O_RDONLY, copy)

    def copy(self, src, dst, length, source_at, target_at):
        self.copied = os.copy_file_range(src, dst, length, source_at, target_at)

    def handle(self, slot):
        if slot not in self.handles:
            raise OSError(errno.EBADF, "no such handle")
        return self.handles[slot]

    def op_open(self, slot, path):
        fd = os.open(self.path(path), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        old, self.handles[slot] = self.handles.get(slot), fd
        if old is not None:
            os.close(old)

    def op_hwrite(self, slot, offset, seed, length, part=None):
        self.pwrite(self.handle(slot), offset, data_of(seed, length)[:part])

    def op_hcheck(self, slot):
        st = os.fstat(self.handle(slot))
        self.seen = (st.st_nlink, st.st_size, fd_digest(self.handle(slot)))

    def op_close(self, slot):
        os.close(self.handle(slot))
        del self.handles[slot]

    def op_crash(self):
        self.close()

    def op_append(self, path, seed, length, part=None):
        data = data_of(seed, length)[:part]
        self.with_fd(path, os.O_WRONLY | os.O_APPEND,
                     lambda fd: whole(os.write(fd, data), len(data)))

    def op_truncate(self, path, size):
        self.with_fd(path, os.O_WRONLY, lambda fd: os.ftruncate(fd, size))

    def op_fallocate(self, path, mode, offset, length):
        self.with_fd(path, os.O_WRONLY, lambda fd: libc_call("fallocate", fd, mode, ctypes.c_long(offset),
                                                             ctypes.c_long(length)))

    def op_chmod(self, path, mode):
        os.chmod(self.path(path), mode)

    def op_mkdir(self, path, mode):
        os.mkdir(self.path(path), mode)

    def op_rmdir(self, path):
        os.rmdir(self.path(path))

    def op_unlink(self, path):
        os.unlink(self.path(path))

    def op_symlink(self, target, path):
        os.symlink(target, self.path(path))

    def op_link(self, old, new):
        os.link(self.path(old), self.path(new), follow_symlinks=False)

    def op_rename(self, old, new, flags):
        at = ctypes.c_int(-100)  # AT_FDCWD
        libc_call("renameat2", at, os.fsencode(self.path(old)), at, os.fsencode(self.path(new)), ctypes.c_uint(flags))

    def op_setxattr(self, path, name, value):
        os.setxattr(self.path(path), name, value)

    def op_removexattr(self, path, name):
        os.removexattr(self.path(path), name)

    def op_fsync(self, path):
        self.with_fd(path, os.O_WRONLY, os.fsync)

    def op_fsyncdir(self, path):
        self.with_fd(path, os.O_RDONLY | os.O_DIRECTORY, os.fsync)


def whole(done, length):
    if done != length:
        raise Short(done)


def libc_call(name, *args):
    if getattr(libc, name)(*args) != 0:
        raise OSError(ctypes.get_errno(), name)


class Workload:
    """Draws operations that fit the model's state, and now and then one that must fail."""

    WEIGHTS = {"create": 12, "write": 14, "append": 8, "truncate": 6, "fallocate": 5, "chmod": 2, "mkdir": 5, "rmdir": 3,
               "unlink": 7, "symlink": 2, "link": 4, "rename": 10, "setxattr": 4, "removexattr": 2, "fsync": 3,
               "fsyncdir": 2, "swrite": 2, "copy": 5, "open": 3, "hwrite": 4, "hcheck": 2, "close": 2}
    SLOTS = 3
    NAMES = list(string.ascii_lowercase[:8]) + ["name with blanks", "x" * 200, "ünïcode"]
    # The interesting borders: pages, blocks of staging, a JuiceFS block and a chunk (the last one rarely).
    BORDERS = (0, 1, 100, 4096, 8192, 65536, 131072)
    FAR_BORDERS = (4 << 20, 64 << 20)

    def __init__(self, rng, features=ALL_FEATURES, max_files=60):
        self.rng, self.features, self.max_files = rng, features, max_files
        self.weights = dict(self.WEIGHTS)
        for need, ops in (("xattr", ("setxattr", "removexattr")), ("fallocate", ("fallocate",)), ("link", ("link",)),
                          ("symlink", ("symlink",)), ("fsync", ("fsync", "fsyncdir", "swrite")), ("copy", ("copy",)),
                          ("handles", ("open", "hwrite", "hcheck", "close"))):
            if need not in features:
                for op in ops:
                    self.weights[op] = 0

    def scan(self, model):
        """Paths by kind; a file or symlink counts once for each of its names."""
        self.paths = {"dir": [""], "file": [], "symlink": []}

        def visit(prefix, node):
            for name, (child, _) in node.entries.items():
                path = prefix + name
                self.paths[child.kind].append(path)
                if child.kind == "dir":
                    visit(path + "/", child)
        visit("", model.root)

    def pick(self, *kinds):
        """Mostly a path of one of these kinds; sometimes of any kind, or a new one."""
        if self.rng.random() < 0.06:
            kinds = ("dir", "file", "symlink")
        found = [p for k in kinds for p in self.paths[k] if p]
        return self.rng.choice(found) if found and self.rng.random() > 0.03 else self.fresh()

    def fresh(self):
        parents = [p for p in self.paths["dir"] if p.count("/") < 3]
        if self.rng.random() < 0.03 and self.paths["file"]:
            parents = self.paths["file"]  # ENOTDIR
        parent = self.rng.choice(parents)
        return (parent + "/" if parent else "") + self.rng.choice(self.NAMES)

    def position(self):
        if self.rng.random() < 0.01:
            return max(0, self.rng.choice(self.FAR_BORDERS) + self.rng.randint(-5000, 5000))
        return max(0, self.rng.choice(self.BORDERS) + self.rng.randint(-300, 300) * self.rng.randint(0, 3))

    def length(self):
        return self.rng.choice((1, 10, 1000, 4096, 5000, 40000, 131072)) + self.rng.randint(0, 3)

    def next(self, model):
        self.scan(model)
        self.open_slots = sorted(model.handles)
        name = self.rng.choices(list(self.weights), list(self.weights.values()))[0]
        if name in ("hwrite", "hcheck", "close") and not self.open_slots:
            name = "open"
        if name in ("create", "mkdir", "link", "symlink") and sum(map(len, self.paths.values())) > self.max_files:
            name = self.rng.choice(("unlink", "rmdir"))
        return (name, *getattr(self, "args_" + name)())

    def pick_no_symlink(self):
        """For calls that would follow a symlink: never one of those."""
        found = self.paths["file"] + [p for p in self.paths["dir"] if p]
        return self.rng.choice(found) if found else "nothing-here"

    def args_create(self):
        return self.fresh(), self.rng.choice((0o644, 0o600, 0o755))

    def args_mkdir(self):
        return self.fresh(), self.rng.choice((0o755, 0o700))

    def args_symlink(self):
        return self.rng.choice(("a", "../b", "/nowhere", "t" * 300)), self.fresh()

    def args_write(self):
        return self.pick("file"), self.position(), self.rng.getrandbits(32), self.length()

    args_swrite = args_write

    def args_copy(self):
        return self.pick("file"), self.position(), self.pick("file"), self.position(), self.length()

    def args_open(self):
        return self.rng.randrange(self.SLOTS), self.pick("file")

    def args_hwrite(self):
        return self.rng.choice(self.open_slots), self.position(), self.rng.getrandbits(32), self.length()

    def args_hcheck(self):
        return (self.rng.choice(self.open_slots),)

    args_close = args_hcheck

    def args_append(self):
        return self.pick("file"), self.rng.getrandbits(32), self.length()

    def args_truncate(self):
        return self.pick("file"), self.rng.choice((0, self.position()))

    def args_fallocate(self):
        mode = self.rng.choice((0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE,
                                ZERO_RANGE | KEEP_SIZE))
        return self.pick("file"), mode, self.position(), self.length()

    def args_chmod(self):
        return self.pick_no_symlink(), self.rng.choice((0o600, 0o640, 0o755, 0o777))

    def args_unlink(self):
        return (self.pick("file", "symlink"),)

    def args_rmdir(self):
        return (self.pick("dir"),)

    def args_link(self):
        return self.pick("file", "symlink"), self.fresh()

    def args_rename(self):
        old = self.pick("file", "file", "dir", "symlink")
        new = self.fresh() if self.rng.random() < 0.4 else self.pick("file", "dir")
        flags = self.rng.choices((0, NOREPLACE, EXCHANGE), (6, 1, 2 if "exchange" in self.features else 0))[0]
        return old, new, flags

    def args_setxattr(self):
        value = self.rng.randbytes(self.rng.choice((0, 1, 20, 150)))
        return self.pick_no_symlink(), "user." + self.rng.choice("abcd"), value

    def args_removexattr(self):
        return self.pick_no_symlink(), "user." + self.rng.choice("abcd")

    def args_fsync(self):
        return (self.pick("file"),)

    def args_fsyncdir(self):
        return (self.rng.choice(self.paths["dir"]),)


class History:
    """A workload in progress: what was acknowledged (`ops`, failed ones included, since a mount must also agree that they
    fail; `times`, when each was asked for and answered), what was `in_flight` when the mount went away, and how many of
    `ops` are known to be `synced`. `program`: these operations instead of drawn ones."""

    def __init__(self, seed, features=ALL_FEATURES, max_files=60, program=None):
        self.seed = seed
        self.workload = Workload(random.Random(seed), features, max_files)
        self.program = None if program is None else list(program)
        self.model = Model()
        self.ops, self.in_flight, self.in_flight_part, self.synced = [], None, 0, 0
        self.times, self.asked = [], 0
        self.real = None
        # "full": ENOSPC is an answer, and a write may be short; "dying": the mount may turn read-only within a write
        self.bad_disk, self.refused = None, 0

    def next_op(self):
        if self.program is None:
            return self.workload.next(self.model)
        return self.program.pop(0) if self.program else None

    def run(self, directory, count, on_ack=None):
        """Runs up to `count` operations; True if all were answered, False if the mount went away (in_flight is set).
        on_ack(history) is called after each; it may kill something, or write history.synced to a power-cut mark."""
        if self.real is None or self.real.directory != directory:
            self.real = Real(directory)
        os.umask(0)
        for _ in range(count):
            op = self.next_op()
            if op is None:
                return True
            if not self.step(op):
                return False
            if on_ack:
                on_ack(self)
        return True

    def step(self, op):
        covered = self.model.covered_by(op)
        self.asked = time.monotonic_ns()
        self.real.bad_disk = self.bad_disk
        got = self.real.apply(op)
        if self.bad_disk == "full" and got == errno.ENOSPC:
            self.refused += 1
            return True
        if got == SHORT:
            op, got = (*op, self.real.part), 0
        if got in GONE:
            self.in_flight, self.in_flight_part = op, self.real.part
            return False
        if op[0] == "copy" and got == 0 and 0 < self.real.copied < op[-1]:
            op = (*op[:-1], self.real.copied)  # it may be short; what it says it copied is what counts
        expected = self.model.apply(op)
        if got != expected:
            raise Mismatch(f"seed {self.seed}, operation {len(self.ops) + 1} {op}: "
                           f"{name_of(got)}, expected {name_of(expected)}")
        if op[0] == "hcheck" and got == 0 and self.real.seen != self.model.seen:
            raise Mismatch(f"seed {self.seed}, operation {len(self.ops) + 1} {op}: found {self.real.seen}, "
                           f"expected {self.model.seen}")
        self.ops.append(op)
        self.times.append((self.asked, time.monotonic_ns()))
        if covered is not None and expected == 0:
            self.synced = max(self.synced, covered)
        return True

    def note(self, op):
        """An operation that is known to have happened without an answer."""
        self.model.apply(op)
        self.ops.append(op)
        self.times.append((self.asked, time.monotonic_ns()))

    def state_after(self, count):
        model = Model()
        for op in self.ops[:count]:
            model.apply(op)
        return model

    def check_live(self, directory):
        self.demand(tree_diff(tree_of(directory), self.model.tree()), "the mount differs from the model")

    def check_exact(self, found):
        """All acknowledged operations, and the one in flight done or not done (P1). Returns what was done of it, or None."""
        diff = tree_diff(found, self.model.tree())
        if not diff and not self.in_flight_part:
            return None
        for op in outcomes(self.in_flight, self.model, self.in_flight_part):
            after = copy.deepcopy(self.model)
            after.apply(op)
            if not tree_diff(found, after.tree()):
                return op
        raise Mismatch(f"seed {self.seed}, {len(self.ops)} operations: not the acknowledged state (in flight: "
                       f"{self.in_flight}, of which {self.in_flight_part} bytes acknowledged):\n  " + "\n  ".join(diff[:20]))

    def resume(self, found):
        """check_exact, and goes on from there: the operation in flight counts as done or never asked for."""
        done = self.check_exact(found)
        if done:
            self.note(done)
        self.in_flight, self.in_flight_part = None, 0
        if self.real and self.real.handles or self.model.handles:
            self.note(("crash",))
            self.real.close()

    def check_prefix(self, found, at_least=None):
        """The state after some prefix of at least `at_least` operations (default: all that are known as synced). Returns
        the length of the longest such prefix."""
        at_least = self.synced if at_least is None else at_least
        lengths = self.prefixes(found)
        if max(lengths) < at_least:
            raise Mismatch(f"seed {self.seed}: only the first {max(lengths)} operations survived, {at_least} were synced")
        return max(lengths)

    def prefixes(self, found):
        """The lengths of all prefixes of the history that lead to `found`, at least one. A write that was cut between two
        of its pieces counts as not done."""
        model, lengths, nearest = Model(), [], None
        history = self.ops + ([self.in_flight] if self.in_flight else [])
        for count in range(len(history) + 1):
            if count:
                model.apply(history[count - 1])
            diff = tree_diff(found, model.tree())
            if not diff or (count < len(history) and self.is_cut(found, diff, model, history[count])):
                lengths.append(count)
            if nearest is None or len(diff) < len(nearest[1]):
                nearest = (count, diff)
        if not lengths:
            self.demand(nearest[1], f"no prefix of the history; nearest: the first {nearest[0]} operations")
        return lengths

    def is_cut(self, found, diff, model, op):
        """Is `found` the state in which a power cut left the write `op`, between two of its pieces?"""
        if op[0] not in WRITES or len({found.get(line.split(": found ")[0], (0,) * 7)[6] for line in diff}) != 1:
            return False
        for piece in outcomes(op, model):
            after = copy.deepcopy(model)
            after.apply(piece)
            if not tree_diff(found, after.tree()):
                return True
        return False

    def demand(self, diff, what):
        if diff:
            raise Mismatch(f"seed {self.seed}, {len(self.ops)} operations: {what}:\n  " + "\n  ".join(diff[:20]))


def outcomes(op, model, at_least=0):
    """An operation that a crash may have cut, on top of `model`: whole or, of a write, as many of the kernel's pieces as
    were carried out, at least so many bytes. The pieces end at borders of pages."""
    if not op:
        return
    yield op
    if op[0] in WRITES:
        try:
            size = (model.handle if op[0] == "hwrite" else model.regular)(op[1]).content.size
        except Error:
            return
        at = size if op[0] == "append" else op[2]
        for part in range(-at % 4096 or 4096, op[-1], 4096):
            if part >= at_least:
                yield (*op, part)


def name_of(code):
    return errno.errorcode.get(code, str(code)) if code else "success"
