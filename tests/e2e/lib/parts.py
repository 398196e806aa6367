"""The parts of which all crash campaigns are made: test_faults.py runs each once, fault-injection/campaign for hours.

Each part takes a Test and a seed and returns what it did, {"kills", "recovery_kills", "cuts", "operations", ...}. A
violation is made short (shrink.py), written to $JFS_FAULTS_OUT, and raised."""
import contextlib
import errno
import functools
import os
import random
import signal

from crashes import SEAM, CutRun, Victim, Violation, apart, fault_points
from core import Timeout, wait_until
from faults import TcpFault
from model import GONE, tree_of
from parts_beside import kill_conflicts, kill_export, kill_rebase
from parts_shared import kill_shared
from servers import RedisServer
from shrink import Replay, minimize, save
from volume import JFS, Mount, Volume

# Met only in other lives: damage, jfs-recover export and rebase, another client that writes into the volume (parts_beside.py),
# recovery after a power cut (power_cuts, and tests/unit/test_synclog.c), and packs that are emptied (test_pack.py).
ELSEWHERE = ("recovery.setaside", "redis.conflict.after_repair", "recover.export.before_rename", "recover.rebase.before_aside",
             "recover.rebase.after_aside", "recover.rebase.before_rename", "recover.rebase.before_done", "recovery.sync.before_put",
             "recovery.sync.before_void", "redis.repack.before_durable", "redis.repack.after_durable")
UNSAFE = ("redis.replay.before_pipeline", "redis.replay.after_pipeline")
LOADS = ("journal.commit.load.before", "journal.commit.load.after")
# What comes late: when objects are confirmed, Redis has their names, and the retention is over.
LATE = ("staging.reclaim.before", "staging.reclaim.after", "journal.commit.trim.before", "journal.commit.trim.after",
        "journal.commit.reap.before", "journal.commit.reap.after")
RECOVERY = ("recovery.step", "recovery.before_base", "recovery.after_base", "recovery.before_empty", "staging.verify",
            "hot.reset.before", "hot.reset.after", "journal.flush.before_commit", "journal.commit.meta.before",
            "journal.commit.meta.after", "lease.acquire.before", "lease.acquire.after", "hot.allocate")
CALLS = ("write", "sync", "read", "make", "name", "space")


def victim(t, seed, *options, **more):
    redis = RedisServer(t)
    t.defer(redis.kill)
    return Victim(t, Volume(t, redis).format("--trash-days", "0"), seed, *options, **more)


def shortened(t, seed, spec, violation, seconds=120):
    """Raises the violation again, with the shortest program that was found."""
    folder = os.environ.get("JFS_FAULTS_OUT") or t.log_dir
    path = os.path.join(folder, f"violation-{str(seed).replace('/', '-')}.py")
    replay = Replay(t, spec)
    if replay.fails(violation.program):
        short = minimize(violation.program, replay.fails, seconds)
        text = f"{len(short)} of {len(violation.program)} operations are enough:\n  " + "\n  ".join(map(repr, short[:40]))
    else:
        short, text = violation.program, "one operation after the other does not show it; the whole program is kept"
    save(path, spec, short)
    raise Violation(f"seed {seed}: {violation}\n{text}\nwritten to {path}", short) from violation


def totals_of(v):
    return {"kills": v.kills, "recovery_kills": v.recovery_kills, "missed": v.missed,
            "operations": v.workers.operations()}


def kills(t, seed, rounds, *options, query=""):
    """`rounds(victim, rng)` does the work; then everything is drained and compared."""
    with apart(t, "kills") as sub:
        try:
            v = victim(sub, seed, *options, query=query)
            rounds(v, random.Random(seed))
            v.finish()
            return totals_of(v)
        except Violation as e:
            violation = e
    return shortened(t, seed, {"kind": "kill", "options": list(options), "query": query}, violation)


def random_kills(t, seed, n=8):
    def rounds(v, rng):
        for _ in range(n):
            v.round(after=rng.uniform(0.02, 0.5), count=10 ** 6)
    return kills(t, seed, rounds)


