"""rename: what may replace what, directories, sticky rights, counts, times; renameat2's flags."""
import contextlib
import os
import stat

from base import *  # noqa: F401,F403

NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4


def rename2(old, new, flags):
    call("renameat2", -100, old, -100, new, flags)


@check
def bad_paths(p):
    path_errors(p, lambda path: os.rename(path, p("new")), last=False)


@check
def bad_paths_of_the_new_name(p):
    p.file("old")
    os.chmod(p("old"), 0o666)
    path_errors(p, lambda path: os.rename(p("old"), path), last=False)
    same(os.listdir(p()).count("old"), 1)


@check
def every_kind_to_a_new_name(p):
    p.folder("d")
    for kind in KINDS:
        before = os.lstat(p.node(kind, owner=A))
        os.rename(p(kind), p("new"))
        fails(ENOENT, os.lstat, p(kind))
        after = os.lstat(p("new"))
        same((after.st_ino, after.st_mode, after.st_uid), (before.st_ino, before.st_mode, before.st_uid), kind)
        os.rename(p("new"), p("d", kind))
        same(os.lstat(p("d", kind)).st_ino, before.st_ino)
        os.rename(p("d", kind), p(kind))
        same(os.listdir(p("d")), [])


@check
def what_replaces_what(p):
    for old in KINDS:
        for new in KINDS:
            a, b = p.node(old, f"{old}-on-{new}"), p.node(new, f"{new}-under-{old}")
            ino = os.lstat(a).st_ino
            if old == "folder" and new != "folder":
                fails(ENOTDIR, os.rename, a, b)
            elif old != "folder" and new == "folder":
                fails(EISDIR, os.rename, a, b)
            else:
                os.rename(a, b)
                same((os.path.lexists(a), os.lstat(b).st_ino), (False, ino))


@check
def a_full_directory_stays(p):
    p.folder("a")
    p.folder("b")
    p.file("b/x")
    fails((ENOTEMPTY, EEXIST), os.rename, p("a"), p("b"))
    fails((ENOTEMPTY, EEXIST), os.rename, p("a"), p())
    os.unlink(p("b/x"))
    os.rename(p("a"), p("b"))
    same(os.listdir(p()), ["b"])


@check
def into_itself(p):
    p.folder("a")
    p.folder("a/b")
    p.folder("a/b/c")
    for new in ("a/x", "a/b/x", "a/b/c", "a/b/c/x"):
        fails(EINVAL, os.rename, p("a"), p(new))
    fails((ENOTEMPTY, EEXIST), os.rename, p("a/b/c"), p("a"))
    for old in (".", "..", "a/.", "a/.."):
        fails((EBUSY, EINVAL), os.rename, p(old), p("x"))
    for new in (".", "..", "a/.", "a/b/.."):
        fails((EBUSY, EINVAL, EEXIST, ENOTEMPTY), os.rename, p("a/b/c"), p(new))
    os.rename(p("a"), p("a"))
    same(os.listdir(p("a/b")), ["c"])


@check
def two_names_of_one_file(p):
    p.file("a", b"text")
    os.link(p("a"), p("b"))
    os.rename(p("a"), p("b"))
    same((sorted(os.listdir(p())), os.stat(p("a")).st_nlink), (["a", "b"], 2), "renaming between them does nothing")


@check
def counts_of_directories(p):
    p.folder("a")
    p.folder("b")
    p.folder("a/x")
    p.folder("b/y")
    os.rename(p("a/x"), p("b/x"))
    same((os.stat(p("a")).st_nlink, os.stat(p("b")).st_nlink), (2, 4))
    os.rename(p("b/x"), p("b/y"))
    same(os.stat(p("b")).st_nlink, 3)
    same(os.stat(p("b/y/..")).st_ino, os.stat(p("b")).st_ino)
    os.rename(p("b/y"), p("a/y"))
    same((os.stat(p("a")).st_nlink, os.stat(p("b")).st_nlink), (3, 2))
    same(os.stat(p("a/y/..")).st_ino, os.stat(p("a")).st_ino)


