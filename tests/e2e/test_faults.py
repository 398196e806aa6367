#!/usr/bin/env python3
"""The model checker: random work of several threads, a crash somewhere, and what is found afterwards against the model.

JFS_FAULTS=N does N times as much (default 1). A violation is made short and written to JFS_FAULTS_OUT (default: the test's
log folder) for fault-injection/replay."""
import errno
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "lib"), os.path.join(HERE, "..", "..", "fault-injection")]
from harness import *  # noqa: E402,F403
import parts  # noqa: E402
from crashes import fit  # noqa: E402
from model import EXCHANGE, History, Mismatch, Model, Real, tree_of  # noqa: E402
from shared import Done, Shared  # noqa: E402
from shrink import minimize  # noqa: E402

NEEDS = ("root", "fuse", "jfs", "tools")
TIMES = int(os.environ.get("JFS_FAULTS", "1"))


def run(t, part, times=1):
    for n in range(times * TIMES):
        totals = part(t, f"{t.seed}/{n}")
        t.note(n, totals)
    return totals


@test()
def a_long_program_becomes_a_short_one(t):
    """Of 400 random operations on a file system that forgets an attribute in an exchange, those that show it are left."""
    class Forgetful(Model):
        def op_rename(self, old, new, flags):
            super().op_rename(old, new, flags)
            if flags & EXCHANGE:
                self.find(new).xattrs.clear()

    def fails(program):
        good, bad = Model(), Forgetful()
        for op in program:
            good.apply(op)
            bad.apply(op)
        return good.tree() != bad.tree()
    for n in range(20):
        history = History(f"{t.seed}/{n}")
        history.real = Real(t.folder("d"))
        history.run(history.real.directory, 400)
        if fails(history.ops):
            short = minimize(history.ops, fails)
            assert len(short) <= 30 and any(op[0] == "rename" for op in short), short
            assert not any(fails(short[:i] + short[i + 1:]) for i in range(len(short))), "there is more to leave out"
            return
    raise AssertionError("no program shows it")


@test()
def prefixes_of_threads_must_fit(t):
    """Thread 1 was answered before thread 0 asked for what survived: it must have survived, too."""
    times = [[(10, 20), (50, 60)], [(15, 30), (55, 58)]]
    fit(times, [[2], [1]])
    fit(times, [[1, 2], [0]])
    try:
        fit(times, [[2], [0]])
    except Mismatch:
        return
    raise AssertionError("a mix passed for a prefix")


@test(timeout=120, needs=NEEDS)
def p1_kill_at_random_instants(t):
    run(t, lambda t, seed: parts.random_kills(t, seed, n=5))


@test(timeout=300, needs=NEEDS)
def p1_kill_at_every_fault_point(t):
    """Half of them each time; all with JFS_FAULTS=2 or more, and in every round of a campaign."""
    run(t, lambda t, seed: parts.kill_points(t, seed, 0.5 if TIMES == 1 else 1))


@test(timeout=120, needs=NEEDS)
def p1_kill_at_the_nth_call(t):
    run(t, lambda t, seed: parts.kill_calls(t, seed, n=8))


@test(timeout=120, needs=NEEDS)
def p1_kill_recovery_again_and_again(t):
    run(t, lambda t, seed: parts.kill_recovery(t, seed, n=4))


@test(timeout=120, needs=NEEDS)
def p7_kill_around_what_gives_local_data_up(t):
    run(t, lambda t, seed: parts.late_kills(t, seed, points=1))


@test(timeout=120, needs=NEEDS)
def h57_p1_kill_around_conflicts(t):
    run(t, lambda t, seed: parts.kill_conflicts(t, seed, points=2))


@test(timeout=120, needs=NEEDS)
def p1_kill_threads_on_the_same_names(t):
    run(t, lambda t, seed: parts.kill_shared(t, seed, lives=5, bursts=20))


@test()
def an_order_that_cannot_have_been_is_found(t):
    """Threads on ext4 agree with some order. A name that nobody made does not, nor an answer that no order gives, nor a name
    that was not found although its making had been answered before."""
    def refused(shared, found):
        try:
            shared.check(found)
        except Mismatch:
            return True
        return False
    shared, folder = Shared(t.seed), t.folder("d")
    shared.make(folder)
    for _ in range(30):
        assert shared.burst(folder)
        shared.check(tree_of(folder))
    assert shared.burst(folder)
    os.mkdir(os.path.join(folder, "d0", "extra"))
    assert refused(shared, tree_of(folder))
    os.rmdir(os.path.join(folder, "d0", "extra"))
    done = shared.lanes[0][0]
    answer, done.answer = done.answer, errno.EXDEV
    assert refused(shared, tree_of(folder))
    done.answer = answer
    shared.check(tree_of(folder))
    shared.crash()
    for asked, fits in ((3, False), (2, True)):
        fresh, folder = Shared(t.seed), t.folder(f"fresh{asked}")
        fresh.make(folder)
        os.close(os.open(os.path.join(folder, "d0", "a"), os.O_CREAT | os.O_WRONLY, 0o644))
        for lane, (op, start, answer) in enumerate(((("create", "d0/a", 0o644), 1, 0), (("open", "1.0", "d0/a"), asked, errno.ENOENT))):
            done = Done(op, start)
            done.answered, done.answer = start + 1.5, answer
            fresh.lanes[lane].append(done)
        assert refused(fresh, tree_of(folder)) == (not fits), asked


@test(timeout=120, needs=NEEDS)
def kill_jfs_recover_export(t):
    run(t, lambda t, seed: parts.kill_export(t, seed, lives=4))


@test(timeout=120, needs=NEEDS)
def kill_jfs_recover_rebase(t):
    run(t, lambda t, seed: parts.kill_rebase(t, seed, lives=4))


for _kind in ("offline", "online", "device"):
    for _fs in ("ext4", "xfs"):
        add(f"p2_p3_p4_power_cut_{_kind}_{_fs}", lambda t, kind=_kind, fs=_fs: run(
            t, lambda t, seed: parts.power_cuts(t, seed, kind, fs, cuts=6)), timeout=120, needs=NEEDS)


if __name__ == "__main__":
    sys.exit(main())