def kill_points(t, seed, share=1):
    """Every named point, or a share of them, at its first passage or a later one."""
    met = set()

    def rounds(v, rng):
        points = [p for p in fault_points() if p not in ELSEWHERE + LATE + LOADS + UNSAFE]
        points = rng.sample(points, int(len(points) * share))
        for point in points:
            before = v.missed
            for hit in sorted({rng.choice((1, 1, 2, 3, 10, 50)), 1}, reverse=True):
                v.round({"JFS_FAULT": f"{point}:{hit}:kill"}, count=25)
                if v.missed == before:
                    met.add(point)
                    break
                before = v.missed
    totals = kills(t, seed, rounds)
    missed = sorted(set(fault_points()) - set(ELSEWHERE + LATE + LOADS + UNSAFE) - met)
    return dict(totals, points=len(met), never_met=missed)


def kill_loads(t, seed):
    """Somebody else had the volume mounted in between, so all is loaded anew."""
    def rounds(v, rng):
        for point in LOADS:
            for hit in (1, 2, rng.randint(3, 10)):
                v.workers.close()
                v.m.umount(flush=True)
                other = Mount(v.t, v.volume, name="guest")
                os.listdir(other.dir)
                other.umount(flush=True)
                v.round({"JFS_FAULT": f"{point}:{hit}:kill"}, count=30)
    return kills(t, seed, rounds)


def kill_unsafe(t, seed):
    """unsafe_batch: P1 holds with it, too."""
    def rounds(v, rng):
        for point in UNSAFE:
            for hit in (1, rng.randint(2, 5)):
                v.round({"JFS_FAULT": f"{point}:{hit}:kill"}, count=30)
    return kills(t, seed, rounds, query="unsafe_batch=1")


def kill_calls(t, seed, n=12):
    """In front of or behind the Nth call of the C library: on the cache directory's files, or on anything."""
    def rounds(v, rng):
        for _ in range(n):
            kind = rng.choice(("any", "any", *CALLS))
            order = f"{kind}:{int(2 ** rng.uniform(0, 9))}:{rng.choice(('kill', 'killafter'))}"
            env = {"LD_PRELOAD": SEAM, "JFS_SEAM": order}
            if rng.random() < 0.7:
                env["JFS_SEAM_DIR"] = v.m.cache
            v.round(env, count=30)
    return kills(t, seed, rounds)


def kill_recovery(t, seed, n=6):
    """A life that ends right behind its last answer, then recoveries that are killed, by a mount or by jfs-recover."""
    def rounds(v, rng):
        for k in range(n):
            interrupted = [{"JFS_FAULT": f"{rng.choice(RECOVERY)}:{rng.choice((1, 1, 2, 5))}:kill"} for _ in range(4)]
            if rng.random() < 0.5:
                interrupted.append({"LD_PRELOAD": SEAM, "JFS_SEAM": f"any:{int(2 ** rng.uniform(0, 8))}:kill",
                                    "JFS_SEAM_DIR": v.m.cache})
            v.round(count=40, drain=False, interrupted=interrupted, tool=k % 2 == 1)
    return kills(t, seed, rounds, "--sync-interval=3s")


def bulk(seed, name):
    return random.Random(f"{seed}/{name}").randbytes(1 << 20)


def write_bulk(v, seed, name, megabytes):
    """False: the daemon died on the way, how much is there is open."""
    part = bulk(seed, name)
    try:
        with open(v.m.path(name), "wb", buffering=0) as f:
            for _ in range(megabytes):
                f.write(part)
    except OSError as e:
        if e.errno not in GONE:
            raise
        return False
    return True


def check_bulk(v, seed, name, megabytes):
    part = bulk(seed, name)
    with open(v.m.path(name), "rb", buffering=0) as f:
        for n in range(megabytes):
            if f.read(1 << 20) != part:
                raise Violation(f"megabyte {n} of {name} is not what was written", v.workers.program())
        assert not f.read(1)


