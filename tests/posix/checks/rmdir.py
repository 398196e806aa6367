"""rmdir: what may go, who may take it, counts and times, and life in a directory without a name."""
import os

from base import *  # noqa: F401,F403


@check
def bad_paths(p):
    path_errors(p, os.rmdir, last=False)


@check
def removes(p):
    p.folder()
    with stamps(p(), moved="mc", kept="a"):
        os.rmdir(p("d"))
    same(os.stat(p()).st_nlink, 2)
    fails(ENOENT, os.stat, p("d"))
    fails(ENOENT, os.rmdir, p("d"))


@check
def only_empty_ones(p):
    for kind in KINDS:
        p.folder("d-" + kind)
        p.node(kind, f"d-{kind}/x", 0)
        with stamps(p("d-" + kind), kept="mc"), stamps(p(), kept="mc"):
            fails((ENOTEMPTY, EEXIST), os.rmdir, p("d-" + kind))
    fails((ENOTEMPTY, EEXIST), os.rmdir, p("d-file/.."))


@check
def only_directories(p):
    for kind in KINDS:
        if kind != "folder":
            fails(ENOTDIR, os.rmdir, p.node(kind))
    p.folder()
    os.symlink("d", p("l"))
    fails(ENOTDIR, os.rmdir, p("l"))
    fails(ENOTDIR, os.rmdir, p("l/"))


@check
def dots(p):
    p.folder()
    fails(EINVAL, os.rmdir, p("d/."))
    fails((ENOTEMPTY, EEXIST, EINVAL), os.rmdir, p("d/.."))
    os.rmdir(p("d//"))


@check
def rights(p):
    p.folder("shut", 0o755)
    p.folder("shut/d", 0o777, A)
    with user(A):
        fails(EACCES, os.rmdir, p("shut/d"))
    p.folder("mine", 0o755, A)
    p.folder("mine/d", 0, B)
    with user(A):
        os.rmdir(p("mine/d"))


@check
def sticky(p):
    sticky_rules(p, os.mkdir, os.rmdir)


@check
def a_mount_point_is_busy(p):
    p.folder()
    call("mount", "none", p("d"), "tmpfs", 0, 0)
    try:
        fails(EBUSY, os.rmdir, p("d"))
    finally:
        call("umount", p("d"))
    os.rmdir(p("d"))


@check
def an_open_one(p):
    with opened(p.folder(), os.O_RDONLY) as fd:
        os.rmdir(p("d"))
        same(os.fstat(fd).st_nlink, 0)
        same(os.listdir(fd), [])
        fails(ENOENT, os.open, f"/proc/self/fd/{fd}/x", os.O_CREAT | os.O_WRONLY)
        os.mkdir(p("d"))
        p.file("d/x")
        same(os.listdir(fd), [], "another of the same name")


@check
def the_current_one(p):
    os.chdir(p.folder())
    os.rmdir(p("d"))
    fails(ENOENT, os.getcwd)
    fails(ENOENT, os.mkdir, "x")
    fails(ENOENT, os.open, "x", os.O_CREAT | os.O_WRONLY)
    os.chdir("..")
    same(os.listdir("."), [])


@check
def whole_trees(p):
    for n in range(5):
        os.makedirs(p(f"t/{n}/a/b/c"))
        for m in range(5):
            p.file(f"t/{n}/a/{m}")
    same(os.stat(p("t")).st_nlink, 7)
    for top, folders, files in os.walk(p("t"), topdown=False):
        for name in files:
            os.unlink(os.path.join(top, name))
        for name in folders:
            os.rmdir(os.path.join(top, name))
    same(os.stat(p("t")).st_nlink, 2)
    os.rmdir(p("t"))
