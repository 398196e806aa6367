"""Is the keyspace of a volume consistent in itself, and are its objects there?

check(Keyspace, bucket) looks at every rule that a cleanly drained volume obeys after each batch (the format's
specification, sections 2.4-2.13 and 10.1) and returns a Report:

  problems   what is wrong, one line each, by path where there is one
  notes      stock's own known deviation: dirDataLength above the recount, in a directory with a hard-linked symlink or
             a cloned directory (whose length stock adds). `noted` holds those directories' inodes
  unnamed    objects below chunks/ that no record and no delayed tuple names (only with a bucket)
"""
import os
from collections import Counter

from keyspace import CHUNK, DIR, FILE, ROOT, SYMLINK, TRASH, object_names, object_path, space_of


class Report:
    def __init__(self):
        self.problems, self.notes, self.noted, self.unnamed = [], [], set(), []

    def add(self, text):
        self.problems.append(text)

    def __bool__(self):
        return not self.problems


def check(ks, bucket=None):
    report = Report()
    report.problems.extend(ks.malformed)
    names = name_places(ks)
    paths = inode_paths(ks)
    check_entries(ks, report, paths)
    for ino, inode in sorted(ks.inodes.items()):
        check_inode(ks, report, paths, ino, inode, names.get(ino, []))
    check_strays(ks, report)
    check_counters(ks, report)
    check_dir_stats(ks, report, paths)
    check_quotas(ks, report, paths)
    used = check_slices(ks, report)
    if bucket is not None:
        check_objects(ks, report, used, bucket)
    return report


def name_places(ks):
    """{inode: [directory of each of its names]}"""
    places = {}
    for parent, table in ks.entries.items():
        for _, child in table.values():
            places.setdefault(child, []).append(parent)
    return places


def inode_paths(ks):
    """{inode: a path} of everything reachable from the root, the trash root, and sustained inodes."""
    paths = {ROOT: "/", TRASH: "/.trash"}
    todo = [ROOT, TRASH]
    while todo:
        parent = todo.pop()
        for name, (_, child) in sorted(ks.entries.get(parent, {}).items()):
            if child not in paths:
                paths[child] = paths[parent].rstrip("/") + "/" + name.decode("utf-8", "backslashreplace")
                todo.append(child)
    for ino in ks.sustained_inodes():
        paths.setdefault(ino, f"(open) inode {ino}")
    return paths


def check_entries(ks, report, paths):
    for parent, table in sorted(ks.entries.items()):
        where = paths.get(parent, f"inode {parent}")
        if parent not in ks.inodes:
            report.add(f"{where}: entries, but no inode record")
        elif ks.inodes[parent].type != DIR:
            report.add(f"{where}: entries, but no directory")
        for name, (kind, child) in sorted(table.items()):
            shown = name.decode("utf-8", "backslashreplace")
            if not 1 <= len(name) <= 255 or name in (b".", b"..") or b"/" in name or b"\0" in name:
                report.add(f"{where}: illegal name {shown!r}")
            if child not in ks.inodes:
                report.add(f"{where}: entry {shown!r} names inode {child}, which does not exist")
            elif ks.inodes[child].type != kind:
                report.add(f"{where}: entry {shown!r} has type {kind}, its inode {ks.inodes[child].type}")


