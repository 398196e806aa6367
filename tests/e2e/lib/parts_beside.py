"""More parts of the campaigns (parts.py): kills around the repair of conflicts, of jfs-recover export, and of rebase."""
import os
import random
import signal
import stat
import subprocess

from crashes import SEAM, Victim, Violation, apart
from model import ALL_FEATURES, History, tree_of
from recovering import without_private
from servers import RedisServer
from volume import JFS, JFS_RECOVER, Mount, Volume

# What a flush passes that meets a conflict, repairs it and goes on.
CONFLICT = ("redis.conflict.after_repair", "journal.commit.before", "journal.commit.after", "journal.swap",
            "journal.flush.before_base", "journal.flush.before_commit", "journal.flush.after_commit", "hot.reset.before",
            "redis.replay.before_script", "redis.replay.after_script", "redis.replay.before_applied",
            "journal.commit.window.before", "journal.commit.window.after", "journal.commit.applied.before",
            "journal.commit.applied.after")
EXPORT_DONE, CANNOT = 1, 8
# What a rebase passes itself, and what the daemon passes that it works through.
REBASE = ("recover.rebase.before_aside", "recover.rebase.after_aside", "recover.rebase.before_rename", "recover.rebase.before_done",
          "lease.acquire.after", "journal.flush.before_commit", "journal.flush.after_commit", "redis.replay.before_script",
          "redis.replay.after_script", "upload.before_put")


