#!/usr/bin/env python3
"""The keys of a JuiceFS volume: JSON files, Redis databases, and a parsed view. Standard library only.

keyspace.py dump URL FILE | load [--bucket DIR] FILE URL | check FILE [BUCKET] | compare [--exact] A B | show FILE

A file is {"format": "jfs-keyspace-1", "keys": {NAME: {TYPE: CONTENT}}} with every key of the database, lossless.
Values (strings, list elements, hash values) are hex. Names (keys, hash fields, members) are text: printable ASCII as
it is, a backslash doubled, any other byte as \\xNN. A set is a sorted list, a sorted set maps member to score text.
The layouts parsed here are those of the format's specification, sections 2.2 to 2.13. Checks are in keycheck.py, the
comparison in keycompare.py.
"""
import contextlib
import json
import os
import re
import struct
import sys
import time
from collections import namedtuple

from resp import Resp, RespError

FORMAT = "jfs-keyspace-1"
ROOT = 1
TRASH = 0x7FFFFFFF10000000
CHUNK = 64 << 20
FILE, DIR, SYMLINK = 1, 2, 3
TYPE_NAMES = {1: "file", 2: "dir", 3: "symlink", 4: "fifo", 5: "block", 6: "char", 7: "socket"}
STAT_HASHES = ("dirDataLength", "dirUsedSpace", "dirUsedInodes")

Record = namedtuple("Record", "pos id size off len")
Inode = namedtuple("Inode", "flags type mode uid gid atime mtime ctime nlink length rdev parent acl tier bytes")


def name_text(raw):
    return "".join("\\\\" if c == 0x5C else chr(c) if 0x20 <= c < 0x7F else "\\x%02x" % c for c in raw)


def name_bytes(text):
    out, at = bytearray(), 0
    for m in re.finditer(r"\\(?:\\|x([0-9a-f]{2}))", text):
        out += text[at:m.start()].encode("ascii")
        out.append(int(m[1], 16) if m[1] else 0x5C)
        at = m.end()
    return bytes(out + text[at:].encode("ascii"))


# files and databases

def read_file(path):
    with open(path, encoding="ascii") as f:
        doc = json.load(f)
    if doc.get("format") != FORMAT:
        raise ValueError(f"{path}: not a {FORMAT} file")
    return doc["keys"]


def write_file(path, keys):
    with open(path, "w", encoding="ascii") as f:
        json.dump({"format": FORMAT, "keys": keys}, f, indent=0, separators=(",", ":"))
        f.write("\n")


def couples(flat):
    it = iter(flat)
    return sorted(zip(it, it))


READERS = {
    "string": (lambda k: ("GET", k), lambda v: v.hex()),
    "list": (lambda k: ("LRANGE", k, 0, -1), lambda v: [e.hex() for e in v]),
    "hash": (lambda k: ("HGETALL", k), lambda v: {name_text(f): e.hex() for f, e in couples(v)}),
    "set": (lambda k: ("SMEMBERS", k), lambda v: sorted(map(name_text, v))),
    "zset": (lambda k: ("ZRANGE", k, 0, -1, "WITHSCORES"), lambda v: {name_text(m): s.decode() for m, s in couples(v)}),
}


@contextlib.contextmanager
def writers_held(client, seconds=600):
    """Whoever writes to this Redis, scripts included, waits until the body is done. One that runs is waited for."""
    end = time.monotonic() + seconds
    while True:
        try:
            client("CLIENT", "PAUSE", seconds * 1000, "WRITE")
            break
        except RespError as e:
            if not str(e).startswith("BUSY ") or time.monotonic() > end:
                raise
            time.sleep(0.02)
    end = time.monotonic() + seconds
    try:
        yield
    finally:
        client("CLIENT", "UNPAUSE")
    assert time.monotonic() < end, f"others may have written: it took more than {seconds} s"


def dump_db(client):
    """Every key of the client's database as all of them are at one moment: a writer may be at work."""
    with writers_held(client):
        return read_db(client)


def read_db(client):
    found, cursor = set(), None
    while cursor != b"0":
        cursor, part = client("SCAN", cursor or b"0", "COUNT", 1000)
        found.update(part)
    names = sorted(found)
    types = [t.decode() for t in client.pipeline(("TYPE", n) for n in names)]
    values = client.pipeline(READERS[t][0](n) for n, t in zip(names, types))
    return {name_text(n): {t: READERS[t][1](v)} for n, t, v in zip(names, types, values)}