@check
def times(p):
    p.folder("a")
    p.folder("b")
    for kind in ("file", "folder", "symlink"):
        p.node(kind, "a/" + kind)
        with stamps(p("a"), moved="mc"), stamps(p("b"), moved="mc"):
            os.rename(p("a", kind), p("b", kind))
        with stamps(p("b"), moved="mc"):
            os.rename(p("b", kind), p("b/new"))
        st = os.lstat(p("b/new"))
        touch_nothing_for_a_tick(st)
        os.rename(p("b/new"), p("a", kind))
        after = os.lstat(p("a", kind))
        same((after.st_atime_ns, after.st_mtime_ns), (st.st_atime_ns, st.st_mtime_ns))
        assert after.st_ctime_ns > st.st_ctime_ns, "ctime of what was renamed"
    with stamps(p("a"), kept="mc"), stamps(p("b"), kept="mc"):
        fails(ENOENT, os.rename, p("a/absent"), p("b/x"))


@check
def what_is_replaced_dies(p):
    p.file("a", b"new")
    with opened(p.file("b", b"old")) as fd:
        os.link(p("b"), p("c"))
        with stamps(p("c"), moved="c", kept="am"):
            os.rename(p("a"), p("b"))
        same((os.fstat(fd).st_nlink, read(p("b")), read(p("c"))), (1, b"new", b"old"))
        os.rename(p("b"), p("c"))
        same((os.fstat(fd).st_nlink, os.pread(fd, 10, 0), read(p("c"))), (0, b"old", b"new"))


@check
def sticky_sources(p):
    p.folder("away", 0o777)
    sticky_rules(p, lambda path: open(path, "w").close(), lambda path: os.rename(path, p("away/x")))


@check
def sticky_targets(p):
    def replace(path):
        new = p(f"new-{os.geteuid()}-{os.path.basename(os.path.dirname(path))}")
        open(new, "w").close()
        os.rename(new, path)
    os.chmod(p(), 0o777)
    sticky_rules(p, lambda path: open(path, "w").close(), replace)


@check
def rights_of_both_directories(p):
    p.folder("open", 0o777)
    p.folder("shut", 0o555, A)
    p.file("open/x", owner=A)
    p.file("shut/y", owner=A)
    with user(A):
        fails(EACCES, os.rename, p("open/x"), p("shut/x"))
        fails(EACCES, os.rename, p("shut/y"), p("open/y"))
        os.rename(p("open/x"), p("open/z"))
    # A directory that moves gets another "..", so it must be writable itself; within its parent it need not.
    p.folder("open/d", 0o755, B)
    p.folder("open/into", 0o777)
    with user(A):
        fails(EACCES, os.rename, p("open/d"), p("open/into/d"))
        os.rename(p("open/d"), p("open/e"))
    same(sorted(os.listdir(p("open"))), ["e", "into", "z"])


@check
def into_a_removed_directory(p):
    p.file()
    with opened(p.folder(), os.O_RDONLY) as fd:
        os.rmdir(p("d"))
        fails(ENOENT, os.rename, p("f"), f"/proc/self/fd/{fd}/x")
    same(os.listdir(p()), ["f"])


@check
def not_replacing(p):
    p.file("a", b"a")
    for kind in KINDS:
        fails(EEXIST, rename2, p("a"), p.node(kind), NOREPLACE)
    fails(EEXIST, rename2, p("a"), p("a"), NOREPLACE)
    fails(ENOENT, rename2, p("absent"), p("x"), NOREPLACE)
    rename2(p("a"), p("b"), NOREPLACE)
    same(read(p("b")), b"a")


