"""chmod, fchmod and fchmodat: who may, what becomes of setuid, setgid and sticky bits, times."""
import os

from base import *  # noqa: F401,F403


def setting(path):
    os.chmod(path, 0o600)


@check
def bad_paths(p):
    path_errors(p, setting)


@check
def every_bit_on_every_kind(p):
    for kind in KINDS:
        if kind == "symlink":
            continue
        path = p.node(kind)
        for bits in (0, 0o111, 0o222, 0o444, 0o640, 0o777, 0o1777, 0o2755, 0o4755, 0o7777):
            os.chmod(path, bits)
            same(mode(path), bits, kind)
        st = os.lstat(path)
        with opened(path, os.O_RDONLY) if kind in ("file", "folder") else opened(p(), os.O_RDONLY) as fd:
            if kind in ("file", "folder"):
                os.fchmod(fd, 0o610)
                same(mode(path), 0o610, "fchmod of a " + kind)
        same(os.lstat(path).st_ino, st.st_ino)


@check
def follows_symlinks(p):
    p.file("f", mode=0o600)
    os.symlink("f", p("l"))
    os.chmod(p("l"), 0o644)
    same(mode(p("f")), 0o644)
    same(mode(p("l")), 0o777, "a symlink itself")
    fails(ENOENT, os.chmod, p.node("symlink", "dangling"), 0o600)


@check
def only_owner_and_root(p):
    for kind in ("file", "folder", "fifo"):
        path = p.node(kind, owner=A)
        with user(A):
            os.chmod(path, 0o711)
        with user(B):
            fails(EPERM, os.chmod, path, 0o777)
        with user(B, A):
            fails(EPERM, os.chmod, path, 0o777)
        same(mode(path), 0o711)
        os.chmod(path, 0o700)
        same(mode(path), 0o700, "by root")


@check
def open_for_writing_is_no_right(p):
    path = p.file(mode=0o666, owner=A)
    with user(B), opened(path) as fd:
        fails(EPERM, os.fchmod, fd, 0o777)


@check
def ctime_moves_and_nothing_else(p):
    for kind in ("file", "folder", "fifo"):
        path = p.node(kind, owner=A)
        with stamps(path, moved="c", kept="am"), stamps(p(), kept="mc"):
            os.chmod(path, 0o700)
        with stamps(path, moved="c"):
            os.chmod(path, 0o700)
        with stamps(path, kept="amc"), user(B):
            fails(EPERM, os.chmod, path, 0o777)


@check
def setgid_needs_the_group(p):
    path = p.file(owner=(A, B))
    with user(A, A):
        os.chmod(path, 0o2755)
    same(mode(path), 0o755, "set by who is not in the group")
    with user(A, A, [B]):
        os.chmod(path, 0o2755)
    same(mode(path), 0o2755, "set by who has it as another group")
    os.chmod(path, 0o755)
    with user(A, B):
        os.chmod(path, 0o2755)
    same(mode(path), 0o2755, "set by who has it as the effective group")
    os.chmod(path, 0o755)
    with user(A, A):
        os.chmod(path, 0o4755)
    same(mode(path), 0o4755, "setuid needs no group")


@check
def sticky_files_are_allowed(p):
    path = p.file(owner=A)
    with user(A):
        os.chmod(path, 0o1644)
    same(mode(path), 0o1644)


@check
def rights_count_at_once(p):
    path = p.file("f", b"text", 0o600, A)
    with user(B):
        fails(EACCES, os.open, path, os.O_RDONLY)
    os.chmod(path, 0o604)
    with user(B):
        same(read(path), b"text")
        fails(EACCES, os.open, path, os.O_RDWR)
    os.chmod(path, 0o602)
    with user(B), opened(path, os.O_WRONLY) as fd:
        os.write(fd, b"T")
        fails(EACCES, os.open, path, os.O_RDONLY)
    os.chmod(path, 0o066)
    with user(A):
        fails(EACCES, os.open, path, os.O_RDONLY)
    with user(B, A):
        same(read(path), b"Text")
    folder = p.folder("d", 0o711, A)
    p.file("d/x", b"x")
    with user(B):
        same(read(p("d/x")), b"x")
        fails(EACCES, os.listdir, folder)
    os.chmod(folder, 0o744)
    with user(B):
        same(os.listdir(folder), ["x"])
        fails(EACCES, os.stat, p("d/x"))