def load_commands(keys):
    for text, entry in keys.items():
        name = name_bytes(text)
        (kind, value), = entry.items()
        if kind == "string":
            yield "SET", name, bytes.fromhex(value)
            continue
        verb, words = {
            "list": lambda: ("RPUSH", [[bytes.fromhex(e)] for e in value]),
            "set": lambda: ("SADD", [[name_bytes(m)] for m in value]),
            "hash": lambda: ("HSET", [[name_bytes(f), bytes.fromhex(e)] for f, e in value.items()]),
            "zset": lambda: ("ZADD", [[score, name_bytes(m)] for m, score in value.items()]),
        }[kind]()
        for at in range(0, len(words), 400):
            yield (verb, name, *(w for group in words[at:at + 400] for w in group))


def load_db(client, keys, bucket=None):
    """Loads the keys into the client's database, which must be empty; `bucket` replaces the volume's bucket."""
    if client("DBSIZE"):
        raise ValueError("the database is not empty")
    if bucket is not None:
        keys = with_setting(keys, Bucket=bucket)
    load_keys(client, keys)


def replace_db(client, keys):
    """The database is what it was when `keys` were read, in one step: whoever is at work never sees it empty, or half loaded."""
    client.pipeline([("MULTI",), ("FLUSHDB",), *load_commands(keys), ("EXEC",)])


def load_keys(client, keys):
    """Loads keys that are not there yet, beside others."""
    client.pipeline(load_commands(keys))


def setting_of(keys):
    return json.loads(bytes.fromhex(keys["setting"]["string"]))


def with_setting(keys, **fields):
    """A copy of the keys whose volume setting has these fields changed."""
    setting = dict(setting_of(keys), **fields)
    return dict(keys, setting={"string": json.dumps(setting, indent=0).encode().hex()})


# the parsed view

def parse_inode(raw):
    """Section 2.4. Raises struct.error on a record that is too short."""
    flags, typemode, uid, gid, at, atns, mt, mtns, ct, ctns, nlink, length, rdev, parent = \
        struct.unpack_from(">BHIIqIqIqIIQIQ", raw)
    rest, acl, tier = raw[71:], (0, 0), 0
    if len(rest) >= 8:
        acl, rest = struct.unpack_from(">II", rest), rest[8:]
    if len(rest) >= 2:
        tier = rest[0]
    return Inode(flags, typemode >> 12, typemode & 0xFFF, uid, gid, (at, atns), (mt, mtns), (ct, ctns), nlink, length,
                 rdev, parent, acl, tier, len(raw))


def parse_tuples(raw):
    return [struct.unpack_from(">QI", raw, at) for at in range(0, len(raw) - len(raw) % 12, 12)]