def late_life(v, net, point, n, seed, kept):
    """A life in which staged bytes, log records and windows become superfluous, while others are still all there is."""
    v.end_daemon(signal.SIGKILL)
    v.detach()
    if v.try_mount({"JFS_FAULT": f"{point}:1:kill"} if point else None):
        going = write_bulk(v, seed, f"old{n}", 70) and v.t.run(JFS, "flush", v.m.dir, status=None, timeout=60) is not None
        if point and "trim" in point:  # Redis must stay for that, and the retention pass
            wait_for(lambda: reap_ready(v.m.pid), 6)
        net("refuse")
        if going and write_bulk(v, seed, f"new{n}", 3):
            kept.append((f"new{n}", 3))
        v.workers.run(v.work, 20)
        v.workers.close()
        with contextlib.suppress(OSError):  # the daemon is gone
            before = v.m.stats()["staging_bytes"]
            os.unlink(v.m.path(f"old{n}"))
            os.mkdir(v.m.path(f"trigger{n}"))

            wait_for(lambda: reap_ready(v.m.pid) or (not point and v.m.stats()["staging_bytes"] < before - (60 << 20)), 3)
    net("pass")
    dead = reap_ready(v.m.pid) if v.m.pid else True
    v.kills += 1
    v.missed += not dead
    v.end_daemon(signal.SIGKILL)
    v.recover()
    for name, megabytes in kept:
        check_bulk(v, seed, name, megabytes)
    return dead


def wait_for(condition, seconds):
    """For what may also not come true: it is counted as missed."""
    with contextlib.suppress(Timeout):
        wait_until(condition, seconds)


