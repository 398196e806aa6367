#!/usr/bin/env python3
"""Volumes made by stock JuiceFS (tests/golden/fixtures), read and written by ours.

  read_NAME     load the volume, mount it: the tree must be the recorded one, and looking must not have changed anything
  prime_NAME    the same with prime=1
  write_NAME    format a volume like it, repeat the recorded operations with safe_batch=0 (so that nothing cancels out):
                the keyspace must be consistent, and hold what stock's holds
  refuse_NAME   a volume with a feature that we lack: refused with one line, untouched
"""
import functools
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import keycompare  # noqa: E402
import scenario  # noqa: E402
import tree  # noqa: E402
from core import descendants_of  # noqa: E402
from harness import *  # noqa: E402,F403

NEEDS = ("root", "fuse", "jfs")
# What the refusal must name.
REFUSED = {"refuse-changelog": "change", "refuse-compression": "brotli",
           "refuse-encrypted": "encrypt", "refuse-metaversion": "version", "refuse-minversion": "9.0.0",
           "refuse-storage": "nosuch"}
READ = [n for n in scenario.names() if n not in REFUSED]
# packed*: a packing program ran on these after the operations.
WRITE = [n for n in READ if not n.startswith("packed")]
# The trash's own name of a file counts in Redis's link count, and in what stock shows, but not in ours.
TRASH_LINKS = {"trash"}
# The session of the killed client is cleaned up by any read-write mount.
CLEANED_UP = {"sustained"}


def read(t, name, query=""):
    volume = Volume(t, RedisServer(t)).load_fixture(name)
    before = volume.keyspace()
    m = Mount(t, volume, query=query)
    seen = tree.scan(m.dir)
    m.umount(flush=True)
    recorded = tree.read(scenario.script(name, "tree.json"))
    tree.assert_same(recorded, seen, name, ignore=("nlink",) if name in TRASH_LINKS else ())
    after = volume.check()
    if name not in CLEANED_UP:
        lines = keycompare.differences(before, after, exact=True, leave_out=("atime",))
        assert not lines, "reading changed the volume:\n" + "\n".join(lines)


def write(t, name):
    if scenario.calls_stock(name) and not os.environ.get("JUICEFS"):
        raise Skip("its operations call the stock client, which JUICEFS does not name")
    wanted = fixture_scenario(name)
    volume = Volume(t, RedisServer(t), name="fx-" + name)
    volume.format(*wanted.get("format", []), bucket=scenario.bucket_folder(name, volume))
    if os.path.exists(scenario.script(name)):
        m = Mount(t, volume, *(["--heartbeat=100ms"] if "quota" in name else []), query="safe_batch=0")
        scenario.run_operations(t, name, m.dir, volume, pause=1 if "quota" in name else None)
        if wanted.get("kill"):
            m.kill()
            for pid in descendants_of(os.getpid()):  # those that the operations left with open files
                if pid != volume.redis.process.pid:
                    os.kill(pid, signal.SIGKILL)
        else:
            m.umount(flush=True)
    scenario.assert_same_keyspace(name, volume.check())


def refuse(t, name):
    volume = Volume(t, RedisServer(t)).load_fixture(name)
    before = volume.keys()
    m = Mount(t, volume, start=False)
    for options in ((), ("--read-only",)) if name != "refuse-changelog" else ((),):
        text = m.mount(*options, status=1)
        assert len(text.strip().splitlines()) == 1, f"more than one line:\n{text}"
        assert REFUSED[name] in text.lower(), f"the message does not name {REFUSED[name]!r}: {text}"
        assert volume.keys() == before, "the refused volume was changed"


for _name in READ:
    add(f"read_{_name}", functools.partial(read, name=_name), needs=NEEDS)
    add(f"prime_{_name}", functools.partial(read, name=_name, query="prime=1"), needs=NEEDS)
for _name in WRITE:
    add(f"write_{_name}", functools.partial(write, name=_name), timeout=180, needs=NEEDS)
for _name in REFUSED:
    add(f"refuse_{_name}", functools.partial(refuse, name=_name), needs=NEEDS)

if __name__ == "__main__":
    sys.exit(main())
