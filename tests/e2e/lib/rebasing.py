"""What the tests of jfs-recover rebase share."""
import json
import os

from recovering import CANNOT, listing, without_private
from volume import JFS_RECOVER, Mount


def rebase(t, m, *words, status, env=None):
    text = t.run(JFS_RECOVER, "rebase", "--json", "--cache-dir", m.cache, "--hot-dir", m.hot, *words, m.url(), status=status, env=env)
    if status == CANNOT:
        return text
    r = json.loads(text[text.index("{\n"):])
    assert r["exit"] == status and r["command"] == "rebase" and r["rebased"] is not None, r
    return r


def changes(r):
    return {c["path"]: c["what"] for c in r["rebased"]["changes"]}


def put(path, data):
    with open(path, "wb") as f:
        f.write(data)


def asides(m):
    return sorted(n for n in os.listdir(m.cache) if ".rebase" in n)


def seen_elsewhere(t, volume, name="elsewhere"):
    """The tree as a host sees it that has nothing but Redis and the bucket."""
    other = Mount(t, volume, "--read-only", name=name)
    tree = listing(other.dir)
    other.umount()
    return tree


def objects_of(volume):
    return {os.path.join(top, n) for top, _, names in os.walk(volume.bucket) for n in names}


def only_objects(t, volume):
    """A journal that knows three files, and none of their bytes: they are in objects. Redis as it was after the first; the
    tree; the objects of the last."""
    first = Mount(t, volume, "--writeback", name="first")
    put(first.path("first"), os.urandom(50000))
    first.flush()
    dump = without_private(volume.keys())
    put(first.path("whole"), os.urandom(5 << 20))
    first.flush()
    others = objects_of(volume)
    put(first.path("lost"), os.urandom(6 << 20))
    first.umount(flush=True)
    m = Mount(t, volume, "--writeback")
    want = listing(m.dir)
    m.umount(flush=True)
    return m, dump, want, sorted(objects_of(volume) - others)
