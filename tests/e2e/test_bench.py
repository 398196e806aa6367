#!/usr/bin/env python3
"""The benchmark runs and its table is complete; the figures themselves are nobody's test."""
import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from core import ROOT, missing, mounts_below  # noqa: E402
from harness import *  # noqa: E402,F403


@test(timeout=120, needs=("root", "fuse", "tools"))
def the_table_is_complete(t):
    out = t.path("values.json")
    text = t.run(sys.executable, os.path.join(ROOT, "tests/bench/bench.py"), "--quick", "--storage=file",
                 "--rows=ext4,null-mt,null-st", "--files=100", "--loop=10", "--reps=2", "--json", out, timeout=100,
                 env={"JFS_TEST_TMP": t.folder("tmp")})
    for word in ("kernel ", "commit ", "/floor", "ext4 on a loop image", "nullfs, one thread", "not measured"):
        assert word in text, text
    with open(out, encoding="utf-8") as f:
        values = {(v["row"], v["threads"], v["what"]): v["us"] for v in json.load(f)["values"]}
    for row in ("ext4", "null-mt", "null-st"):
        for threads in (1, 4):
            for what in ("create", "stat", "read", "unlink"):
                assert len(values[row, threads, what]) == 2 and min(values[row, threads, what]) > 0
        for what in ("touch", "echo >", "rm"):
            assert min(values[row, 0, what]) > 0
    assert not os.listdir(t.path("tmp")), "something was left behind"


@test(timeout=120, needs=("root", "fuse", "tools", "jfs"))
def the_goals_are_measured(t):
    out = t.path("goals.json")
    goals = [sys.executable, os.path.join(ROOT, "tests/bench/goals.py"), "--quick", "--files=40", "--turns=1", "--big-mb=2",
             "--blocks=64", "--tree=50", "--many=60"]
    text = t.run(*goals, "--only=[nmdi]*", "--json", out, timeout=110, env={"JFS_TEST_TMP": t.folder("tmp")})
    with open(out, encoding="utf-8") as f:
        lines = {line["what"]: line for line in json.load(f)["lines"]}
    for what in ("40 x create, 1 thread, classic", "40 x rm -rf, 1 thread, classic", "40 x create, 16 threads, a directory each, classic",
                 "tree of 60 files: grep -r, classic", "drain of 40 x 1 KiB at 1 ms", "CPU of an idle daemon"):
        assert what in text and lines[what]["value"] is not None and lines[what]["reached"] in (True, False), (what, text)
    assert lines["drain of 40 x 1 KiB at 1 ms"]["value"] >= 1, "nothing was replayed"
    assert lines["Redis's CPU for a created file"]["value"] > 0
    assert not os.listdir(t.path("tmp")), "something was left behind"
    assert "there are names" in t.run(*goals, "--only=nothing", status=2)


@test(timeout=120, needs=("root", "fuse", "tools", "jfs"))
def the_goals_of_packed_files_are_measured(t):
    """Counts are exact, so they are looked at: the files share an object, or two if a flush found a window begun."""
    out = t.path("goals.json")
    text = t.run(sys.executable, os.path.join(ROOT, "tests/bench/goals.py"), "--quick", "--only=packed", "--packed=40", "--alone=5",
                 "--transport=classic", "--json", out, timeout=110, env={"JFS_TEST_TMP": t.folder("tmp")})
    with open(out, encoding="utf-8") as f:
        lines = {line["what"]: line for line in json.load(f)["lines"]}
    stored = lines["S3 requests for 40 x 1 KB"]
    assert stored["reached"] and 2 <= stored["value"] <= 4 and " PUT" in stored["text"], text
    for order in ("sorted", "shuffled"):
        assert 1 <= lines[f"S3 requests of the first read of 40 files, {order}, classic"]["value"] <= 4, text
        ratio = lines[f"first read of 40 files, {order}, classic at 10 ms"]
        if missing("juicefs"):
            assert ratio["value"] is None and "JUICEFS" in ratio["text"], text
        else:
            assert ratio["value"] > 0 and ratio["reached"] in (True, False) and "5 GET" in ratio["against"], text
    assert not os.listdir(t.path("tmp")), "something was left behind"


@test(timeout=120, needs=("root", "fuse", "tools", "jfs"))
def nothing_is_left_behind_when_a_signal_ends_it(t):
    """To all processes of the run at once, as a terminal or timeout(1) sends it."""
    tmp = t.folder("tmp")
    goals = subprocess.Popen([sys.executable, os.path.join(ROOT, "tests/bench/goals.py"), "--quick", "--only=syncs", "--turns=1000",
                              "--transport=classic"], env=dict(os.environ, JFS_TEST_TMP=tmp), process_group=0,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in goals.stderr:
        if "[2/1000]" in line:  # everything is mounted
            break
    assert len(mounts_below(tmp)) == 3, mounts_below(tmp)
    os.killpg(goals.pid, signal.SIGTERM)
    rest = goals.communicate(timeout=60)[1]
    assert goals.returncode == 128 + signal.SIGTERM, (goals.returncode, rest)
    assert not mounts_below(tmp) and not os.listdir(tmp), "something was left behind"
    assert tmp not in t.run("losetup", "-l", "-O", "BACK-FILE"), "a loop device was left behind"


SCRIPT = """jfs-fuse 4711 12.000100:
\tffffffff81000010 do_syscall_64+0x10 ([kernel.kallsyms])
\t    7f0000001000 write+0x4f (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t    560000001000 serve<a & b>+0x22 (/usr/bin/jfs)

jfs flusher 4712 12.000200:
\t    7f0000002000 [unknown] (/usr/lib/x86_64-linux-gnu/libc.so.6)

jfs-fuse 4711 12.000300:
\tffffffff81000020 do_syscall_64+0x20 ([kernel.kallsyms])
\t    7f0000001000 write+0x4f (/usr/lib/x86_64-linux-gnu/libc.so.6)
\t    560000001000 serve<a & b>+0x22 (/usr/bin/jfs)
"""


@test()
def stacks_are_folded_and_drawn(t):
    script, svg = t.path("script"), t.path("p.svg")
    with open(script, "w", encoding="utf-8") as f:
        f.write(SCRIPT)
    flame = [sys.executable, os.path.join(ROOT, "tests/bench/flame.py"), "--fold", script, "--out", svg]
    assert "3 samples" in t.run(*flame)
    with open(svg + ".folded", encoding="utf-8") as f:
        assert f.read().splitlines() == ["jfs flusher;[libc.so.6] 1", "jfs-fuse;serve<a & b>;write;do_syscall_64 2"]
    ns = "{http://www.w3.org/2000/svg}"
    frames = {g.find(ns + "title").text: float(g.find(ns + "rect").get("width")) for g in xml.etree.ElementTree.parse(svg).iter(ns + "g")}
    assert frames["all: 3 samples, 100.0 %"] == 1200 and frames["serve<a & b>: 2 samples, 66.7 %"] == 800, frames
    assert frames["[libc.so.6]: 1 samples, 33.3 %"] == 400 and len(frames) == 7, frames
    open(script, "w", encoding="utf-8").close()
    assert "no samples" in t.run(*flame, status=1)


@test()
def unknown_rows_are_refused(t):
    text = t.run(sys.executable, os.path.join(ROOT, "tests/bench/bench.py"), "--storage=file", "--rows=nonsense", status=1)
    assert "no such row; there are ext4" in text, text


if __name__ == "__main__":
    sys.exit(main())
