#!/usr/bin/env python3
"""What a user sees below a mount point, as JSON, and the comparison of two such trees. Standard library only.

tree.py scan MOUNT FILE | tree.py compare A B

{PATH: {type, mode, uid, gid, nlink, size, mtime (ns), ino, rdev, target, xattrs {name: hex}, sha256}}, sorted; paths and
targets as text like in keyspace.py. The virtual files of the root are left out. /.trash is there if it is not empty (of
itself only the type). What cannot be read gets an "error".
"""
import errno
import hashlib
import json
import os
import re
import stat
import sys

from keyspace import name_text

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo",
         stat.S_IFSOCK: "socket", stat.S_IFBLK: "block", stat.S_IFCHR: "char"}
VIRTUAL = {b".accesslog", b".control", b".stats", b".config", b".trash"}
RECENT_NS = 1577836800 * 10**9  # 2020: later times were not set by the fixtures' operations


def file_digest(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while part := f.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def xattr_names(path):
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError as e:
        if e.errno in (errno.ENODATA, errno.ENOTSUP):  # stock's hour directories; file systems without xattrs
            return []
        raise


def describe(path):
    st = os.lstat(path)
    kind = KINDS[stat.S_IFMT(st.st_mode)]
    out = {"type": kind, "mode": "%04o" % stat.S_IMODE(st.st_mode), "uid": st.st_uid, "gid": st.st_gid,
           "nlink": st.st_nlink, "size": st.st_size, "mtime": st.st_mtime_ns, "ino": st.st_ino}
    try:
        if kind in ("block", "char"):
            out["rdev"] = st.st_rdev
        elif kind == "symlink":
            out["target"] = name_text(os.readlink(path))
        elif kind == "file":
            out["sha256"] = file_digest(path)
        names = xattr_names(path)
        if names:
            out["xattrs"] = {n: os.getxattr(path, n, follow_symlinks=False).hex() for n in sorted(names)}
    except OSError as e:
        out["error"] = e.strerror
    return out


def scan(mount):
    top, out = os.fsencode(mount), {}
    todo = [(top, b"")]
    while todo:
        path, shown = todo.pop()
        node = describe(path)
        out[name_text(shown) or "/"] = {"type": "dir"} if shown == b"/.trash" else node
        if node["type"] != "dir":
            continue
        names = set(os.listdir(path))
        if not shown:
            names -= VIRTUAL
            trash = os.path.join(path, b".trash")
            if os.path.isdir(trash) and os.listdir(trash):
                names.add(b".trash")
        todo += [(os.path.join(path, n), shown + b"/" + n) for n in names]
    return dict(sorted(out.items()))


def read(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def write(path, tree):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(tree, f, indent=0, separators=(",", ":"))
        f.write("\n")


def without_history(tree):
    """The tree without what another run of the same operations gives otherwise: inodes, recent times, trash numbers."""
    out = {}
    for path, node in tree.items():
        if path.startswith("/.trash/"):
            path = re.sub(r"^/\.trash/[^/]+", "/.trash/hour", path)
            path = re.sub(r"^(/\.trash/hour/)\d+-\d+-", r"\1", path)
            while path in out:
                path += "#"
        node = {k: v for k, v in node.items() if k != "ino"}
        if node.get("mtime", 0) >= RECENT_NS:
            node["mtime"] = "recent"
        out[path] = node
    return out


def differences(old, new, ignore=(), same_history=True):
    """Readable lines, none if equal; `ignore`: fields that do not count. same_history=False: see without_history."""
    if not same_history:
        old, new = without_history(old), without_history(new)
    lines = []
    for path in sorted(old.keys() | new.keys()):
        a, b = old.get(path), new.get(path)
        if a is None or b is None:
            lines.append(f"{path}: {'only in the second' if a is None else 'only in the first'} ({(a or b)['type']})")
            continue
        lines += [f"{path}: {field} {a.get(field)} -> {b.get(field)}" for field in sorted(a.keys() | b.keys())
                  if field not in ignore and a.get(field) != b.get(field)]
    return lines


def assert_same(old, new, what="trees", **options):
    lines = differences(old, new, **options)
    if lines:
        more = f"\n... {len(lines) - 40} more" if len(lines) > 40 else ""
        raise AssertionError(f"{what} differ in {len(lines)} places:\n" + "\n".join(lines[:40]) + more)


def main(args):
    if len(args) == 3 and args[0] == "scan":
        write(args[2], scan(args[1]))
        return 0
    if len(args) == 3 and args[0] == "compare":
        lines = differences(read(args[1]), read(args[2]), same_history=False)
        print("\n".join(lines))
        return 1 if lines else 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
