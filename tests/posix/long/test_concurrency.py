#!/usr/bin/env python3
"""Many at once: mixed work with few and with many threads in the daemon, clients that are killed or interrupted in the middle
of calls. The daemon goes on, nothing waits for ever, nothing is left behind, and what was answered is there."""
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import HERE, NEEDS, assert_same_answers, drained, idle, mounted, program, tree  # noqa: E402
from harness import Mount, RedisServer, TcpFault, Volume, free_ports, main, test, wait_until  # noqa: E402

WALK = "while :; do find . -printf '%i %s %n\\n' >/dev/null 2>&1; du -s . >/dev/null 2>&1; cat .stats >/dev/null; done"


class Walker:
    """A process that walks over a folder again and again, and the programs that it starts, as a process group."""

    def __init__(self, t, folder):
        self.process = t.spawn("setsid", "sh", "-c", WALK, name="walk", cwd=folder)

    def stop(self):
        """Returns when none of them is in the folder any more."""
        assert self.process.poll() is None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with contextlib.suppress(ChildProcessError):
            while True:  # what the shell had started has become ours
                os.waitpid(-self.process.pid, 0)


def mixed_work(t, ops, *options):
    """Eight processes on trees, one on files, two that walk over all of it, one that flushes."""
    m = mounted(t, *options, query="batch_size=100")
    trees, native, stop = t.folder("on-mount"), t.folder("on-native"), threading.Event()
    os.mkdir(m.path("trees"))
    os.mkdir(m.path("files"))
    walkers = [Walker(t, m.dir) for _ in range(2)]
    files = t.spawn(program("exercise_file"), "--ops", ops // 4, "--seed", t.seed, m.path("files"), name="files")

    def flush():
        while not stop.wait(0.2):
            m.flush()
    flusher = threading.Thread(target=flush)
    flusher.start()
    t.run(program("exercise_tree"), "--ops", ops, "--seed", t.seed, "--procs", 8, "--trace", trees, m.path("trees"), timeout=240)
    t.run(program("exercise_tree"), "--ops", ops, "--seed", t.seed, "--procs", 8, "--trace", native, t.folder("native"))
    assert files.wait(240) == 0, "exercise_file found a difference"
    stop.set()
    flusher.join()
    for w in walkers:
        w.stop()
    for k in map(str, range(8)):
        assert_same_answers(os.path.join(native, k), os.path.join(trees, k))
    drained(t, m)


@test(timeout=300, needs=NEEDS)
def mixed_work_with_one_thread(t):
    mixed_work(t, 2000, "--transport=classic", "-o", "max_threads=1")


@test(timeout=300, needs=NEEDS)
def mixed_work_with_sixteen_threads(t):
    mixed_work(t, 4000, "--transport=classic", "-o", "max_threads=16")


@test(timeout=300, needs=NEEDS)
def mixed_work_over_the_default_transport(t):
    mixed_work(t, 2000)


# --- clients that are killed ---

def done_operations(path):
    with open(path, "rb") as f:
        return struct.unpack("<64Q", f.read())


def of_process(folder, k):
    """What process k has made in a folder of exercise_tree."""
    seen = {"/p" + p: n for p, n in tree.scan(os.path.join(folder, f"p{k}")).items()}
    common = tree.scan(os.path.join(folder, "common"))
    seen.update((p, n) for p, n in common.items() if p.startswith(f"/{k}-"))
    for node in seen.values():
        for field in ("ino", "mtime", *(["size"] if node["type"] == "dir" else [])):
            node.pop(field, None)
    return seen


def expected_of_process(t, k, count, seed):
    native = t.folder("native")
    t.run(program("exercise_tree"), "--ops", count, "--seed", seed, "--only", k, "--page-writes", native)
    return of_process(native, k)


def killed_round(t, m, number, procs):
    """Each client has done exactly what it was answered, or one operation more."""
    folder, progress, seed = m.path(f"round{number}"), t.path(f"progress{number}"), t.seed + number
    os.mkdir(folder)
    with open(progress, "wb") as f:
        f.write(bytes(64 * 8))
    clients = [t.spawn(program("exercise_tree"), "--ops", 10**9, "--seed", seed, "--only", k, "--progress", progress,
                       "--page-writes", folder, name="client") for k in range(procs)]
    wait_until(lambda: min(done_operations(progress)[:procs]) > 20, what="work of all clients")
    for k in t.rng.sample(range(procs), procs):
        time.sleep(t.rng.random() / 50)  # a random moment, nothing that is waited for
        assert clients[k].poll() is None, "a client ended by itself"
        clients[k].kill()
    for c in clients:
        assert c.wait(30) == -signal.SIGKILL
    idle(m)
    done = done_operations(progress)[:procs]
    for k in range(procs):
        seen = of_process(folder, k)
        if seen != expected_of_process(t, k, done[k], seed):
            tree.assert_same(expected_of_process(t, k, done[k] + 1, seed), seen, f"process {k} after {done[k]} + 1 operations")
    return sum(done)


@test(timeout=300, needs=NEEDS)
def clients_are_killed_in_the_middle_of_calls(t):
    m = mounted(t)
    pid = m.pid
    for number in range(3):
        t.note(killed_round(t, m, number, 5), "operations before the kills")
    assert m.pid == pid and os.path.exists(f"/proc/{pid}")
    drained(t, m)


# --- clients that are interrupted ---

class StalledStore:
    """A volume whose store can be frozen: store("blackhole"), store("pass"). Writers wait for it in close and fsync."""

    def __init__(self, t):
        port = free_ports()
        t.spawn(sys.executable, os.path.join(HERE, "s3_stub.py"), port, name="s3")
        wait_until(lambda: socket.create_connection(("127.0.0.1", port)).close() is None, what="the store")
        self.net = t.enter(TcpFault(port))
        self.access, self.secret = "key", "secret"
        self.bucket = f"http://127.0.0.1:{self.net.port}/bucket"
        self.volume = Volume(t, RedisServer(t), s3=self)
        self.volume.format("--block-size", "64", "--trash-days", "0")

    def bucket_url(self, name):
        return self.bucket

    def __call__(self, command):
        return self.net(command)


CALLS = {
    "read": "fd = os.open(path, os.O_RDONLY); call = lambda: os.pread(fd, 100000, 0)",
    "direct": "fd = os.open(path, os.O_RDONLY | os.O_DIRECT); buf = mmap.mmap(-1, 98304); call = lambda: os.preadv(fd, [buf], 0)",
    "fault": "fd = os.open(path, os.O_RDONLY); view = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ); call = lambda: view[5]",
    "flush": "fd = os.open(path + '.new', os.O_WRONLY | os.O_CREAT); os.write(fd, b'x' * 100000); call = lambda: os.close(fd)",
    "fsync": "fd = os.open(path + '.new', os.O_WRONLY | os.O_CREAT); os.write(fd, b'x' * 100000); call = lambda: os.fsync(fd)",
}
CLIENT = """
import mmap, os, signal, sys
path, alarms = sys.argv[1], 0
def handler(*args):
    global alarms
    alarms += 1
signal.signal(signal.SIGALRM, handler)
signal.signal(signal.SIGINT, signal.SIG_DFL)
{setup}
print('calling', flush=True)
call()
print('answered', flush=True)
os._exit(0)
"""


class Client:
    """A process in one system call on the mount."""

    def __init__(self, t, kind, path):
        self.kind, self.path, self.log = kind, path, t.path(f"log/{os.path.basename(path)}.log")
        self.process = t.spawn(sys.executable, "-c", CLIENT.format(setup=CALLS[kind]), path, name=os.path.basename(path))

    def said(self):
        with open(self.log, encoding="ascii") as f:
            return f.read().split()

    def waits(self):
        """It sleeps, after it has said that it calls."""
        with contextlib.suppress(OSError), open(f"/proc/{self.process.pid}/stat", encoding="ascii") as f:
            return self.said() == ["calling"] and f.read().rpartition(")")[2].split()[0] in "SD"
        return False


@test(timeout=120, needs=(*NEEDS, "tools"))
def interrupted_calls_end_or_go_on(t):
    """With the store frozen: a fatal signal, SIGKILL or SIGINT, ends a waiting process; one that is handled changes nothing,
    and the call is answered when the store is back."""
    store = StalledStore(t)
    m = Mount(t, store.volume, "--writeback")
    names = [f"{kind}-{how}" for kind in CALLS for how in ("kill", "int", "alarm")]
    for name in names:
        with open(m.path(name), "wb") as f:
            f.write(name.encode() * 20000)
    m.umount(flush=True)
    m = Mount(t, store.volume, "--get-timeout", "1s", "--put-timeout", "1s", "--io-retries", "1000", name="cold")
    for name in names:
        os.stat(m.path(name))
    store("blackhole")
    clients = {name: Client(t, name.split("-")[0], m.path(name)) for name in names}
    for name, c in clients.items():
        wait_until(c.waits, what=f"{name} in its call")
    for name, c in clients.items():
        c.process.send_signal({"kill": signal.SIGKILL, "int": signal.SIGINT, "alarm": signal.SIGALRM}[name.split("-")[1]])
    for name, c in clients.items():
        if not name.endswith("-alarm"):
            wait_until(lambda c=c: c.process.poll() is not None, what=f"the end of {name}")
            assert c.process.returncode == -(signal.SIGKILL if name.endswith("-kill") else signal.SIGINT)
    alive = {n: c for n, c in clients.items() if n.endswith("-alarm")}
    for _ in range(5):
        for c in alive.values():
            c.process.send_signal(signal.SIGALRM)
    os.mkdir(m.path("others go on"))
    for name, c in alive.items():
        assert c.process.poll() is None and c.said() == ["calling"], f"{name}: {c.said()}"
    store("pass")
    for name, c in alive.items():
        assert c.process.wait(60) == 0, name
        assert c.said() == ["calling", "answered"], c.said()
    idle(m)
    for name in names:
        with open(m.path(name), "rb") as f:
            assert f.read() == name.encode() * 20000, name
        if name.startswith(("flush", "fsync")):
            assert os.path.getsize(m.path(name + ".new")) == 100000
    drained(t, m)


if __name__ == "__main__":
    sys.exit(main())
