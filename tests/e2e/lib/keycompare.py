"""Do two volumes hold the same, whatever inodes, slices and times they happened to get?

facts(Keyspace) rewrites a keyspace as {fact: value} in which equal histories are equal:

  inodes are called by a path ("/d/f", of several names the first in order). An entry of the trash, which its hour
  directory calls PARENT-INODE-NAME, is called "/.trash/PARENT'S PATH|NAME", and further ones "#2", "#3" in order of
  inode; hour directories vanish. Open unlinked inodes are "open#N", unreachable ones "lost#N"
  slices are numbered in the order of paths, chunks and records. Unless `exact`, only which bytes below the end of file
  are data counts, since replay may cut and merge slices as it likes; reference counts are keycheck's business
  a time from 2020 on is "now"; earlier ones were set by the operations and are compared to the nanosecond
  ACL ids become the rule; link counts of 0 and below vanish

Left out: our private keys (z...), sessions, locks' owners, counters of ids and background jobs, the change log, the
last backup, statistics of directories that are gone or of hour directories, and of the setting the name, UUID, bucket
and secrets.
"""
import re

from keyspace import CHUNK, DIR, ROOT, STAT_HASHES, TRASH, TYPE_NAMES, name_text

RECENT = 1577836800  # 2020-01-01
HOUR = "/.trash/hour"
QUOTA_HASHES = tuple(f"{kind}Quota{what}" for kind in ("dir", "user", "group") for what in ("", "UsedSpace", "UsedInodes"))
PARSED = re.compile(r"z.*|setting|allSessions|sessionInfos|locked\d+|(last|next)[A-Za-z]+|txn.*|acl|aclMaxId"
                    r"|delSlices|sliceRef|delfiles|session\d+|[idpxs]\d+|c\d+_\d+|lock[fp]\d+")


class Labels:
    """Gives every inode of a keyspace a name that does not depend on its number."""

    def __init__(self, ks):
        self.ks, self.names, self.trash = ks, {}, {}
        self.walk(ROOT, "/")
        if TRASH in ks.inodes:
            self.names[TRASH] = "/.trash"
            self.name_trash()
        for kind, rest in (("open", ks.sustained_inodes()), ("lost", ks.inodes)):
            for n, ino in enumerate(sorted(i for i in rest if i not in self.names), 1):
                self.names[ino] = f"{kind}#{n}"

    def of(self, ino):
        return self.names.get(ino, "gone")

    def walk(self, top, path):
        queue = [(top, path)]
        for ino, path in queue:  # grows while it is walked: breadth first
            if ino not in self.names:
                self.names[ino] = path
                queue.extend((child, path.rstrip("/") + "/" + name_text(name))
                             for name, (_, child) in sorted(self.ks.entries.get(ino, {}).items()))

    def name_trash(self):
        waiting = []
        for _, hour in self.ks.entries.get(TRASH, {}).values():
            self.names[hour] = HOUR
            for name, (_, ino) in self.ks.entries.get(hour, {}).items():
                parent, _, plain = name.split(b"-", 2)
                waiting.append((ino, int(parent), name_text(plain)))
        waiting.sort()
        taken = {}
        while waiting:
            ready = [w for w in waiting if w[1] in self.names] or waiting
            for ino, parent, plain in ready:
                base = f"/.trash/{self.of(parent)}|{plain}"
                taken[base] = taken.get(base, 0) + 1
                path = base if taken[base] == 1 else f"{base}#{taken[base]}"
                self.trash[path] = ino
                self.walk(ino, path)
            waiting = [w for w in waiting if w not in ready]


def time_fact(stamp):
    return "now" if stamp[0] >= RECENT else "%d.%09d" % stamp


def facts(ks, exact=False, leave_out=()):
    labels, out = Labels(ks), {}
    for ino, inode in ks.inodes.items():
        if labels.of(ino) != HOUR:
            out["inode " + labels.of(ino)] = inode_fact(ks, labels, inode, leave_out)
    for parent, table in ks.entries.items():
        if labels.of(parent) not in ("/.trash", HOUR):
            for name, (kind, child) in table.items():
                path = labels.of(parent).rstrip("/") + "/" + name_text(name)
                out["entry " + path] = f"{TYPE_NAMES.get(kind, kind)} {labels.of(child)}"
    out.update(("entry " + path, labels.of(ino)) for path, ino in labels.trash.items())
    for ino, links in ks.parents.items():
        links = sorted((labels.of(p), n) for p, n in links.items() if n > 0)
        if links:
            out["links " + labels.of(ino)] = links
    for ino, target in ks.targets.items():
        out["target " + labels.of(ino)] = name_text(target)
    for ino, table in ks.xattrs.items():
        table = {k: v for k, v in table.items() if (ino, k) != (ROOT, "lastBackup")}
        if table:
            out["xattrs " + labels.of(ino)] = sorted(table.items())
    (exact_slices if exact else visible_data)(ks, labels, out)
    stat_facts(ks, labels, out)
    other_facts(ks, labels, out)
    return out


