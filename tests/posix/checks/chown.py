"""chown, fchown and lchown: who may give what away to whom, what becomes of setuid and setgid, times."""
import os
import stat

from base import *  # noqa: F401,F403


def owner(path):
    st = os.lstat(path)
    return st.st_uid, st.st_gid


@check
def bad_paths(p):
    path_errors(p, lambda path: os.chown(path, -1, -1))


@check
def bad_paths_of_lchown(p):
    path_errors(p, lambda path: os.lchown(path, -1, -1), last=False)


@check
def root_gives_every_kind_away(p):
    for kind in KINDS:
        path = p.node(kind)
        os.lchown(path, A, B)
        same(owner(path), (A, B), kind)
        os.lchown(path, -1, C)
        same(owner(path), (A, C), kind)
        os.lchown(path, B, -1)
        same(owner(path), (B, C), kind)
        os.lchown(path, -1, -1)
        same(owner(path), (B, C), kind)
    os.lchown(p("file"), 0xfffffffe, 0xfffffffe)
    same(owner(p("file")), (0xfffffffe, 0xfffffffe), "the largest numbers")


@check
def the_symlink_or_its_target(p):
    p.file("f")
    os.symlink("f", p("l"))
    os.chown(p("l"), A, A)
    same((owner(p("f")), owner(p("l"))), ((A, A), (0, 0)))
    os.lchown(p("l"), B, B)
    same((owner(p("f")), owner(p("l"))), ((A, A), (B, B)))
    fails(ENOENT, os.chown, p.node("symlink", "dangling"), A, A)


@check
def an_owner_may_change_to_own_groups(p):
    for kind in ("file", "folder", "fifo", "symlink"):
        path = p.node(kind, owner=A)
        with user(A, A, [B]):
            os.lchown(path, -1, B)
            same(owner(path), (A, B), kind)
            os.lchown(path, A, A)
            same(owner(path), (A, A), kind)
            fails(EPERM, os.lchown, path, -1, C)
            fails(EPERM, os.lchown, path, B, -1)
            fails(EPERM, os.lchown, path, B, A)
            fails(EPERM, os.lchown, path, 0, 0)
            os.lchown(path, A, -1)
            os.lchown(path, -1, -1)
        same(owner(path), (A, A), kind)


@check
def nobody_else_may(p):
    for kind in ("file", "folder", "fifo", "symlink"):
        path = p.node(kind, owner=A)
        with user(B, B, [A]), stamps(path, kept="amc"):
            fails(EPERM, os.lchown, path, B, -1)
            fails(EPERM, os.lchown, path, -1, B)
            fails(EPERM, os.lchown, path, -1, A)
        same(owner(path), (A, A), kind)


@check
def ctime_moves_and_nothing_else(p):
    for kind in KINDS:
        path = p.node(kind)
        with stamps(path, moved="c", kept="am"), stamps(p(), kept="mc"):
            os.lchown(path, A, B)
        with stamps(path, moved="c"):
            os.lchown(path, A, B)


@check
def setuid_and_setgid_go(p):
    for bits, wanted in ((0o6775, 0o775), (0o4755, 0o755), (0o2755, 0o755), (0o2745, 0o2745), (0o6555, 0o555)):
        path = p.file(f"f{bits:o}")
        os.chmod(path, bits)
        os.chown(path, A, A)
        same(mode(path), wanted, f"{bits:o} after root's chown")
        os.chmod(path, bits)
        with user(A, A, [B]):
            os.chown(path, A, B)
        same(mode(path) & ~0o2000, wanted & ~0o2000, f"{bits:o} after the owner's chown")
    folder = p.folder("d")
    os.chmod(folder, 0o6775)
    os.chown(folder, A, A)
    same(mode(folder), 0o6775, "a directory keeps them")


@check
def of_an_open_file(p):
    path = p.file()
    with opened(path) as fd:
        os.fchown(fd, A, B)
        same(owner(path), (A, B))
        os.unlink(path)
        os.fchown(fd, B, A)
        st = os.fstat(fd)
        same((st.st_uid, st.st_gid, st.st_nlink), (B, A, 0))
    with opened(p(), os.O_RDONLY) as fd:
        with user(A):
            fails(EPERM, os.fchown, fd, A, A)


@check
def rights_follow_the_owner(p):
    path = p.file("f", b"text", 0o640, A)
    with user(B):
        fails(EACCES, os.open, path, os.O_RDONLY)
    os.chown(path, -1, B)
    with user(B):
        same(read(path), b"text")
    os.chown(path, B, -1)
    with user(A):
        fails(EACCES, os.open, path, os.O_RDONLY)
    with user(B), opened(path) as fd:
        os.write(fd, b"T")
    same(stat.S_ISREG(os.stat(path).st_mode), True)
