"""open: flags, rights, what O_CREAT makes, what O_TRUNC takes, and descriptors that outlive names."""
import os
import stat

from base import *  # noqa: F401,F403

CREATE = os.O_CREAT | os.O_WRONLY


def just_open(path, flags=os.O_RDONLY, bits=0o644):
    os.close(os.open(path, flags, bits))


@check
def bad_paths(p):
    path_errors(p, just_open)


@check
def bad_paths_of_creation(p):
    path_errors(p, lambda path: just_open(path, CREATE))


@check
def rules_of_creation(p):
    creation_rules(p, lambda path: just_open(path, CREATE | os.O_EXCL))


@check
def what_is_made(p):
    with umask(0o027), stamps(p(), moved="mc", kept="a"):
        just_open(p("f"), CREATE, 0o666)
    st = os.stat(p("f"))
    same((stat.S_ISREG(st.st_mode), mode(p("f")), st.st_size, st.st_nlink, st.st_blocks), (True, 0o640, 0, 1, 0))
    same(st.st_atime_ns, st.st_mtime_ns)
    with umask(0):
        for bits in (0o777, 0o4711, 0o1600):
            just_open(p(f"{bits:o}"), CREATE, bits)
            same(mode(p(f"{bits:o}")), bits)
    with opened(p("no-rights"), os.O_CREAT | os.O_RDWR, 0) as fd:
        os.write(fd, b"the first descriptor may all the same")
    same(mode(p("no-rights")), 0)


@check
def creating_what_exists(p):
    path = p.file("f", b"text", 0o644)
    with stamps(path, kept="amc"), stamps(p(), kept="mc"):
        just_open(path, CREATE, 0o777)
    same((mode(path), read(path)), (0o644, b"text"))
    os.symlink("new", p("l"))
    fails(EEXIST, just_open, p("l"), CREATE | os.O_EXCL)
    just_open(p("l"), CREATE)
    same(os.path.isfile(p("new")), True, "O_CREAT follows a dangling symlink")


@check
def truncating(p):
    path = p.file("f", b"text")
    with stamps(path, moved="mc"), stamps(p(), kept="mc"):
        just_open(path, os.O_WRONLY | os.O_TRUNC)
    same(os.stat(path).st_size, 0)
    with stamps(path, moved="mc"):
        just_open(path, os.O_WRONLY | os.O_TRUNC)
    p.file("g", b"text", 0o444, A)
    with user(A):
        fails(EACCES, just_open, p("g"), os.O_WRONLY | os.O_TRUNC)
        fails(EACCES, just_open, p("g"), os.O_RDONLY | os.O_TRUNC)
    same(read(p("g")), b"text")
    just_open(path, CREATE | os.O_TRUNC | os.O_APPEND)
    same(read(path), b"")


@check
def rights_of_every_kind(p):
    wanted = {os.O_RDONLY: 4, os.O_WRONLY: 2, os.O_RDWR: 6}
    for who, shift, uid, gid in (("owner", 6, A, C), ("group", 3, C, B), ("others", 0, C, C)):
        for bits in range(8):
            path = p.file(f"{who}-{bits}", b"", (0o777 & ~(7 << shift)) | bits << shift, (A, B))
            with user(uid, gid):
                for flags, needs in wanted.items():
                    if bits & needs == needs:
                        just_open(path, flags)
                    else:
                        fails(EACCES, just_open, path, flags)


@check
def root_may_open_all(p):
    path = p.file("f", b"text", 0, A)
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        just_open(path, flags)


@check
def directories(p):
    p.folder()
    for flags in (os.O_WRONLY, os.O_RDWR, CREATE, os.O_RDONLY | os.O_CREAT, os.O_WRONLY | os.O_TRUNC):
        fails(EISDIR, just_open, p("d"), flags)
    just_open(p("d"), os.O_RDONLY | os.O_DIRECTORY)
    p.file()
    fails(ENOTDIR, just_open, p("f"), os.O_RDONLY | os.O_DIRECTORY)
    with opened(p("d"), os.O_RDONLY) as fd:
        fails(EISDIR, os.read, fd, 1)
        fails(EBADF, os.write, fd, b"x")
    with opened(p("d"), os.O_PATH) as fd:
        with open(os.open("f", CREATE, 0o600, dir_fd=fd), "wb") as f:
            f.write(b"below")
    same(read(p("d/f")), b"below")