def check_inode(ks, report, paths, ino, inode, places):
    where = paths.get(ino, f"inode {ino}")
    if ino not in paths:
        report.add(f"{where}: cannot be reached by any name")
    if inode.type == DIR:
        if ino < TRASH:
            subdirs = sum(kind == DIR for kind, _ in ks.entries.get(ino, {}).values())
            if inode.nlink != 2 + subdirs:
                report.add(f"{where}: nlink {inode.nlink} with {subdirs} sub-directories")
        if len(places) > 1:
            report.add(f"{where}: a directory with {len(places)} names")
    elif inode.nlink != len(places):
        report.add(f"{where}: nlink {inode.nlink} with {len(places)} names")
    if inode.type == SYMLINK:
        if len(ks.targets.get(ino, b"")) != inode.length or not inode.length:
            report.add(f"{where}: symlink of {inode.length} bytes, target of {len(ks.targets.get(ino, b''))}")
    elif ino in ks.targets:
        report.add(f"{where}: a link target, but type {inode.type}")
    if not 1 <= inode.type <= 7:
        report.add(f"{where}: type {inode.type}")
    if ino in (ROOT, TRASH):
        return
    links = {p: n for p, n in ks.parents.get(ino, {}).items() if n > 0}
    if inode.parent:
        if places and set(places) != {inode.parent} or len(places) > 1:
            report.add(f"{where}: parent {inode.parent}, names in {sorted(places)}")
        if links:
            report.add(f"{where}: parent {inode.parent} and link counts {links}")
    elif links != Counter(places):
        report.add(f"{where}: link counts {links}, names in {sorted(places)}")


def check_strays(ks, report):
    for kind, table in (("p", ks.parents), ("x", ks.xattrs), ("s", ks.targets)):
        report.problems.extend(f"{kind}{ino}: no such inode" for ino in sorted(table) if ino not in ks.inodes)
    for sid, members in ks.sustained.items():
        report.problems.extend(f"session{sid}: inode {i} does not exist" for i in sorted(members - set(ks.inodes)))
    for ino, index in sorted(ks.chunks):
        if ino not in ks.inodes and ino not in ks.delfiles:
            report.add(f"c{ino}_{index}: no such inode")
        elif ino in ks.inodes and ks.inodes[ino].type != FILE:
            report.add(f"c{ino}_{index}: inode {ino} is no file")


def check_counters(ks, report):
    counted = [inode for ino, inode in ks.inodes.items() if ino not in (ROOT, TRASH)]
    for key, real in (("usedSpace", sum(map(space_of, counted))), ("totalInodes", len(counted))):
        if ks.counter(key) != real:
            report.add(f"{key} is {ks.counter(key)}, counted {real}")
    ids = [r.id for records in ks.chunks.values() for r in records] + [s for t in ks.delayed.values() for s, _ in t]
    for key, real in (("nextinode", max((i for i in ks.inodes if ROOT < i < TRASH), default=0)),
                      ("nextchunk", max(ids, default=0)),
                      ("nextTrash", max((i - TRASH for i in ks.inodes if i > TRASH), default=0))):
        if ks.counter(key) < real:
            report.add(f"{key} is {ks.counter(key)}, in use is {real}")


def check_dir_stats(ks, report, paths):
    for ino, inode in sorted(ks.inodes.items()):
        have = {h: table[ino] for h, table in ks.dir_stats.items() if ino in table}
        if inode.type != DIR or ino == TRASH or ino == ROOT and not have:
            continue
        where = paths.get(ino, f"inode {ino}")
        if not have and where.startswith("/.trash/"):  # rmdir drops them, the trash keeps the directory
            continue
        kids = [ks.inodes[child] for child in ks.child_inodes(ino) if child in ks.inodes]
        want = {"dirDataLength": sum(k.length for k in kids if k.type == FILE),
                "dirUsedSpace": sum(map(space_of, kids)), "dirUsedInodes": len(kids)}
        for name, value in want.items():
            if name not in have:
                report.add(f"{where}: {name} is missing")
            elif have[name] != value:
                text = f"{where}: {name} is {have[name]}, counted {value}"
                odd = any(k.type == DIR or k.type == SYMLINK and k.nlink > 1 for k in kids)
                if name == "dirDataLength" and have[name] > value and odd:
                    report.notes.append(text)
                    report.noted.add(ino)
                else:
                    report.add(text)


def below(ks, top):
    """(space, inodes) of what lies below a directory, once for each name."""
    space = inodes = 0
    todo = [top]
    while todo:
        for kind, child in ks.entries.get(todo.pop(), {}).values():
            inodes += 1
            space += space_of(ks.inodes[child]) if child in ks.inodes else 4096
            if kind == DIR:
                todo.append(child)
    return space, inodes