class Keyspace:
    """All keys, sorted into tables. What does not parse is left out of its table and told in `malformed`."""

    def __init__(self, keys):
        self.keys = keys
        self.malformed = []
        self.setting = setting_of(keys) if "setting" in keys else {}
        self.inodes, self.entries, self.parents, self.chunks = {}, {}, {}, {}
        self.xattrs, self.targets, self.sustained = {}, {}, {}
        for key, entry in keys.items():
            m = re.fullmatch(r"([idpxs]|session)(\d+)|c(\d+)_(\d+)", key)
            if m:
                (kind, value), = entry.items()
                self.take(key, m, kind, value)
        self.slice_refs = {}
        for field, value in self.table("sliceRef").items():
            m = re.fullmatch(r"k(\d+)_(\d+)", field)
            if m:
                self.slice_refs[int(m[1]), int(m[2])] = int(bytes.fromhex(value))
            else:
                self.malformed.append(f"sliceRef: field {field}")
        self.delayed = {}
        for field, value in self.table("delSlices").items():
            raw = bytes.fromhex(value)
            if len(raw) % 12 or not raw or not re.fullmatch(r"\d+_\d+", field):
                self.malformed.append(f"delSlices: {field} with {len(raw)} bytes")
            self.delayed[field] = parse_tuples(raw)
        self.delfiles = {int(m.split(":")[0]): int(m.split(":")[1]) for m in self.table("delfiles", "zset")}
        self.dir_stats = {h: {int(i): int(bytes.fromhex(n)) for i, n in self.table(h).items()} for h in STAT_HASHES}

    def take(self, key, match, kind, value):
        want = {"i": "string", "d": "hash", "p": "hash", "x": "hash", "s": "string", "session": "set",
                None: "list"}[match[1]]
        if kind != want:
            self.malformed.append(f"{key}: a {kind}, not a {want}")
            return
        if match[1] is None:
            records = [bytes.fromhex(e) for e in value]
            if any(len(r) != 24 for r in records):
                self.malformed.append(f"{key}: a slice record that is not 24 bytes")
            self.chunks[int(match[3]), int(match[4])] = [Record(*struct.unpack(">IQIII", r)) for r in records
                                                         if len(r) == 24]
            return
        ino = int(match[2])
        if match[1] == "i":
            raw = bytes.fromhex(value)
            if len(raw) not in (72, 73, 80, 81) or raw[-1]:
                self.malformed.append(f"{key}: record of {len(raw)} bytes, the last {raw[-1:].hex()}")
            if len(raw) >= 71:
                self.inodes[ino] = parse_inode(raw)
        elif match[1] == "d":
            table = self.entries.setdefault(ino, {})
            for field, hexed in value.items():
                raw = bytes.fromhex(hexed)
                if len(raw) == 9:
                    table[name_bytes(field)] = struct.unpack(">BQ", raw)
                else:
                    self.malformed.append(f"{key}: entry {field} of {len(raw)} bytes")
        elif match[1] == "p":
            self.parents[ino] = {int(p): int(bytes.fromhex(n)) for p, n in value.items()}
        elif match[1] == "x":
            self.xattrs[ino] = value
        elif match[1] == "s":
            self.targets[ino] = bytes.fromhex(value)
        else:
            self.sustained[ino] = {int(member) for member in value}

    def table(self, key, kind="hash"):
        return self.keys.get(key, {}).get(kind, {})

    def counter(self, key):
        return int(bytes.fromhex(self.keys.get(key, {}).get("string", "30")))

    def sustained_inodes(self):
        return set().union(*self.sustained.values()) if self.sustained else set()

    def child_inodes(self, ino):
        return [child for _, child in self.entries.get(ino, {}).values()]


def space_of(inode):
    """What an inode counts in usedSpace (section 0, A4K)."""
    return max(4096, (inode.length + 4095) // 4096 * 4096) if inode.type == FILE else 4096


def object_names(setting, slice_id, size):
    """(path below the bucket as Bucket says it with the shard put in, plain size) of each block (section 4.4, 4.7)."""
    block, name = setting["BlockSize"] * 1024, setting["Name"]
    for index in range((size + block - 1) // block):
        plain = min(block, size - index * block)
        if setting.get("HashPrefix"):
            group = f"{slice_id % 256:02X}/{slice_id // 1000000}"
        else:
            group = f"{slice_id // 1000000}/{slice_id // 1000}"
        yield f"{name}/chunks/{group}/{slice_id}_{index}_{plain}", plain


def shard_of(setting, key):
    """The shard number of a full object key: FNV-1a."""
    h = 0x811C9DC5
    for c in key.encode():
        h = (h ^ c) * 0x01000193 & 0xFFFFFFFF
    return h % setting["Shards"]


def object_path(setting, bucket, key):
    """Where a file bucket keeps the key; `bucket` is the directory, with its %d if the volume is sharded."""
    if setting.get("Shards", 0) > 1:
        bucket = bucket.replace("%d", str(shard_of(setting, key)))
    return os.path.join(bucket, key)


def main(args):
    import keycheck
    import keycompare
    verb, rest = (args[0], args[1:]) if args else ("", [])
    if verb == "dump" and len(rest) == 2:
        write_file(rest[1], dump_db(Resp(rest[0])))
    elif verb == "load" and len(rest) in (2, 4):
        load_db(Resp(rest[-1]), read_file(rest[-2]), rest[1] if len(rest) == 4 else None)
    elif verb == "check" and rest:
        report = keycheck.check(Keyspace(read_file(rest[0])), *rest[1:])
        print("\n".join(report.problems + ["note: " + n for n in report.notes]))
        return 1 if report.problems else 0
    elif verb == "compare" and len(rest) >= 2:
        lines = keycompare.differences(*(Keyspace(read_file(f)) for f in rest[-2:]), exact="--exact" in rest)
        print("\n".join(lines))
        return 1 if lines else 0
    elif verb == "show" and len(rest) == 1:
        for fact, value in sorted(keycompare.facts(Keyspace(read_file(rest[0])), exact=True).items()):
            print(fact, value)
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
