"""An in-memory POSIX file system, a seeded workload, and the comparison with what a real mount shows.

Every operation is one tuple and changes the tree by at most one system call, so that a crash leaves it done or not done:

    ("create", path, mode)            ("write", path, offset, seed, length)     ("append", path, seed, length)
    ("truncate", path, size)          ("fallocate", path, mode, offset, length) ("chmod", path, mode)
    ("mkdir", path, mode)             ("rmdir", path)                           ("unlink", path)
    ("symlink", target, path)         ("link", old, new)                        ("rename", old, new, flags)
    ("setxattr", path, name, value)   ("removexattr", path, name)
    ("fsync", path)                   ("fsyncdir", path)

Model.apply and Real.apply both answer 0 or the errno. A History holds what was acknowledged:

    history = History(seed)
    history.run(directory, 500)                 # raises Mismatch when the mount answers otherwise than POSIX
    history.check_exact(tree_of(directory))     # all of it, and possibly the one operation that was in flight
    history.check_prefix(tree_of(directory))    # some prefix that contains everything synced (P2, P3)

What is not modelled: times, owners, open handles, and more than one writer.
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

PAGE = 4096
ZERO = bytes(PAGE)
NOREPLACE, EXCHANGE = 1, 2
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
ALL_FEATURES = frozenset(("xattr", "exchange", "fallocate", "link", "symlink", "fsync"))
# What a mount answers once its daemon is gone: the operation is in flight, not failed.
GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ESHUTDOWN, errno.EROFS)
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
    """The same figure for a real file. Holes are skipped where the file system tells of them."""
    content = Content()
    with open(path, "rb", buffering=0) as f:
        fd = f.fileno()
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

    def path(self, path):
        return self.directory + "/" + path

    def apply(self, op):
        self.part = 0
        try:
            getattr(self, "op_" + op[0])(*op[1:])
        except Short as e:
            self.part = e.done
            with contextlib.suppress(OSError):
                os.statvfs(self.directory)  # never answered from the kernel's caches
                raise Mismatch(f"a write took {e.done} bytes: {op}") from None
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

    def op_create(self, path, mode):
        self.with_fd(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, lambda fd: None, mode)

    def op_write(self, path, offset, seed, length):
        self.with_fd(path, os.O_WRONLY, lambda fd: whole(os.pwrite(fd, data_of(seed, length), offset), length))

    def op_append(self, path, seed, length):
        self.with_fd(path, os.O_WRONLY | os.O_APPEND, lambda fd: whole(os.write(fd, data_of(seed, length)), length))

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
               "fsyncdir": 2}
    NAMES = list(string.ascii_lowercase[:8]) + ["name with blanks", "x" * 200, "ünïcode"]
    # The interesting borders: pages, blocks of staging, a JuiceFS block and a chunk (the last one rarely).
    BORDERS = (0, 1, 100, 4096, 8192, 65536, 131072)
    FAR_BORDERS = (4 << 20, 64 << 20)

    def __init__(self, rng, features=ALL_FEATURES, max_files=60):
        self.rng, self.features, self.max_files = rng, features, max_files
        self.weights = dict(self.WEIGHTS)
        for need, ops in (("xattr", ("setxattr", "removexattr")), ("fallocate", ("fallocate",)), ("link", ("link",)),
                          ("symlink", ("symlink",)), ("fsync", ("fsync", "fsyncdir"))):
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
        name = self.rng.choices(list(self.weights), list(self.weights.values()))[0]
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
    fail), what was `in_flight` when the mount went away, and how many of `ops` are known to be `synced`."""

    def __init__(self, seed, features=ALL_FEATURES, max_files=60):
        self.seed = seed
        self.workload = Workload(random.Random(seed), features, max_files)
        self.model = Model()
        self.ops, self.in_flight, self.in_flight_part, self.synced = [], None, 0, 0

    def run(self, directory, count, on_ack=None):
        """Runs up to `count` operations; True if all were answered, False if the mount went away (in_flight is set).
        on_ack(history) is called after each; it may kill something, or write history.synced to a power-cut mark."""
        real = Real(directory)
        os.umask(0)
        for _ in range(count):
            op = self.workload.next(self.model)
            expected_model = copy_for(self.model, op)
            got = real.apply(op)
            if got in GONE:
                self.in_flight, self.in_flight_part = op, real.part
                return False
            expected = self.model.apply(op)
            if got != expected:
                raise Mismatch(f"seed {self.seed}, operation {len(self.ops) + 1} {op}: "
                               f"{name_of(got)}, expected {name_of(expected)}")
            self.ops.append(op)
            if expected_model is not None and expected == 0:
                self.synced = max(self.synced, expected_model)
            if on_ack:
                on_ack(self)
        return True

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
            self.model.apply(done)
            self.ops.append(done)
        self.in_flight, self.in_flight_part = None, 0

    def check_prefix(self, found, at_least=None):
        """The state after some prefix of at least `at_least` operations (default: all that are known as synced). Returns
        the length of the longest such prefix."""
        at_least = self.synced if at_least is None else at_least
        model, best, nearest = Model(), None, None
        history = self.ops + ([self.in_flight] if self.in_flight else [])
        for count in range(len(history) + 1):
            if count:
                model.apply(history[count - 1])
            diff = tree_diff(found, model.tree())
            if not diff or (count < len(history) and self.is_cut(found, diff, model, history[count])):
                best = count
            if nearest is None or len(diff) < len(nearest[1]):
                nearest = (count, diff)
        if best is None:
            self.demand(nearest[1], f"no prefix of the history; nearest: the first {nearest[0]} operations")
        if best < at_least:
            raise Mismatch(f"seed {self.seed}: only the first {best} operations survived, {at_least} were synced")
        return best

    def is_cut(self, found, diff, model, op):
        """Is `found` the state in which a power cut left the write `op`, between two of its pieces?"""
        if op[0] not in ("write", "append") or len({found.get("/" + op[1], (0,) * 7)[6]} | {found.get(
                line.split(":")[0], (0,) * 7)[6] for line in diff}) != 1:
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
    if op[0] in ("write", "append"):
        try:
            size = model.regular(op[1]).content.size
        except Error:
            return
        at = op[2] if op[0] == "write" else size
        for part in range(-at % 4096 or 4096, op[-1], 4096):
            if part >= at_least:
                yield (*op, part)


def copy_for(model, op):
    """What an fsync that is about to be issued makes durable (see Model.synced_by); None for other operations."""
    if op[0] not in ("fsync", "fsyncdir"):
        return None
    try:
        return model.synced_by(op)
    except Error:
        return None


def name_of(code):
    return errno.errorcode.get(code, str(code)) if code else "success"
