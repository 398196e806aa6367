"""Goals for what jfs costs others: Redis's requests and CPU, and this machine's CPU when nothing happens."""
import os
import shutil
import time

from rows import harness


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        words = f.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def redis_cpu(c):
    text = c("INFO", "cpu").decode()
    return sum(float(line.split(":")[1]) for line in text.split() if line.startswith(("used_cpu_sys:", "used_cpu_user:")))


def drain(sides, args, table):
    j = sides.mount_of(sides.transports[-1])
    j.mount.flush(timeout=1800)
    folder = sides.fresh(j.dir)
    with j.redis.client(j.volume.db) as c:
        scripts, cpu = j.mount.stats()["replay_scripts"], redis_cpu(c)
        sides.fsbench(folder, "create", args.files, 1024, 1, keep=True)
        j.mount.flush(timeout=1800)
        scripts, cpu = j.mount.stats()["replay_scripts"] - scripts, redis_cpu(c) - cpu
    trips, each = scripts, cpu / args.files * 1e6
    table.add(f"drain of {args.files:,} x 1 KiB at 1 ms", "scripts sent", trips, "<= 20", trips <= 20, f"{trips:.0f}")
    table.add("Redis's CPU for a created file", "one MULTI an operation: 42 us", each, "<= 5 us", each <= 5, f"{each:.1f} us")
    shutil.rmtree(folder)


def idle(sides, args, table):
    j = sides.mount_of(sides.transports[-1])
    os.stat(j.dir)
    j.mount.flush(timeout=1800)
    harness.wait_until(lambda: j.mount.stats()["staging_dirty_bytes"] == 0, 60, "a quiet daemon")
    span = 2 if args.quick else 20
    before = cpu_seconds(j.daemon)
    time.sleep(span)  # the figure is about a span in which nothing happens
    ms = (cpu_seconds(j.daemon) - before) * 1000 / span
    table.add("CPU of an idle daemon", "", ms, "< 1 ms a second", ms < 1, f"{ms:.2f} ms a second")