def check_quotas(ks, report, paths):
    """Of directories: what lies below (not in the trash). Of owners, where they are counted: every inode, once."""
    def compare(kind, who, where, wanted):
        have = tuple(int(bytes.fromhex(ks.table(f"{kind}QuotaUsed{what}").get(str(who), b"-".hex() + "31")))
                     for what in ("Space", "Inodes"))
        if have != wanted:
            report.add(f"{where}: quota's usage is {have}, counted {wanted}")

    for ino in ks.table("dirQuotaUsedInodes"):
        compare("dir", ino, paths.get(int(ino), f"inode {ino}"), below(ks, int(ino)))
        if int(ino) not in ks.inodes:
            report.add(f"dirQuota: inode {ino} does not exist")
    for kind, owner in (("user", "uid"), ("group", "gid")):
        known = ks.table(f"{kind}QuotaUsedInodes")
        used = {int(who): [0, 0] for who in known}
        for ino, inode in ks.inodes.items():
            if ino not in (ROOT, TRASH):
                mine = used.setdefault(getattr(inode, owner), [0, 0])
                mine[0] += space_of(inode)
                mine[1] += 1
        for who in sorted(used) if known else ():
            compare(kind, who, f"{kind} {who}", tuple(used[who]))


def check_slices(ks, report):
    """Records within bounds and reference counts exact. Returns {slice id: size}."""
    uses, sizes = Counter(), {}

    def use(slice_id, size, where):
        uses[slice_id, size] += 1
        if sizes.setdefault(slice_id, size) != size:
            report.add(f"{where}: slice {slice_id} with size {size}, elsewhere {sizes[slice_id]}")

    for (ino, index), records in sorted(ks.chunks.items()):
        where = f"c{ino}_{index}"
        if not records:
            report.add(f"{where}: an empty list")
        for r in records:
            if not r.len or r.pos + r.len > CHUNK:
                report.add(f"{where}: record leaves the chunk: {r}")
            if r.id:
                if not r.size or r.off + r.len > r.size:
                    report.add(f"{where}: record leaves its slice: {r}")
                use(r.id, r.size, where)
    for field, tuples in sorted(ks.delayed.items()):
        for slice_id, size in tuples:
            use(slice_id, size, f"delSlices {field}")
    for (slice_id, size) in sorted(uses | {k: 1 for k in ks.slice_refs}):
        if slice_id == 0:  # left behind by stock's load, meaningless
            continue
        count, have = uses[slice_id, size], ks.slice_refs.get((slice_id, size), 0)
        if count and have != count - 1:
            report.add(f"sliceRef k{slice_id}_{size} is {have} with {count} references")
        elif not count:
            report.add(f"sliceRef k{slice_id}_{size} is {have}, but nothing refers to it")
    return sizes


def check_objects(ks, report, used, bucket):
    """Every block of every slice in use is there; without compression of exactly its size (sections 4.4, 4.8)."""
    setting = ks.setting
    compression = setting.get("Compression", "none") or "none"
    expected = {}
    for slice_id, size in used.items():
        for key, plain in object_names(setting, slice_id, size):
            expected[object_path(setting, bucket, key)] = plain
    for path, plain in sorted(expected.items()):
        shown = path[path.find("/chunks/") + 1:]
        try:
            size = os.stat(path).st_size
        except FileNotFoundError:
            report.add(f"object {shown} is missing")
            continue
        exact = compression == "none" and not setting.get("EncryptKey")
        least, most = (plain, plain) if exact else (1, plain + plain // 255 + 2048)
        if not least <= size <= most:
            report.add(f"object {shown} has {size} bytes for a block of {plain}")
    shards = range(setting["Shards"]) if setting.get("Shards", 0) > 1 else [0]
    for shard in shards:
        top = os.path.join(bucket.replace("%d", str(shard)), setting["Name"], "chunks")
        for folder, _, files in os.walk(top):
            report.unnamed.extend(p for p in (os.path.join(folder, f) for f in files) if p not in expected)
