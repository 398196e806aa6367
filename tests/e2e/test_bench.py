#!/usr/bin/env python3
"""The benchmark runs and its table is complete; the figures themselves are nobody's test."""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from core import ROOT  # noqa: E402
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


@test()
def unknown_rows_are_refused(t):
    text = t.run(sys.executable, os.path.join(ROOT, "tests/bench/bench.py"), "--storage=file", "--rows=nonsense", status=1)
    assert "no such row; there are ext4" in text, text


if __name__ == "__main__":
    sys.exit(main())