@check
def symlinks(p):
    p.file("f", b"text")
    os.symlink("f", p("l"))
    fails(ELOOP, just_open, p("l"), os.O_RDONLY | os.O_NOFOLLOW)
    same(read(p("l")), b"text")
    with opened(p("l"), os.O_PATH | os.O_NOFOLLOW) as fd:
        same(stat.S_ISLNK(os.fstat(fd).st_mode), True)
    fails(ENOENT, just_open, p.node("symlink", "dangling"))


@check
def read_only_and_write_only(p):
    path = p.file("f", b"text")
    with opened(path, os.O_RDONLY) as fd:
        fails(EBADF, os.write, fd, b"x")
        fails(EINVAL, os.ftruncate, fd, 0)
    with opened(path, os.O_WRONLY) as fd:
        fails(EBADF, os.read, fd, 1)
        os.ftruncate(fd, 2)
    with opened(path, os.O_PATH) as fd:
        fails(EBADF, os.read, fd, 1)
        fails(EBADF, os.fchmod, fd, 0)
    same(read(path), b"te")


@check
def a_descriptor_outlives_rights_and_name(p):
    path = p.file("f", b"text", 0o600, A)
    with user(A), opened(path) as fd:
        os.chmod(path, 0)
        os.unlink(path)
        os.write(fd, b"T")
        os.lseek(fd, 0, os.SEEK_SET)
        same(os.read(fd, 10), b"Text")
        same(os.fstat(fd).st_nlink, 0)
        os.ftruncate(fd, 1 << 20)
        same(os.pread(fd, 10, 1000), b"\0" * 10)
        fails(ENOENT, os.stat, path)


@check
def opened_again_while_unlinked(p):
    with opened(p.file("f", b"text")) as fd:
        os.unlink(p("f"))
        with opened(f"/proc/self/fd/{fd}") as again:
            os.write(again, b"TEXT")
            os.fsync(again)
        same(os.pread(fd, 10, 0), b"TEXT")


@check
def busy_programs(p):
    path = p("program")
    with open("/bin/true", "rb") as f, open(path, "wb") as out:
        out.write(f.read())
    os.chmod(path, 0o755)
    with opened(path, os.O_WRONLY):
        fails(ETXTBSY, os.execv, path, [path])
    pid = os.fork()
    if pid == 0:
        os.execv(path, [path])
    same(os.waitpid(pid, 0)[1], 0)


@check
def temporary_files(p):
    """O_TMPFILE: it works, or it is refused with the error that makes programs take another way."""
    try:
        fd = os.open(p(), os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as e:
        same(e.errno, EOPNOTSUPP)
        return
    os.write(fd, b"text")
    same(os.fstat(fd).st_nlink, 0)
    os.link(f"/proc/self/fd/{fd}", p("f"), src_dir_fd=0, follow_symlinks=True)
    os.close(fd)
    same(read(p("f")), b"text")


@check
def without_access_times(p):
    path = p.file("f", b"text", owner=A)
    os.utime(path, ns=(10**18, 10**18 + 1))
    with stamps(path, kept="a"), opened(path, os.O_RDONLY | os.O_NOATIME) as fd:
        os.read(fd, 4)
    with user(B):
        fails(EPERM, just_open, path, os.O_RDONLY | os.O_NOATIME)
    with user(A):
        just_open(path, os.O_RDONLY | os.O_NOATIME)


@check
def exclusive_creation_of_many(p):
    """Of several processes that race for a name exactly one makes it."""
    names = [p(f"name-{n}") for n in range(50)]

    def racer(own):
        for name in names:
            try:
                fd = os.open(name, CREATE | os.O_EXCL, 0o600)
            except FileExistsError:
                continue
            os.write(fd, b"x")
            os.close(fd)
            p.file(f"{own}-made-{os.path.basename(name)}")
    for child in [start_child(racer, n) for n in range(4)]:
        wait_for(child)
    same(sum("-made-" in n for n in os.listdir(p())), len(names))
    same([os.stat(n).st_size for n in names], [1] * len(names))
