"""Extended attributes: values of all sizes, names, flags, lists, namespaces and rights."""
import ctypes
import os

from base import *  # noqa: F401,F403


@check
def bad_paths(p):
    path_errors(p, lambda path: os.getxattr(path, "user.x"))


@check
def set_get_list_remove(p):
    for kind in ("file", "folder"):
        path = p.node(kind)
        same(os.listxattr(path), [])
        fails(ENODATA, os.getxattr, path, "user.a")
        for n, value in enumerate((b"", b"x", b"\0", bytes(range(256)), b"v" * 2000)):
            os.setxattr(path, f"user.{n}", value)
            same(os.getxattr(path, f"user.{n}"), value)
        same(sorted(os.listxattr(path)), [f"user.{n}" for n in range(5)])
        os.setxattr(path, "user.4", b"short")
        same(os.getxattr(path, "user.4"), b"short")
        os.removexattr(path, "user.0")
        fails(ENODATA, os.removexattr, path, "user.0")
        fails(ENODATA, os.getxattr, path, "user.0")
        same(sorted(os.listxattr(path)), [f"user.{n}" for n in range(1, 5)])


@check
def flags(p):
    path = p.file()
    fails(ENODATA, os.setxattr, path, "user.a", b"1", os.XATTR_REPLACE)
    os.setxattr(path, "user.a", b"1", os.XATTR_CREATE)
    fails(EEXIST, os.setxattr, path, "user.a", b"2", os.XATTR_CREATE)
    os.setxattr(path, "user.a", b"3", os.XATTR_REPLACE)
    fails(EINVAL, os.setxattr, path, "user.a", b"4", 128)
    same(os.getxattr(path, "user.a"), b"3")


@check
def names(p):
    path = p.file()
    long = "user." + "n" * 250
    os.setxattr(path, long, b"long")
    same(os.getxattr(path, long), b"long")
    fails(ERANGE, os.setxattr, path, long + "n", b"")
    os.setxattr(path, b"user.\xff\xfe \n", b"bytes")
    same(os.getxattr(path, b"user.\xff\xfe \n"), b"bytes")


@check
def buffers_too_small(p):
    path = p.file()
    os.setxattr(path, "user.a", b"0123456789")
    buffer = ctypes.create_string_buffer(100)
    same(call("getxattr", path, "user.a", None, 0), 10)
    same(call("getxattr", path, "user.a", buffer, 10), 10)
    fails(ERANGE, call, "getxattr", path, "user.a", buffer, 9)
    same(call("listxattr", path, None, 0), 7)
    fails(ERANGE, call, "listxattr", path, buffer, 6)


@check
def only_ctime_moves(p):
    path = p.file()
    with stamps(path, moved="c", kept="am"):
        os.setxattr(path, "user.a", b"1")
    with stamps(path, kept="amc"):
        os.getxattr(path, "user.a")
        os.listxattr(path)
    with stamps(path, moved="c", kept="am"):
        os.removexattr(path, "user.a")


@check
def belong_to_the_inode(p):
    path = p.file()
    os.setxattr(path, "user.a", b"1")
    os.link(path, p("g"))
    os.rename(path, p("h"))
    same((os.getxattr(p("g"), "user.a"), os.getxattr(p("h"), "user.a")), (b"1", b"1"))
    with opened(p("g")) as fd:
        os.unlink(p("g"))
        os.unlink(p("h"))
        os.setxattr(fd, "user.b", b"2")
        same(sorted(os.listxattr(fd)), ["user.a", "user.b"])
    p.file()
    same(os.listxattr(path), [])


@check
def of_user_namespace_follow_the_mode(p):
    path = p.file("f", b"", 0o644, A)
    os.setxattr(path, "user.a", b"1")
    with user(B):
        same(os.getxattr(path, "user.a"), b"1")
        fails(EACCES, os.setxattr, path, "user.a", b"2")
        fails(EACCES, os.removexattr, path, "user.a")
    os.chmod(path, 0o600)
    with user(B):
        fails(EACCES, os.getxattr, path, "user.a")
    with user(A):
        os.setxattr(path, "user.a", b"3")
    for kind in ("fifo", "socket", "char", "block", "symlink"):
        fails((EPERM, EOPNOTSUPP), os.setxattr, p.node(kind), "user.a", b"1", follow_symlinks=False)
    folder = p.folder("sticky", 0o1777, A)
    with user(B):
        fails(EPERM, os.setxattr, folder, "user.a", b"1")
    with user(A):
        os.setxattr(folder, "user.a", b"1")


@check
def trusted_ones_are_for_root(p):
    path = p.file("f", b"", 0o666, A)
    os.setxattr(path, "trusted.a", b"1")
    same(os.getxattr(path, "trusted.a"), b"1")
    with user(A):
        fails((ENODATA, EPERM), os.getxattr, path, "trusted.a")
        fails(EPERM, os.setxattr, path, "trusted.a", b"2")
        fails(EPERM, os.removexattr, path, "trusted.a")
    same(os.getxattr(path, "trusted.a"), b"1")
    os.symlink("f", p("l"))
    os.setxattr(p("l"), "trusted.l", b"link", follow_symlinks=False)
    same(os.getxattr(p("l"), "trusted.l", follow_symlinks=False), b"link")


@check
def security_ones(p):
    path = p.file("f", b"", 0o755, A)
    os.setxattr(path, "security.something", b"1")
    with user(B):
        same(os.getxattr(path, "security.something"), b"1")
        fails(EPERM, os.setxattr, path, "security.something", b"2")


@check
def capabilities_go_with_a_write(p):
    path = p.file("f", b"text", 0o755)
    cap = (2 << 24 | 1).to_bytes(4, "little") + (1 << 10).to_bytes(4, "little") + b"\0" * 12
    for step in (lambda fd: os.pwrite(fd, b"x", 0), lambda fd: os.ftruncate(fd, 1), lambda fd: os.fchown(fd, A, A)):
        os.setxattr(path, "security.capability", cap)
        same(os.getxattr(path, "security.capability"), cap)
        with opened(path) as fd:
            step(fd)
        fails(ENODATA, os.getxattr, path, "security.capability")


@check(only="jfs")
def to_the_limits(p):
    path = p.file()
    for n in (65535, 65536):
        value = p.rng.randbytes(n)
        os.setxattr(path, "user.big", value)
        same(os.getxattr(path, "user.big") == value, True)
    fails(E2BIG, os.setxattr, path, "user.big", b"x" * 65537)
    for n in range(200):
        os.setxattr(path, f"user.many-{n}", b"%d" % n)
    same(len(os.listxattr(path)), 201)
    for n in range(250):
        os.setxattr(path, f"user.{n:03}" + "n" * 247, b"")
    # The list of all names has grown beyond what the kernel takes: its own limit.
    for n in range(250):
        os.removexattr(path, f"user.{n:03}" + "n" * 247)
    same(len(os.listxattr(path)), 201)