def inode_fact(ks, labels, inode, leave_out):
    fields = inode._asdict()
    for stamp in ("atime", "mtime", "ctime"):
        fields[stamp] = time_fact(fields[stamp])
    fields.update(parent=labels.of(inode.parent) if inode.parent else "links", mode="%04o" % inode.mode,
                  type=TYPE_NAMES.get(inode.type, inode.type),
                  acl=[ks.table("acl").get(str(a), "missing") if a else "" for a in inode.acl])
    return {k: v for k, v in fields.items() if k not in leave_out}


def ordered_chunks(ks, labels):
    return sorted(ks.chunks.items(), key=lambda item: (labels.of(item[0][0]), item[0]))


def visible_data(ks, labels, out):
    for (ino, index), records in ordered_chunks(ks, labels):
        if ino in ks.inodes:
            runs = data_runs(records, ks.inodes[ino].length - index * CHUNK)
            if runs:
                out[f"data {labels.of(ino)} {index}"] = runs


def data_runs(records, end):
    """[(from, to)] in which the list shows a slice's bytes, not zeros; later records hide earlier ones."""
    edges = sorted({0, max(0, min(end, CHUNK))} | {min(e, max(end, 0)) for r in records for e in (r.pos, r.pos + r.len)})
    runs = []
    for a, b in zip(edges, edges[1:]):
        top = next((r for r in reversed(records) if r.pos <= a and b <= r.pos + r.len), None)
        if top is None or not top.id:
            continue
        if runs and runs[-1][1] == a:
            runs[-1] = (runs[-1][0], b)
        else:
            runs.append((a, b))
    return runs


def exact_slices(ks, labels, out):
    numbers = {}

    def number(slice_id):
        return f"s{numbers.setdefault(slice_id, len(numbers) + 1)}"

    for (ino, index), records in ordered_chunks(ks, labels):
        out[f"list {labels.of(ino)} {index}"] = [
            (r.pos, number(r.id), r.size, r.off, r.len) if r.id else (r.pos, "hole", r.len) for r in records]
    for field, tuples in sorted(ks.delayed.items(), key=lambda item: int(item[0].split("_")[0])):
        out["delayed " + number(int(field.split("_")[0]))] = [(number(s), size) for s, size in tuples]
    for (slice_id, size), count in ks.slice_refs.items():
        if count > 0:
            out[f"references {number(slice_id)} {size}"] = count


def stat_facts(ks, labels, out):
    for name in STAT_HASHES:
        for ino, value in ks.dir_stats[name].items():
            if ino in ks.inodes and ks.inodes[ino].type == DIR and labels.of(ino) != HOUR:
                out[f"{name} {labels.of(ino)}"] = value
    for name in QUOTA_HASHES:
        for who, value in ks.table(name).items():
            label = labels.of(int(who)) if name.startswith("dir") else who
            out[f"{name} {label}"] = value


def other_facts(ks, labels, out):
    out["open"] = sorted(map(labels.of, ks.sustained_inodes()))
    out["delfiles"] = sorted(ks.delfiles.values())
    hidden = {"UUID", "Name", "Bucket", "EncryptKey", "SecretKey", "AccessKey", "SessionToken"}
    out["setting"] = {k: v for k, v in sorted(ks.setting.items()) if k not in hidden}
    for key, entry in ks.keys.items():
        (kind, value), = entry.items()
        m = re.fullmatch(r"lock([fp])(\d+)", key)
        if m:  # each lock without its owner; of POSIX locks without the pid as well
            cut = (lambda v: v) if m[1] == "f" else (lambda v: [v[a:a + 8] + v[a + 16:a + 48] for a in range(0, len(v), 48)])
            out[f"lock {m[1]} {labels.of(int(m[2]))}"] = sorted(map(cut, value.values()))
        elif not PARSED.fullmatch(key) and key not in STAT_HASHES + QUOTA_HASHES:
            out["key " + key] = bytes.fromhex(value).decode("latin-1") if kind == "string" else value


def differences(old, new, exact=False, ignore=(), leave_out=()):
    """Readable lines, none if equal. `ignore`: regular expressions of facts; `leave_out`: fields of inodes."""
    a, b = (facts(ks, exact, leave_out) for ks in (old, new))
    lines = []
    for fact in sorted(a.keys() | b.keys()):
        if a.get(fact) == b.get(fact) or any(re.fullmatch(pattern, fact) for pattern in ignore):
            continue
        x, y = a.get(fact, "(absent)"), b.get(fact, "(absent)")
        if isinstance(x, dict) and isinstance(y, dict):
            keys = [k for k in sorted(x.keys() | y.keys()) if x.get(k) != y.get(k)]
            x, y = (", ".join(f"{k}={v.get(k, '(absent)')}" for k in keys) for v in (x, y))
        lines.append(f"{fact}: {x} -> {y}")
    return lines
