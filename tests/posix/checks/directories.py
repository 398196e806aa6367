"""Reading directories: everything once, whatever others do meanwhile; telldir and seekdir; many entries; link counts."""
import ctypes
import os
import stat

from base import *  # noqa: F401,F403

TYPES = {"file": stat.S_IFREG, "folder": stat.S_IFDIR, "symlink": stat.S_IFLNK, "fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK,
         "char": stat.S_IFCHR, "block": stat.S_IFBLK}
libc.opendir.restype = libc.readdir64.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
for function in ("readdir64", "closedir", "telldir", "rewinddir", "seekdir"):
    getattr(libc, function).argtypes = [ctypes.c_void_p] + ([ctypes.c_long] if function == "seekdir" else [])


class Stream:
    """A DIR of libc."""

    def __init__(self, path):
        self.d = libc.opendir(os.fsencode(path))
        assert self.d

    def next(self):
        """(name, inode number, type) or None at the end."""
        entry = libc.readdir64(self.d)
        if not entry:
            return None
        return ctypes.string_at(entry + 19).decode(), ctypes.c_uint64.from_address(entry).value, ctypes.c_uint8.from_address(entry + 18).value

    def rest(self):
        out = []
        while entry := self.next():
            out.append(entry[0])
        return out

    def tell(self):
        return libc.telldir(self.d)

    def seek(self, where):
        libc.seekdir(self.d, where)

    def rewind(self):
        libc.rewinddir(self.d)

    def close(self):
        libc.closedir(self.d)


@check
def entries_tell_the_truth(p):
    for kind in KINDS:
        p.node(kind)
    s = Stream(p())
    seen = {}
    while entry := s.next():
        seen[entry[0]] = entry[1:]
    s.close()
    same(set(seen), {".", "..", *KINDS})
    for kind in KINDS:
        same(seen[kind], (os.lstat(p(kind)).st_ino, TYPES[kind] >> 12), kind)
    same(seen["."], (os.stat(p()).st_ino, 4))
    same(seen[".."], (os.stat(p("..")).st_ino, 4))


@check
def telling_and_seeking(p):
    names = {f"name-{n}" for n in range(500)}
    for name in names:
        p.file(name)
    s = Stream(p())
    places, order = [], []
    while True:
        places.append(s.tell())
        entry = s.next()
        if entry is None:
            break
        order.append(entry[0])
    same(sorted(order), sorted(names | {".", ".."}))
    for n in sorted(p.rng.sample(range(len(order)), 40), reverse=True):
        s.seek(places[n])
        same(s.next()[0], order[n], f"entry {n}")
    s.seek(places[100])
    same(s.rest(), order[100:])
    s.rewind()
    same(s.rest(), order)
    s.close()


@check
def rewinding_shows_what_is_new(p):
    p.file("a")
    s = Stream(p())
    same(sorted(s.rest()), [".", "..", "a"])
    p.file("b")
    os.unlink(p("a"))
    s.rewind()
    same(sorted(s.rest()), [".", "..", "b"])
    s.close()


@check
def removing_while_reading(p):
    """rm -r: every entry comes although those before it are removed."""
    for n in range(1500):
        p.file(f"name-{n}")
    s, seen = Stream(p()), []
    while entry := s.next():
        if entry[0] not in (".", ".."):
            seen.append(entry[0])
            os.unlink(p(entry[0]))
    s.close()
    same(sorted(seen), sorted({f"name-{n}" for n in range(1500)}))
    same(os.listdir(p()), [])


@check
def while_others_create_and_remove(p):
    """Entries that were there from before the reading to its end come exactly once, others at most once."""
    stay = {f"stay-{n}" for n in range(800)}
    for name in stay:
        p.file(name)
    os.mkdir(p("control"))

    def changer(who):
        n = 0
        while not os.path.exists(p("control/done")):
            p.file(f"come-{who}-{n}")
            if n >= 30:
                os.unlink(p(f"come-{who}-{n - 30}"))
            if n % 7 == 0:
                os.rename(p(f"come-{who}-{n}"), p(f"moved-{who}-{n}"))
                os.unlink(p(f"moved-{who}-{n}"))
                p.file(f"come-{who}-{n}")
            n += 1
    children = [start_child(changer, who) for who in range(2)]
    try:
        for _ in range(12):
            s = Stream(p())
            seen = s.rest()
            s.close()
            twice = {n for n in seen if seen.count(n) > 1} if len(seen) != len(set(seen)) else set()
            same(twice, set(), "entries that came twice")
            same(stay - set(seen), set(), "entries that did not come")
    finally:
        p.file("control/done")
        for child in children:
            wait_for(child)


@check
def an_unlinked_and_made_again_name(p):
    for n in range(300):
        p.file(f"name-{n}")
    s = Stream(p())
    for _ in range(50):
        s.next()
    for n in range(0, 300, 3):
        os.unlink(p(f"name-{n}"))
        p.file(f"name-{n}")
    rest = s.rest()
    s.close()
    same(len(rest), len(set(rest)))


@check
def many_entries(p):
    count = 4000
    for n in range(count):
        os.close(os.open(p(f"entry-{n:06}"), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    same(len(os.listdir(p())), count)
    with os.scandir(p()) as it:
        same({e.name: e.inode() for e in it if e.is_file()}, {f"entry-{n:06}": os.stat(p(f"entry-{n:06}")).st_ino for n in range(count)})
    for n in range(0, count, 2):
        os.unlink(p(f"entry-{n:06}"))
    same(sorted(os.listdir(p())), [f"entry-{n:06}" for n in range(1, count, 2)])
    fails((ENOTEMPTY, EEXIST), os.rmdir, p())


@check
def link_counts(p):
    same(os.stat(p()).st_nlink, 2)
    for n in range(50):
        os.mkdir(p(f"d{n}"))
    p.file()
    os.symlink("d0", p("l"))
    same(os.stat(p()).st_nlink, 52)
    os.rename(p("d0"), p("d1"))
    same(os.stat(p()).st_nlink, 51)
    os.rename(p("d2"), p("d3/d2"))
    same((os.stat(p()).st_nlink, os.stat(p("d3")).st_nlink), (50, 3))
    for n in range(4, 50):
        os.rmdir(p(f"d{n}"))
    same(os.stat(p()).st_nlink, 4)


@check
def inode_numbers_stay(p):
    """Of what has other names and places by now, and of no two things at once."""
    numbers = {os.stat(p.file(f"f{n}")).st_ino: n for n in range(100)}
    same(len(numbers), 100)
    os.mkdir(p("d"))
    for n in range(100):
        os.rename(p(f"f{n}"), p(f"d/g{n}"))
    same({os.stat(p(f"d/g{n}")).st_ino: n for n in range(100)}, numbers)
