#!/usr/bin/env python3
"""The short runs of the long ones (long_runs.py): the same exercisers, with fewer operations."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import NEEDS, drained, exercise_files, exercise_trees, mounted  # noqa: E402
from harness import main, test  # noqa: E402
from workloads import entries_of_one_directory, sqlite_with_kills  # noqa: E402


@test(timeout=120, needs=NEEDS)
def files_keep_what_is_written(t):
    m = mounted(t)
    exercise_files(t, m, 2500, 90)
    drained(t, m)


@test(timeout=120, needs=NEEDS)
def trees_equal_those_on_a_native_file_system(t):
    m = mounted(t)
    exercise_trees(t, m, 6000, 4, False, 90)
    drained(t, m)


@test(timeout=120, needs=NEEDS)
def p1_databases_survive_kills_of_the_daemon(t):
    m = mounted(t)
    for mode, sync in (("delete", "full"), ("wal", "full"), ("wal", "off")):
        sqlite_with_kills(t, m, mode, sync, 20, 1)
    drained(t, m)


@test(timeout=120, needs=NEEDS)
def many_entries_of_one_directory(t):
    entries_of_one_directory(t, mounted(t), 4000)


if __name__ == "__main__":
    sys.exit(main())
