#!/usr/bin/env python3
"""The long runs (`make long`): hours in all, each test with its seed. --only NAME runs one; the figures go to the output."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import NEEDS, drained, exercise_files, exercise_trees, mounted  # noqa: E402
import ring  # noqa: E402
from harness import main, test  # noqa: E402
from workloads import entries_of_one_directory, git_clone_fsck_gc, kernel_like_tree, sqlite_with_kills  # noqa: E402

HOURS = 3600


@test(timeout=6 * HOURS, needs=NEEDS)
def files_1000000_operations(t):
    m = mounted(t)
    exercise_files(t, m, 1_000_000, 5 * HOURS)
    drained(t, m)


@test(timeout=6 * HOURS, needs=NEEDS)
def trees_200000_operations(t):
    m = mounted(t)
    exercise_trees(t, m, 200_000, 4, True, 2 * HOURS)
    drained(t, m)


@test(timeout=2 * HOURS, needs=NEEDS)
def git_clones_checks_and_collects(t):
    m = mounted(t)
    git_clone_fsck_gc(t, m)
    drained(t, m)


@test(timeout=4 * HOURS, needs=NEEDS)
def a_tree_of_70000_files(t):
    kernel_like_tree(t, mounted(t, query="batch_size=2000"), 70_000)


@test(timeout=2 * HOURS, needs=NEEDS)
def p1_databases_survive_many_kills(t):
    m = mounted(t)
    for mode in ("delete", "truncate", "persist", "wal"):
        for sync in ("full", "off"):
            sqlite_with_kills(t, m, mode, sync, 300, 5)
    drained(t, m)


@test(timeout=4 * HOURS, needs=NEEDS)
def a_directory_of_1000000_entries(t):
    entries_of_one_directory(t, mounted(t, query="batch_size=2000"), 1_000_000)


if __name__ == "__main__":
    with ring.as_wanted():
        sys.exit(main())
