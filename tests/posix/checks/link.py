"""link: what may get a second name, who may give it one, counts, times, and what all names have in common."""
import os

from base import *  # noqa: F401,F403


@check
def bad_paths(p):
    p.file("f")
    path_errors(p, lambda path: os.link(path, p("new")), last=False)


@check
def bad_paths_of_the_new_name(p):
    p.file("f")
    os.chmod(p("f"), 0o666)
    path_errors(p, lambda path: os.link(p("f"), path), last=False)


@check
def one_file_of_many_names(p):
    for kind in KINDS:
        if kind == "folder":
            continue
        path = p.node(kind, owner=A)
        p.folder("d" + kind)
        names = [p(f"{kind}-2"), p("d" + kind, "x")]
        for n, name in enumerate(names):
            os.link(path, name, follow_symlinks=False)
            st, other = os.lstat(path), os.lstat(name)
            same(other, st, kind)
            same(st.st_nlink, n + 2, kind)
        os.lchown(names[0], B, C)
        same(os.lstat(path).st_uid, B, kind)
        os.unlink(path)
        same(os.lstat(names[1]).st_nlink, 2, kind)
        os.unlink(names[0])
        same(os.lstat(names[1]).st_nlink, 1, kind)
        os.unlink(names[1])
        fails(ENOENT, os.lstat, names[1])


@check
def bytes_are_shared(p):
    p.file("a", b"one")
    os.link(p("a"), p("b"))
    with open(p("b"), "ab") as f:
        f.write(b" two")
    same(read(p("a")), b"one two")
    os.unlink(p("a"))
    same(read(p("b")), b"one two")
    p.file("a", b"other")
    same(read(p("b")), b"one two")


@check
def times(p):
    p.file("f")
    p.folder()
    with stamps(p("f"), moved="c", kept="am"), stamps(p("d"), moved="mc"):
        os.link(p("f"), p("d/x"))
    with stamps(p("f"), moved="c", kept="am"), stamps(p("d"), moved="mc"):
        os.unlink(p("d/x"))
    p.file("d/x")
    with stamps(p("f"), kept="amc"), stamps(p("d"), kept="mc"):
        fails(EEXIST, os.link, p("f"), p("d/x"))


@check
def what_is_refused(p):
    p.folder()
    fails(EPERM, os.link, p("d"), p("new"))
    p.folder("mine", owner=A)
    with user(A):
        fails(EPERM, os.link, p("mine"), p("mine2"))
    for kind in KINDS:
        fails(EEXIST, os.link, p.file("f-" + kind), p.node(kind))
    fails(ENOENT, os.link, p("absent"), p("new"))
    fails(EEXIST, os.link, p("f-file"), p("f-file"))


@check
def rights(p):
    p.file("f", owner=A)
    p.folder("shut", 0o555, A)
    p.folder("mine", 0o755, A)
    with user(A):
        fails(EACCES, os.link, p("f"), p("shut/x"))
        os.link(p("f"), p("mine/x"))
    with user(B):
        fails((EACCES, EPERM), os.link, p("mine/x"), p("mine/y"))  # EPERM: protected_hardlinks
    same(os.stat(p("f")).st_nlink, 2)


@check
def of_a_symlink_or_its_target(p):
    p.file("f", b"text")
    os.symlink("f", p("l"))
    os.link(p("l"), p("symlink"), follow_symlinks=False)
    same(os.readlink(p("symlink")), "f")
    call("linkat", -100, p("l"), -100, p("target"), 0x400)  # AT_SYMLINK_FOLLOW
    same(os.lstat(p("target")).st_ino, os.stat(p("f")).st_ino)


@check
def not_to_another_file_system(p):
    with open("/proc/self/status", "rb"):
        fails(EXDEV, os.link, "/proc/self/status", p("x"))


@check
def not_of_an_unlinked_file(p):
    with opened(p.file(), os.O_RDONLY) as fd:
        os.unlink(p("f"))
        fails(ENOENT, call, "linkat", -100, f"/proc/self/fd/{fd}", -100, p("x"), 0x400)
    same(os.listdir(p()), [])


@check
def many_names(p):
    path = p.file("f", b"text")
    for n in range(300):
        os.link(path, p(f"name-{n}"))
    same(os.stat(path).st_nlink, 301)
    same(len(os.listdir(p())), 301)
    for n in range(0, 300, 2):
        os.unlink(p(f"name-{n}"))
    same(os.stat(path).st_nlink, 151)
    same(read(p("name-299")), b"text")


@check
def into_a_removed_directory(p):
    p.file()
    with opened(p.folder(), os.O_RDONLY) as fd:
        os.rmdir(p("d"))
        fails(ENOENT, os.link, p("f"), f"/proc/self/fd/{fd}/x")
    same(os.stat(p("f")).st_nlink, 1)
