"""The recorded scenarios of tests/golden/fixtures, run again on a mount, and the comparison with what stock left."""
import json
import os
import re
import sys

import keycheck
import keycompare
import keyspace
import op
from core import ROOT

FIXTURES = os.path.join(ROOT, "tests/golden/fixtures")
# Facts of a keyspace that another client may hold otherwise, by scenario. Locks are left to the kernel by ours.
FREE_FACTS = {"sustained": ("lock .*",)}
# Differences that are allowed as they are. A directory's statistics go with the directory (spec 3.7); those of one in the
# trash come back as zeros with stock's next read-write mount, which counts what has none.
ALLOWED = {"trash": r"dir(DataLength|UsedInodes|UsedSpace) /\.trash/.*: 0 -> \(absent\)"}


def fixture_scenario(name):
    with open(os.path.join(FIXTURES, name, "scenario.json"), encoding="utf-8") as f:
        return json.load(f)


def names():
    return sorted(n for n in os.listdir(FIXTURES) if os.path.isdir(os.path.join(FIXTURES, n)))


def script(name, part="ops.sh"):
    return os.path.join(FIXTURES, name, part)


def calls_stock(name):
    if not os.path.exists(script(name)):
        return False
    with open(script(name), encoding="utf-8") as f:
        return "$JUICEFS" in f.read()


def fixture_keyspace(name):
    return keyspace.Keyspace(keyspace.read_file(os.path.join(FIXTURES, name, "keyspace.json")))


def run_operations(t, name, folder, volume, timeout=120, pause=None):
    """`pause`: what the script's sleeps, which wait for what stock does now and then, are shortened to; in seconds."""
    path = os.environ["PATH"]
    if pause:
        path = t.folder("hurry") + ":" + path
        with open(os.path.join(t.path("hurry"), "sleep"), "w", encoding="ascii") as f:
            f.write(f"#!/bin/sh\nexec /bin/sleep {pause}\n")
        os.chmod(f.name, 0o755)
    env = {"PATH": path, "OP": f"{sys.executable} {os.path.join(ROOT, 'tests/e2e/lib/op.py')}", "WORK": t.folder("work"),
           "META": volume.url() if volume else "", "BUCKET": volume.bucket if volume else "", "MNT": folder}
    t.run("sh", "-eu", script(name), cwd=folder, env=env, timeout=timeout)


def bucket_folder(name, volume):
    """The bucket as the scenario wants it: below the volume's folder, for several shards with a %d."""
    return os.path.join(volume.bucket, fixture_scenario(name).get("bucket", "").strip("/"), "")


def assert_same_keyspace(name, ks, exact=False):
    """The volume must hold what stock's holds, but for stock's own statistics errors (keycheck's notes)."""
    recorded = fixture_keyspace(name)
    labels = keycompare.Labels(recorded)
    ignore = [f"dirDataLength {labels.of(i)}" for i in keycheck.check(recorded).noted]
    lines = keycompare.differences(recorded, ks, exact=exact, ignore=[*ignore, *FREE_FACTS.get(name, ())])
    lines = [line for line in lines if not (name in ALLOWED and re.fullmatch(ALLOWED[name], line))]
    assert not lines, f"{len(lines)} differences to the stock volume {name}:\n" + "\n".join(lines[:40])


def make_objects(ks, bucket):
    """Objects of a volume whose files were all made by `op.py many` (not kept as files: they are thousands)."""
    for table in ks.entries.values():
        for name, (_, ino) in table.items():
            for record in ks.chunks.get((ino, 0), []):
                for key, size in keyspace.object_names(ks.setting, record.id, record.size):
                    path = keyspace.object_path(ks.setting, bucket, key)
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                    with open(path, "wb") as f:
                        f.write(op.random_bytes(int(name[1:]), size))