def dead(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        return f.read().rpartition(")")[2].split()[0] == "Z"


def make_ours(v, n):
    """A file and a directory with a file in it, and a name that has no room for what is put behind it."""
    names = [f"c{n}-f", f"c{n}-d", f"c{n}-" + "n" * 250]
    for name in (names[0], names[2]):
        with open(v.m.path(name), "wb") as f:
            f.write(name.encode())
    os.mkdir(v.m.path(names[1]))
    with open(v.m.path(names[1], "in"), "wb") as f:
        f.write(names[1].encode())
    return names


def check_both(v, names, theirs):
    """P1 and the promise of both: theirs keep the names, and ours are there once, with their bytes."""
    here = os.listdir(v.m.dir)
    for name, ino in theirs.items():
        found = os.stat(v.m.path(name))
        kept = [k for k in here if ".conflict-" in k and k.startswith(name[:4]) and name.startswith(k.split(".conflict-")[0])]
        if found.st_ino != ino or len(kept) != 1:
            raise Violation(f"{name[:30]} is inode {found.st_ino}, theirs is {ino}; beside it {kept}", v.workers.program())
        path = v.m.path(kept[0], "in") if stat.S_ISDIR(found.st_mode) else v.m.path(kept[0])
        with open(path, "rb") as f:
            if f.read() != name.encode():
                raise Violation(f"{kept[0][:40]} has not our bytes", v.workers.program())


def conflict_life(v, n, env):
    """Ours are acknowledged, we are killed, a client makes the same names, and the next daemon dies as it meets them."""
    names = make_ours(v, n)
    alive = v.workers.run(v.work, 10)
    v.workers.close()
    assert alive
    v.end_daemon(signal.SIGKILL)
    v.detach()
    theirs = {name: v.volume.made_beside(name, 2 if name.endswith("-d") else 1) for name in names}
    if v.try_mount(env):
        v.t.run(JFS, "flush", v.m.dir, status=None, timeout=60)
        v.missed += not dead(v.m.pid)
        v.end_daemon(signal.SIGKILL)
    v.kills += 2
    v.recover()
    v.m.flush()
    check_both(v, names, theirs)
    return names, theirs


def kill_conflicts(t, seed, points=5):
    """HISTORIES 57 under kills: at the named points of replay and repair, and in front of any call of the C library."""
    rng, lives = random.Random(seed), []
    with apart(t, "conflicts") as sub:
        redis = RedisServer(sub)
        sub.defer(redis.kill)
        v = Victim(sub, Volume(sub, redis).format("--trash-days", "0"), seed, "--upload-delay=1h")
        v.m.flush()
        for n, point in enumerate([CONFLICT[0], *rng.sample(CONFLICT, points), None]):
            env = {"JFS_FAULT": f"{point}:{rng.choice((1, 1, 2, 3))}:kill"} if point else \
                {"LD_PRELOAD": SEAM, "JFS_SEAM": f"any:{int(2 ** rng.uniform(6, 10))}:kill"}
            lives.append(conflict_life(v, n, env))
        for names, theirs in lives:
            check_both(v, names, theirs)
        v.finish()
        return {"kills": v.kills, "recovery_kills": v.recovery_kills, "missed": v.missed,
                "operations": v.workers.operations() + 5 * len(lives)}


class NoVolume:
    """For mounts and tools that ask nobody."""
    s3 = None

    @staticmethod
    def url(_query="", _port=None):
        return "redis://127.0.0.1:1/0"


def kill_export(t, seed, lives=6):
    """What an export leaves when it is killed is whole, and the next one finishes it; the journal is not touched."""
    rng = random.Random(seed)
    with apart(t, "export") as sub:
        m = Mount(sub, NoVolume, "--local-only")
        history = History(seed, ALL_FEATURES - {"link"})
        os.mkdir(m.path("work"))
        assert history.run(m.path("work"), 150)
        history.real.close()
        want = bodies(m.path("work"))
        m.kill()
        subprocess.run(["umount", "-l", m.dir], check=True)
        target, killed = sub.path("out"), 0
        for _ in range(lives):
            env = {"JFS_FAULT": f"recover.export.before_rename:{rng.randint(1, 12)}:kill"} if rng.random() < 0.5 else \
                {"LD_PRELOAD": SEAM, "JFS_SEAM": f"any:{int(2 ** rng.uniform(0, 9))}:kill", "JFS_SEAM_DIR": target}
            sub.run(JFS_RECOVER, "export", "--apply", "--cache-dir", m.cache, target, status=None, env=env, timeout=60)
            killed += sub.status not in (0, EXPORT_DONE)
            here = bodies(os.path.join(target, "work"))
            wrong = {p for p, body in here.items() if p in want and body[0] == "file" and body != want[p]}
            if wrong:
                raise Violation(f"seed {seed}: a killed export has left {sorted(wrong)[:5]} with other bytes", [])
        sub.run(JFS_RECOVER, "export", "--apply", "--cache-dir", m.cache, target, status=EXPORT_DONE, timeout=60)
        here = bodies(os.path.join(target, "work"))
        if here != want:
            diff = sorted(p for p in {*here, *want} if here.get(p) != want.get(p))
            raise Violation(f"seed {seed}: exported otherwise than it was: {diff[:5]}", [])
        m.mount()
        history.check_exact(tree_of(m.path("work")))
        m.umount()
        return {"kills": 1, "recovery_kills": killed, "operations": len(history.ops)}


def kill_rebase(t, seed, lives=8):
    """A journal whose Redis was reloaded in the middle of its history comes back whole, however often its rebase is killed."""
    rng = random.Random(seed)
    with apart(t, "rebase") as sub:
        redis = RedisServer(sub)
        sub.defer(redis.kill)
        volume = Volume(sub, redis).format("--trash-days", "0")
        m = Mount(sub, volume, "--writeback", "--upload-delay", "1h")
        history = History(seed)
        os.mkdir(m.path("work"))
        assert history.run(m.path("work"), 100)
        m.flush()
        dump = without_private(volume.keys())
        assert history.run(m.path("work"), 200)
        history.real.close()
        m.kill()
        subprocess.run(["umount", "-l", m.dir], check=True)
        volume.put_back(dump)
        command = [JFS_RECOVER, "rebase", "--apply", "--delete", "--trust-objects", "--cache-dir", m.cache, "--hot-dir", m.hot, m.url()]
        killed = 0
        for _ in range(lives):
            env = {"JFS_FAULT": f"{rng.choice(REBASE)}:{int(2 ** rng.uniform(0, 5))}:kill"} if rng.random() < 0.7 else \
                {"LD_PRELOAD": SEAM, "JFS_SEAM": f"any:{int(2 ** rng.uniform(0, 9))}:kill", "JFS_SEAM_DIR": m.cache}
            sub.run(*command, status=None, env=env, timeout=90)
            killed += sub.status == CANNOT
            if rng.random() < 0.15: # somebody tries another backup
                volume.put_back(dump)
        sub.run(*command, status=None, timeout=90)
        if sub.status not in (0, EXPORT_DONE, CANNOT):
            raise Violation(f"seed {seed}: a rebase that was killed does not end: exit {sub.status}", [])
        m.mount()
        history.check_exact(tree_of(m.path("work")))
        m.umount(flush=True)
        volume.check()
        return {"kills": 1, "recovery_kills": killed, "operations": len(history.ops)}


def bodies(top):
    """{path: (kind, mode, bytes or target)} of a plain tree."""
    out = {}
    for folder, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                body = ("symlink", 0, os.readlink(path))
            elif stat.S_ISDIR(mode):
                body = ("dir", stat.S_IMODE(mode), None)
            else:
                with open(path, "rb") as f:
                    body = ("file", stat.S_IMODE(mode), f.read())
            out[os.path.relpath(path, top)] = body
    return out
