"""What the tests of jfs-recover share: running it, reading its report, and looking at trees."""
import hashlib
import json
import os
import subprocess

from volume import JFS_RECOVER

CLEAN, REPAIRED, BACKLOG, BROKEN, CANNOT, USAGE = 0, 1, 2, 4, 8, 16


def recover(t, *words, status):
    return t.run(JFS_RECOVER, *words, status=status)


def check(t, m, *words, status):
    """Runs check; the JSON, whose verdict must agree with the exit status."""
    r = json.loads(recover(t, "check", "--json", "--cache-dir", m.cache, *words, status=status))
    assert r["exit"] == status and r["command"] == "check", r
    assert r["result"] == {CLEAN: "clean", BACKLOG: "backlog", BROKEN: "broken"}[status], r
    return r


def states(r):
    return {e["path"]: e["state"] for e in r["only_here"]}


def kill(m):
    m.kill()
    subprocess.run(["umount", "-l", m.dir], check=True)


def fill(m):
    os.makedirs(m.path("a/b"))
    for path, data in (("a/b/f", b"hello\n"), ("big", os.urandom(3 << 20)), ("a/odd\n\\name", b"x"), ("tmp", b"t")):
        with open(m.path(path), "wb") as f:
            f.write(data)
    os.symlink("f", m.path("a/b/link"))
    os.unlink(m.path("tmp"))
    os.rename(m.path("a/b"), m.path("a/c"))


def cache_of(m):
    return os.path.join(m.cache, next(n for n in os.listdir(m.cache) if os.path.isdir(os.path.join(m.cache, n, "base"))))


def lease(volume, **fields):
    """Reads the lease, or changes fields of it."""
    with volume.redis.client(volume.db) as c:
        for name, value in fields.items():
            c("HSET", "zjfs", name, value)
        flat = c("HGETALL", "zjfs")
        return {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}


def exported(t, m, target, *words, status):
    r = json.loads(recover(t, "export", "--apply", "--json", "--cache-dir", m.cache, target, *words, status=status))
    assert r["exit"] == status and r["command"] == "export", r
    return r


def bytes_of(path):
    with open(path, "rb") as f:
        return f.read()


def listing(top):
    """{path: what it is}: type, mode, owner, mtime, bytes or target."""
    out = {}
    for folder, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            body = os.readlink(path) if os.path.islink(path) else hashlib.sha256(bytes_of(path)).hexdigest() if os.path.isfile(path) else None
            mtime = None if os.path.islink(path) else st.st_mtime_ns
            out[os.path.relpath(path, top)] = (st.st_mode, st.st_uid, st.st_gid, st.st_rdev, mtime, body)
    return out


# What setcap cap_net_bind_service+ep writes. Who changes the owner of a file takes it away.
CAPABILITY = (2 << 24 | 1).to_bytes(4, "little") + (1 << 10).to_bytes(4, "little") + b"\0" * 12


def without_private(keys):
    """What a dump and a load leave."""
    return {k: v for k, v in keys.items() if not k.startswith("z") and k not in ("allSessions", "sessionInfos")}
