"""symlink and readlink: targets of all sizes and bytes, and what follows them."""
import os
import stat

from base import *  # noqa: F401,F403


@check
def bad_paths(p):
    path_errors(p, lambda path: os.symlink("target", path), last=False)


@check
def bad_paths_of_readlink(p):
    path_errors(p, os.readlink, last=False)
    for kind in KINDS:
        if kind != "symlink":
            fails(EINVAL, os.readlink, p.node(kind))


@check
def rules_of_creation(p):
    creation_rules(p, lambda path: os.symlink("target", path))


@check
def targets_of_all_sizes(p):
    for n in (1, 2, 59, 60, 61, 255, 256, 1000, 4000, 4095):
        target = ("x" * 50 + "/") * 81
        os.symlink(target[:n], p(f"l{n}"))
        same(os.readlink(p(f"l{n}")), target[:n])
        same(os.lstat(p(f"l{n}")).st_size, n)
    fails(ENAMETOOLONG, os.symlink, "x" * 4096, p("l"))
    fails(ENOENT, os.symlink, "", p("l"))
    os.symlink(bytes(range(1, 256)), os.fsencode(p("bytes")))
    same(os.readlink(os.fsencode(p("bytes"))), bytes(range(1, 256)))


@check
def what_is_made(p):
    with umask(0o077), stamps(p(), moved="mc", kept="a"):
        os.symlink("target", p("l"))
    st = os.lstat(p("l"))
    same((stat.S_ISLNK(st.st_mode), mode(p("l")), st.st_nlink), (True, 0o777, 1))


@check
def followed(p):
    p.folder("d")
    p.file("d/f", b"text")
    os.symlink("d", p("relative"))
    os.symlink(p("d"), p("absolute"))
    os.symlink("../relative/./f", p("d/back"))
    for path in ("relative/f", "absolute/f", "d/back", "relative/back"):
        same(read(p(path)), b"text", path)
    os.unlink(p("relative"))
    same(os.path.exists(p("d")), True, "only the symlink goes")


@check
def chains(p):
    p.file("l0", b"text")
    for n in range(1, 45):
        os.symlink(f"l{n - 1}", p(f"l{n}"))
    same(read(p("l40")), b"text")
    fails(ELOOP, os.stat, p("l41"))
    os.lstat(p("l44"))


@check
def times(p):
    os.symlink("target", p("l"))
    with stamps(p("l"), moved="c"):
        os.utime(p("l"), ns=(1, 2), follow_symlinks=False)
    st = os.lstat(p("l"))
    same((st.st_atime_ns, st.st_mtime_ns), (1, 2))
    with stamps(p("l"), kept="mc"):
        os.readlink(p("l"))


@check
def into_a_removed_directory(p):
    with opened(p.folder(), os.O_RDONLY) as fd:
        os.rmdir(p("d"))
        fails(ENOENT, os.symlink, "target", f"/proc/self/fd/{fd}/x")
