"""mkdir: names, owners, the mask, counts and times."""
import os
import stat

from base import *  # noqa: F401,F403


@check
def bad_paths(p):
    path_errors(p, os.mkdir, last=False)


@check
def rules_of_creation(p):
    creation_rules(p, os.mkdir)


@check
def what_is_made(p):
    with umask(0o027):
        os.mkdir(p("d"), 0o777)
    st = os.stat(p("d"))
    same((stat.S_IFMT(st.st_mode), mode(p("d")), st.st_nlink), (stat.S_IFDIR, 0o750, 2))
    same(os.listdir(p("d")), [])
    for bits in (0o700, 0o1755, 0o311, 0):
        with umask(0):
            os.mkdir(p(f"d{bits:o}"), bits)
        same(mode(p(f"d{bits:o}")), bits)


@check
def counts_and_times(p):
    same(os.stat(p()).st_nlink, 2)
    with stamps(p(), moved="mc", kept="a"):
        os.mkdir(p("d"))
    same(os.stat(p()).st_nlink, 3)
    with stamps(p(), kept="mc"):
        fails(EEXIST, os.mkdir, p("d"))
    os.mkdir(p("d/e"))
    same((os.stat(p()).st_nlink, os.stat(p("d")).st_nlink), (3, 3))


@check
def dots(p):
    fails(EEXIST, os.mkdir, p("."))
    fails(EEXIST, os.mkdir, p(".."))
    fails(ENOENT, os.mkdir, p("absent/."))
    os.mkdir(p("d") + "///")
    same(os.listdir(p()), ["d"])
    same(os.stat(p("d/..")).st_ino, os.stat(p()).st_ino)
    same(os.stat(p("d/.")).st_ino, os.stat(p("d")).st_ino)


@check
def through_a_dangling_symlink(p):
    os.symlink("target", p("l"))
    fails(EEXIST, os.mkdir, p("l"))
    fails(ENOENT, os.stat, p("target"))


@check
def setgid_goes_down(p):
    p.folder("d", 0o2755, (0, C))
    os.mkdir(p("d/e"), 0o755)
    os.mkdir(p("d/e/f"), 0o700)
    same((mode(p("d/e")), mode(p("d/e/f"))), (0o2755, 0o2700))
    same(os.stat(p("d/e/f")).st_gid, C)


@check
def deep(p):
    path = p()
    for n in range(60):
        path = os.path.join(path, f"level-{n}")
        os.mkdir(path)
    with open(os.path.join(path, "f"), "wb") as f:
        f.write(b"down here")
    same(read(os.path.join(path, "f")), b"down here")
    same(os.stat(os.path.join(path, "../" * 60)).st_ino, os.stat(p()).st_ino)
