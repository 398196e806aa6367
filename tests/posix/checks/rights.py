"""Set-user-id, set-group-id and sticky bits when files are written, and how directories hand groups down."""
import ctypes
import fcntl
import mmap
import os

from base import *  # noqa: F401,F403


def writers(path):
    with opened(path, os.O_WRONLY) as fd:
        yield "write", lambda: os.write(fd, b"x")
        yield "pwrite", lambda: os.pwrite(fd, b"x", 10)
        yield "pwritev", lambda: os.pwritev(fd, [b"x", b"y"], 20)
        yield "ftruncate to less", lambda: os.ftruncate(fd, 5)
        yield "ftruncate to more", lambda: os.ftruncate(fd, 500)
        yield "truncate", lambda: os.truncate(path, 50)
        yield "O_TRUNC", lambda: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
        yield "O_CREAT and O_TRUNC", lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        for name, flags in (("fallocate", 0), ("beyond the end", 1), ("punched hole", 3), ("zeroed range", 16)):
            yield name, lambda flags=flags: call("fallocate", fd, flags, ctypes.c_long(0), ctypes.c_long(8192))
    with opened(path) as fd, mmap.mmap(-1, 4096) as page:
        yield "copy_file_range", lambda: os.copy_file_range(fd, fd, 4096, 0, 4096)
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_DIRECT)
        yield "O_DIRECT", lambda: os.pwrite(fd, page, 0)


def after_each(p, bits, owner, actor, groups=()):
    path = p.file(f"f-{bits:o}-{actor}-{len(groups)}", b"text" * 100, 0o666, owner)
    for name, step in writers(path):
        os.chmod(path, bits)
        with user(actor, groups=groups):
            step()
        yield name, mode(path)


@check
def both_bits_go_when_others_write(p):
    for name, got in after_each(p, 0o6777, A, B):
        same(got, 0o777, name)


@check
def and_when_the_owner_writes(p):
    for name, got in after_each(p, 0o6777, A, A):
        same(got, 0o777, name)


@check
def setgid_without_group_execution_stays_in_the_group(p):
    """Then it is a mark of mandatory locking; it is for the members of the group to keep."""
    for name, got in after_each(p, 0o2766, A, A):
        same(got, 0o2766, name)
    for name, got in after_each(p, 0o6766, A, B, [C, A]):
        same(got, 0o2766, name + " by another member")


@check
def and_goes_when_strangers_to_the_group_write(p):
    for name, got in after_each(p, 0o6766, A, B, [C]):
        same(got, 0o766, name)
    for name, got in after_each(p, 0o2766, (A, B), A):
        same(got, 0o766, name + " by the owner")


@check
def and_when_the_owner_who_is_one_gives_the_file_to_a_group(p):
    path = p.file("f", b"", 0o644, (A, B))
    for groups, wanted in (([], 0o644), ([B], 0o2644)):
        for gid in (A, -1):
            os.chown(path, A, B)
            os.chmod(path, 0o2644)
            with user(A, groups=groups):
                os.chown(path, -1, gid)
            same(mode(path), wanted, f"{groups} to {gid}")


@check
def root_keeps_them(p):
    path = p.file("f", b"text" * 100)
    for name, step in writers(path):
        os.chmod(path, 0o6777)
        step()
        same(mode(path), 0o6777, name)


@check
def a_copy_takes_them_away(p):
    p.file("source", b"x" * 100000, 0o644)
    path = p.file("f", b"", 0o666, A)
    os.chmod(path, 0o6777)
    with user(B), opened(p("source"), os.O_RDONLY) as source, opened(path) as fd:
        same(os.copy_file_range(source, fd, 100000), 100000)
    same(mode(path), 0o777)


@check
def sticky_bits_stay(p):
    for name, got in after_each(p, 0o1666, A, B):
        same(got, 0o1666, name)


@check
def set_user_id_programs_run(p):
    path = p("program")
    with open("/bin/cat", "rb") as f, open(path, "wb") as out:
        out.write(f.read())
    os.chown(path, A, A)
    os.chmod(path, 0o4755)
    p.file("secret", b"for its owner", 0o600, A)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        os.setgroups([])
        os.setresgid(B, B, B)
        os.setresuid(B, B, B)
        os.execv(path, [path, p("secret")])
    os.close(writer)
    os.waitpid(pid, 0)
    same(os.read(reader, 100), b"for its owner")


@check
def setgid_directories(p):
    p.folder("d", 0o2777, (A, B))
    with user(C):
        p.file("d/f", owner=None, mode=None)
        os.mkdir(p("d/e"))
        os.symlink("x", p("d/l"))
        os.mkfifo(p("d/p"))
        os.mkdir(p("d/e/deep"))
    for name in ("f", "e", "l", "p", "e/deep"):
        same(os.lstat(p("d", name)).st_gid, B, name)
    same((mode(p("d/e")), mode(p("d/e/deep")), mode(p("d/f")) & 0o2000), (0o2755, 0o2755, 0))
    os.rename(p.file("outside"), p("d/moved"))
    same(os.stat(p("d/moved")).st_gid, 0, "a move changes no group")


@check
def a_setgid_file_in_a_setgid_directory(p):
    """Who is not in the directory's group cannot get a program of that group."""
    p.folder("d", 0o2777, (A, B))
    with user(C), umask(0):
        os.close(os.open(p("d/f"), os.O_CREAT | os.O_WRONLY, 0o2775))
        os.mknod(p("d/g"), 0o102775)
    same((os.stat(p("d/f")).st_gid, mode(p("d/f"))), (B, 0o775))
    same((os.stat(p("d/g")).st_gid, mode(p("d/g"))), (B, 0o775))
    with user(C, C, [B]), umask(0):
        os.close(os.open(p("d/h"), os.O_CREAT | os.O_WRONLY, 0o2775))
    same(mode(p("d/h")), 0o2775)


@check
def search_and_list_rights(p):
    p.folder("d", 0o755, A)
    p.folder("d/e", 0o711, A)
    p.file("d/e/f", b"text", 0o644, A)
    with user(B):
        same(read(p("d/e/f")), b"text")
        fails(EACCES, os.listdir, p("d/e"))
        fails(ENOENT, os.stat, p("d/e/absent"))
    os.chmod(p("d"), 0o700)
    with user(B):
        fails(EACCES, os.stat, p("d/e/f"))
        fails(EACCES, os.stat, p("d/absent"))
    os.chmod(p("d"), 0o711)
    with user(B):
        same(read(p("d/e/f")), b"text")


@check
def access_asks_for_the_real_user(p):
    path = p.file("f", b"", 0o640, (A, B))

    def ask(uid, gid, wanted):
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        same([os.access(path, bits) for bits in (os.F_OK, os.R_OK, os.W_OK, os.X_OK)], wanted)
    in_child(ask, A, C, [True, True, True, False])
    in_child(ask, C, B, [True, True, False, False])
    in_child(ask, C, C, [True, False, False, False])
    same(os.access(path, os.X_OK), False, "even root cannot execute what nobody can")
    fails(EINVAL, call, "faccessat", -100, path, 64, ctypes.c_int(0))
