"""A part of the campaigns (parts.py): kills while several threads work on the same names (shared.py)."""
import os
import random
import signal
import threading

from crashes import BROKEN, Victim, Violation, apart
from model import GONE, tree_of
from servers import RedisServer
from shared import Shared
from volume import Mount, Volume

POINTS = ("journal.commit.before", "journal.commit.after", "journal.swap", "journal.flush.before_base",
          "journal.flush.before_commit", "journal.flush.after_commit", "hot.reset.before", "hot.reset.after",
          "redis.replay.before_script", "redis.replay.before_applied")


def look(shared, folder):
    """False: the mount went away before all of it could be looked at."""
    try:
        found = tree_of(folder)
    except OSError as e:
        if e.errno in GONE:
            return False
        raise
    shared.check(found)
    return True


def life(v, shared, folder, rng, bursts):
    """Until a fault point or an instant has killed the daemon, or so many bursts were done."""
    env = {"JFS_FAULT": f"{rng.choice(POINTS)}:{rng.choice((1, 5, 20, 60, 150))}:kill"} if rng.random() < 0.6 else None
    if not v.try_mount(env):
        return
    killer = None if env else threading.Timer(rng.uniform(0.02, 0.8), v.m.signal, (signal.SIGKILL,))
    if killer:
        killer.start()
    while bursts and shared.burst(folder) and look(shared, folder):
        bursts -= 1
    if killer:
        killer.join()
    v.missed += bool(env) and not bursts
    v.end_daemon(signal.SIGKILL)


def kill_shared(t, seed, lives=8, bursts=25):
    rng = random.Random(seed)
    with apart(t, "shared") as sub:
        redis = RedisServer(sub)
        sub.defer(redis.kill)
        v = Victim(sub, Volume(sub, redis).format("--trash-days", "0"), seed)
        folder, shared = v.m.path("shared"), Shared(seed)
        try:
            shared.make(folder)
            for _ in range(lives):
                v.end_daemon(signal.SIGKILL)
                v.detach()
                life(v, shared, folder, rng, bursts)
                v.kills += 1
                v.recover()
                shared.check(tree_of(folder))
                shared.crash()
            v.workers.close()
            v.m.umount(flush=True)
            v.volume.check()
            other = Mount(sub, v.volume, name="other")
            shared.check(tree_of(os.path.join(other.dir, "shared")))
            other.umount(flush=True)
        except BROKEN as e:
            raise Violation(f"seed {seed}: {e}", []) from e
        return {"kills": v.kills, "recovery_kills": 0, "missed": v.missed, "operations": shared.operations,
                "bursts": shared.bursts}
