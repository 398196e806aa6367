"""mknod: devices, sockets, pipes and plain files without opening them."""
import os
import socket
import stat

from base import *  # noqa: F401,F403


@check
def bad_paths(p):
    path_errors(p, lambda path: os.mknod(path, stat.S_IFREG | 0o644), last=False)


@check
def rules_of_creation(p):
    creation_rules(p, lambda path: os.mknod(path, stat.S_IFIFO | 0o644))


@check
def every_kind(p):
    with umask(0o022):
        for n, kind in enumerate((stat.S_IFREG, 0, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)):
            os.mknod(p(str(n)), kind | 0o666, os.makedev(7, 300) if n >= 4 else 0)
            st = os.lstat(p(str(n)))
            same((stat.S_IFMT(st.st_mode), mode(p(str(n)))), (kind or stat.S_IFREG, 0o644))
            same(st.st_rdev, os.makedev(7, 300) if n >= 4 else 0)
    fails((EPERM, EINVAL), os.mknod, p("d"), stat.S_IFDIR | 0o755)
    fails(EINVAL, os.mknod, p("l"), stat.S_IFLNK | 0o755)


@check
def device_numbers_of_all_sizes(p):
    for major, minor in ((0, 0), (1, 3), (255, 255), (256, 256), (4095, 1048575)):
        os.mknod(p(f"{major}-{minor}"), stat.S_IFCHR | 0o600, os.makedev(major, minor))
        dev = os.lstat(p(f"{major}-{minor}")).st_rdev
        same((os.major(dev), os.minor(dev)), (major, minor))


@check
def devices_are_for_root(p):
    p.folder("mine", 0o755, A)
    with user(A):
        for kind in (stat.S_IFCHR, stat.S_IFBLK):
            fails(EPERM, os.mknod, p("mine/x"), kind | 0o600, os.makedev(1, 3))
        os.mknod(p("mine/fifo"), stat.S_IFIFO | 0o600)
        os.mknod(p("mine/socket"), stat.S_IFSOCK | 0o600)
        os.mknod(p("mine/file"), stat.S_IFREG | 0o600)
    same(sorted(os.listdir(p("mine"))), ["fifo", "file", "socket"])


@check
def devices_work(p):
    os.mknod(p("zero"), stat.S_IFCHR | 0o666, os.makedev(1, 5))
    with opened(p("zero"), os.O_RDONLY) as fd:
        same(os.read(fd, 5), b"\0" * 5)


@check
def sockets_work(p):
    os.chdir(p())
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("s")
        same(stat.S_ISSOCK(os.lstat("s").st_mode), True)
        server.listen()
        client.connect("s")
        client.send(b"hello")
        peer, _ = server.accept()
        with peer:
            same(peer.recv(10), b"hello")
    fails(ENXIO, os.open, "s", os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as again:
        fails(EADDRINUSE, again.bind, "s")


@check
def times(p):
    p.folder()
    with stamps(p("d"), moved="mc"):
        os.mknod(p("d/x"), stat.S_IFIFO | 0o600)
    st = os.lstat(p("d/x"))
    assert st.st_atime_ns == st.st_mtime_ns == st.st_ctime_ns >= os.stat(p("d")).st_mtime_ns - 10**7