def reap_ready(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        return f.read().rpartition(")")[2].split()[0] == "Z"


def late_kills(t, seed, points=len(LATE)):
    """P7: kills around everything that gives local data up."""
    rng, met, kept = random.Random(seed), [], []
    with apart(t, "late") as sub:
        redis = RedisServer(sub)
        sub.defer(redis.kill)
        net = sub.enter(TcpFault(redis.port))
        v = Victim(sub, Volume(sub, redis).format("--trash-days", "0"), seed, port=net.port)
        for n, point in enumerate([None, *rng.sample(LATE, points)]):
            if late_life(v, net, point, n, seed, kept) and point:
                met.append(point)
        v.finish()
        return dict(totals_of(v), points=met)


def power_cuts(t, seed, kind, fs, cuts=12, count=150):
    rng = random.Random(seed)
    with apart(t, "cuts") as sub:
        try:
            run = CutRun(sub, fs, seed, kind)
            run.work(count // 2)
            if rng.random() < 0.5:
                run.kill_and_go_on()
            run.work(count // 2)
            run.stop()
            run.cuts(cuts, rng)
        except Violation as e:
            violation = e
        else:
            assert kind != "offline" or cuts < 6 or len({tuple(x) for x in run.lengths}) > 1, \
                "all cuts found the same state: nothing was cut"
            return {"cuts": run.done, "runs": 1, "operations": run.workers.operations()}
    spec = {"kind": kind, "fs": fs, "cuts": [random.Random(f"{seed}/{n}").getrandbits(32) for n in range(6)]}
    return shortened(t, seed, spec, violation)


def failing(m, orders, below=""):
    """`below`: "base" or "staging", for calls on those files only."""
    folder = next(os.path.join(m.cache, n) for n in os.listdir(m.cache)) if below else m.cache
    with contextlib.suppress(FileNotFoundError):
        os.unlink(m.t.path("met"))
    return {"LD_PRELOAD": SEAM, "JFS_SEAM": orders, "JFS_SEAM_DIR": os.path.join(folder, below).rstrip("/"),
            "JFS_SEAM_MET": m.t.path("met")}


def must_be_read_only(v):
    """P12: the daemon lives, says why, serves what was acknowledged, and acknowledges nothing more."""
    assert v.m.pid is not None and os.path.exists(f"/proc/{v.m.pid}"), "the daemon has ended"
    v.m.wait_stat("journal_failed", lambda n: n == 1)  # a write of staging that failed is its writer's affair until the next sync
    for i, history in enumerate(v.workers.histories):
        history.check_exact(tree_of(f"{v.work}/{i}"))
    for call in (lambda: os.mkdir(v.m.path("refused")), lambda: os.rename(v.work, v.work + "2"),
                 lambda: open(v.m.path("f"), "w")):
        try:
            call()
        except OSError as e:
            assert e.errno in (errno.EROFS, errno.EIO), e
        else:
            raise Violation("something was acknowledged after the disk had failed", v.workers.program())
    assert "read-only" in v.t.run(JFS, "status", v.m.dir), "jfs status does not say it"


def is_commit(met):
    """Was it the write of base's meta page, 120 bytes in one of the first two pages? Those are allocated since base was made,
    so no disk is too full for them; whether the commit is on the disk is open then, and that is terminal."""
    _, _, path, offset, length = met.split()
    return path.endswith("/base/data.mdb") and 0 <= int(offset) < 2 * 4096 and int(length) < 4096


def life_with(t, order, at, kind, below=""):
    """One life in which the ordered call fails: "dead" before it was mounted, "read-only", or "survived". Afterwards, on a
    good disk, everything acknowledged is there, and drains. Returns that, and what the seam says about the call."""
    v = victim(t, f"{t.seed}/{order}")
    v.end_daemon(signal.SIGKILL)
    v.detach()
    for history in v.workers.histories:
        history.bad_disk = kind
        if kind == "full":
            history.workload.weights["swrite"] = 0  # ENOSPC leaves open whether the bytes are there
    result = "dead"
    if v.try_mount(failing(v.m, order.format(at), below)):
        result = "survived" if v.workers.run(v.work, 300 if kind == "full" else 4000) else "read-only"
        if result == "read-only":
            must_be_read_only(v)
        v.end_daemon(signal.SIGKILL)
    assert os.path.exists(t.path("met")), f"{order}, {at}: the fault was not met"
    with open(t.path("met"), encoding="utf-8") as f:
        met = f.read().strip()
    v.recover()
    for history in v.workers.histories:
        history.bad_disk = None
    v.finish()
    if result != "survived" and kind == "full" and not is_commit(met) and (result, order[-6:]) != ("dead", "ENOSPC"):
        raise Violation(f"{order.format(at)} on {met}: {result}", v.workers.program())
    if result == "survived" and (kind == "dying" or is_commit(met)):
        raise Violation(f"{order.format(at)} on {met} was not terminal", v.workers.program())
    return result, met


def disk_faults(t, seed, lives=3):
    """P12, and what is no reason for it: any call on the cache directory fails, once or from then on."""
    rng, did = random.Random(seed), {"disk_faults": 0, "kills": 0}
    for n in range(lives):
        order, kind = rng.choice((("sync:{}:EIO", "dying"), ("sync:{}+:EIO", "dying"), ("write:{}+:EIO", "dying"),
                                  ("write:{}+:torn", "dying"), ("write:{}:ENOSPC", "full"), ("write:{}:short", "full")))
        with apart(t, f"disk{n}") as sub:
            result, _ = life_with(sub, order, rng.randint(3, 40), kind)
        did["disk_faults"] += 1
        did["kills"] += result != "dead"
    return did


PARTS = [("random_kills", random_kills), ("kill_points", kill_points), ("kill_calls", kill_calls),
         ("kill_recovery", kill_recovery), ("late_kills", late_kills), ("kill_loads", kill_loads),
         ("kill_unsafe", kill_unsafe), ("disk_faults", disk_faults), ("kill_conflicts", kill_conflicts), ("kill_export", kill_export),
         ("kill_rebase", kill_rebase)]
PARTS += [("kill_shared", kill_shared)]
PARTS += [(f"cuts_{kind}_{fs}", functools.partial(power_cuts, kind=kind, fs=fs))
          for kind in ("offline", "online", "device") for fs in ("ext4", "xfs")]