@check
def exchanging(p):
    p.folder("d")
    inodes = {}
    for kind in KINDS:
        inodes[kind] = os.lstat(p.node(kind)).st_ino
    for kind in KINDS[1:]:
        rename2(p("file"), p(kind), EXCHANGE)
        same((os.lstat(p("file")).st_ino, os.lstat(p(kind)).st_ino), (inodes[kind], inodes["file"]))
        rename2(p("file"), p(kind), EXCHANGE)
    # Between directories the counts go with them.
    rename2(p("folder"), p.file("d/f"), EXCHANGE)
    same((os.stat(p("d")).st_nlink, os.stat(p("d/f/..")).st_ino), (3, os.stat(p("d")).st_ino))
    same(os.path.isfile(p("folder")), True)
    fails(ENOENT, rename2, p("file"), p("absent"), EXCHANGE)
    fails(EINVAL, rename2, p("d"), p("d/f"), EXCHANGE)
    fails(EINVAL, rename2, p("d/f"), p("d"), EXCHANGE)
    fails(EINVAL, rename2, p("file"), p("fifo"), EXCHANGE | NOREPLACE)
    fails(EINVAL, rename2, p("file"), p("fifo"), 1 << 20)


@check
def never_absent(p):
    """Who looks at a name that is replaced all the time always finds one of the two."""
    p.file("name", b"0")

    def replacer():
        for n in range(300):
            p.file("new", b"%d" % n)
            os.rename(p("new"), p("name"))
        p.file("done")
    child = start_child(replacer)
    while not os.path.exists(p("done")):
        assert read(p("name")).isdigit()
        os.lstat(p("name"))
    wait_for(child)
    same(sorted(os.listdir(p())), ["done", "name"])


@check
def across_each_other(p):
    """Directories that are moved into one another by two processes: one succeeds, the tree stays a tree."""
    for n in range(40):
        a, b = p.folder(f"a{n}"), p.folder(f"b{n}")

        def mover(old, new):
            with contextlib.suppress(OSError):
                os.rename(old, os.path.join(new, "x"))
        for child in (start_child(mover, a, b), start_child(mover, b, a)):
            wait_for(child)
        same(os.path.exists(a) + os.path.exists(b), 1, "how many are left on top")


@check
def whiteouts_stay_behind(p):
    """What an overlay file system leaves in its upper layer: a device 0:0, in the same step."""
    def white(name):
        st = os.lstat(p(name))
        same((stat.S_ISCHR(st.st_mode), st.st_rdev, stat.S_IMODE(st.st_mode), st.st_nlink), (True, 0, 0, 1), name)
        return st.st_ino
    p.file("f", b"text")
    p.file("target", b"replaced")
    p.folder("d")
    p.folder("d/x")
    p.folder("e", 0o2777, (A, B))
    with stamps(p(), moved="mc"):
        rename2(p("f"), p("g"), WHITEOUT)
    same(read(p("g")), b"text")
    same(white("f") != os.lstat(p("g")).st_ino, True)
    fails(EEXIST, rename2, p("g"), p("target"), WHITEOUT | NOREPLACE)
    fails(EINVAL, rename2, p("g"), p("target"), WHITEOUT | EXCHANGE)
    fails(ENOENT, rename2, p("absent"), p("target"), WHITEOUT)
    rename2(p("g"), p("target"), WHITEOUT)
    same(read(p("target")), b"text")
    white("g")
    with stamps(p("d"), moved="mc"), stamps(p("e"), moved="mc"):
        rename2(p("d/x"), p("e/x"), WHITEOUT)
    white("d/x")
    same((os.lstat(p("d")).st_nlink, os.lstat(p("e")).st_nlink), (2, 3))
    rename2(p("target"), p("e/y"), WHITEOUT | NOREPLACE)
    white("target")
    rename2(p("e/y"), p("y"), WHITEOUT)
    white("e/y")
    same(os.lstat(p("e/y")).st_gid, B)
    p.folder("e/own", 0o755, A)
    p.file("e/own/f", b"", 0o644, A)
    with user(A):
        rename2(p("e/own/f"), p("e/own/g"), WHITEOUT)
    white("e/own/f")
    same(os.lstat(p("e/own/f")).st_uid, A)
    rename2(p("f"), p("white"), 0)
    white("white")
    same(sorted(os.listdir(p())), ["d", "e", "g", "target", "white", "y"])
