"""unlink: what may go, who may take it, counts, times, and files that live on without a name."""
import os

from base import *  # noqa: F401,F403


@check
def bad_paths(p):
    path_errors(p, os.unlink, last=False)


@check
def every_kind(p):
    for kind in KINDS:
        p.node(kind, mode=0)
        if kind == "folder":
            fails((EISDIR, EPERM), os.unlink, p(kind))
            continue
        with stamps(p(), moved="mc", kept="a"):
            os.unlink(p(kind))
        fails(ENOENT, os.lstat, p(kind))
        fails(ENOENT, os.unlink, p(kind))
    fails(ENOTDIR, os.unlink, p.file() + "/")
    same(sorted(os.listdir(p())), ["f", "folder"])


@check
def a_symlink_not_its_target(p):
    p.file("f", b"text")
    os.symlink("f", p("l"))
    os.unlink(p("l"))
    same(read(p("f")), b"text")


@check
def times_of_what_is_left(p):
    p.file("f")
    os.link(p("f"), p("g"))
    with stamps(p("g"), moved="c", kept="am"):
        os.unlink(p("f"))
    with opened(p("g"), os.O_RDONLY) as fd:
        before = os.fstat(fd)
        touch_nothing_for_a_tick(before)
        os.unlink(p("g"))
        after = os.fstat(fd)
        same((after.st_nlink, after.st_mtime_ns), (0, before.st_mtime_ns))
        assert after.st_ctime_ns > before.st_ctime_ns, "ctime of a file that lost its last name"


@check
def rights(p):
    p.folder("shut", 0o755)
    p.file("shut/f", b"", 0o777, A)
    p.folder("mine", 0o755, A)
    p.file("mine/f", b"", 0, B)
    with user(A):
        fails(EACCES, os.unlink, p("shut/f"))
        os.unlink(p("mine/f"))
    with user(B):
        fails(EACCES, os.unlink, p("shut/f"))


@check
def sticky(p):
    sticky_rules(p, lambda path: open(path, "w").close(), os.unlink)


@check
def sticky_of_other_kinds(p):
    sticky_rules(p, lambda path: os.symlink("x", path), os.unlink)


@check
def an_open_file_lives_on(p):
    data = p.rng.randbytes(300000)
    with opened(p.file("f", data)) as fd:
        os.unlink(p("f"))
        p.file("f", b"another")
        same(os.pread(fd, 300000, 0), data)
        os.pwrite(fd, b"more", 1 << 20)
        same(os.fstat(fd).st_size, (1 << 20) + 4)
        os.fchmod(fd, 0o611)
        os.utime(fd, ns=(5, 6))
        os.fsync(fd)
        st = os.fstat(fd)
        same((st.st_nlink, st.st_mode & 0o777, st.st_mtime_ns), (0, 0o611, 6))
    same(read(p("f")), b"another")


@check
def a_running_program_lives_on(p):
    path = p("program")
    with open("/bin/cat", "rb") as f, open(path, "wb") as out:
        out.write(f.read())
    os.chmod(path, 0o755)
    down, back = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(down[0], 0)
        os.dup2(back[1], 1)
        os.closerange(3, 100)
        os.execv(path, [path])
    for fd in (down[0], back[1]):
        os.close(fd)
    os.write(down[1], b"alive")
    same(os.read(back[0], 10), b"alive")
    os.unlink(path)
    os.write(down[1], b"still")
    same(os.read(back[0], 10), b"still")
    os.close(down[1])
    same(os.waitpid(pid, 0)[1], 0)


@check
def by_two_processes(p):
    """Each name is removed exactly once."""
    names = [p.file(f"name-{n}") for n in range(60)]

    def remover(own):
        count = 0
        for name in names:
            try:
                os.unlink(name)
                count += 1
            except FileNotFoundError:
                pass
        p.file(f"count-{own}", b"%d" % count)
    for child in [start_child(remover, n) for n in range(3)]:
        wait_for(child)
    same(sum(int(read(p(f"count-{n}"))) for n in range(3)), len(names))
