#!/usr/bin/env python3
"""The model of a POSIX file system is right (ext4 agrees with it), and its comparisons find what they are made for."""
import copy
import errno
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "lib"), os.path.join(HERE, "..", "..", "fault-injection")]
from harness import *  # noqa: E402,F403
import powercut  # noqa: E402
from faults import tool  # noqa: E402
from model import ALL_FEATURES, EXCHANGE, History, Mismatch, Model, libc_call, tree_diff, tree_of  # noqa: E402


def must_fail(call, text):
    try:
        call()
    except Mismatch as e:
        assert text in str(e), str(e)
        return
    raise AssertionError("no mismatch was found")


@test(timeout=300)
def ext4_agrees_with_the_model(t):
    for n in range(50):
        history = History(f"{t.seed}/{n}")
        directory = t.folder("d")
        assert history.run(directory, 300)
        history.check_live(directory)
        history.check_exact(tree_of(directory))
        assert history.check_prefix(tree_of(directory)) == 300


@test(timeout=120, needs=("root", "fuse", "tools"))
def nullfs_agrees_with_the_model(t):
    """The floor of the benchmark is a file system, too; and a wrong answer of it would be a wrong figure."""
    directory = t.folder("mnt")
    process = subprocess.Popen([tool("tests/bench/nullfs"), directory, "--keep", "128M"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    try:
        for n in range(10):
            sub = os.path.join(directory, str(n))
            os.mkdir(sub)
            history = History(f"{t.seed}/{n}", ALL_FEATURES - {"xattr", "exchange", "fallocate", "copy", "handles"})
            assert history.run(sub, 300)
            history.check_live(sub)
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@test()
def a_difference_is_found(t):
    directory = t.folder("d")
    history = History("a seed that leaves files with contents")
    assert history.run(directory, 200)
    history.check_live(directory)
    with open(os.path.join(directory, "intruder"), "w"):
        pass
    must_fail(lambda: history.check_live(directory), "/intruder")
    os.unlink(os.path.join(directory, "intruder"))
    files = [p for p, e in history.model.tree().items() if e[0] == "file" and e[3]]
    with open(directory + files[0], "r+b") as f:
        byte = f.read(1)
        f.seek(0)
        f.write(bytes([byte[0] ^ 1]))
    must_fail(lambda: history.check_exact(tree_of(directory)), files[0])
    must_fail(lambda: history.check_prefix(tree_of(directory)), "no prefix")


@test()
def of_a_write_in_flight_the_acknowledged_part_must_be_there(t):
    history = History(t.seed)
    history.model.apply(("create", "f", 0o644))
    before = copy.deepcopy(history.model)
    history.in_flight, history.in_flight_part = ("write", "f", 21, 7, 20000), 4075
    for part in (4075, 8171, None):
        after = copy.deepcopy(before)
        after.apply((*history.in_flight, part))
        assert history.check_exact(after.tree())
    must_fail(lambda: history.check_exact(before.tree()), "4075 bytes acknowledged")
    after = copy.deepcopy(before)
    after.apply((*history.in_flight, 5000))
    must_fail(lambda: history.check_exact(after.tree()), "f: found")
    history.in_flight_part = 0
    assert history.check_exact(before.tree()) is None
    # The same for a power cut.
    history = History(t.seed)
    history.ops = [("create", "f", 0o644), ("mkdir", "d", 0o755), ("write", "f", 21, 7, 20000), ("mkdir", "e", 0o755)]
    cut = history.state_after(2)
    cut.apply((*history.ops[2], 4075))
    assert history.check_prefix(cut.tree(), at_least=2) == 2
    must_fail(lambda: history.check_prefix(cut.tree(), at_least=3), "only the first 2")
    cut.apply(("mkdir", "e", 0o755))
    must_fail(lambda: history.check_prefix(cut.tree()), "no prefix")


@test()
def an_operation_in_flight_may_be_there_or_not(t):
    history = History(t.seed)
    history.run(t.folder("d"), 100)
    before = history.model.tree()
    history.in_flight = ("mkdir", "in-flight", 0o755)
    history.check_exact(before)
    after = history.state_after(100)
    after.apply(history.in_flight)
    history.check_exact(after.tree())
    intruder = history.state_after(100)
    intruder.apply(("mkdir", "never-asked-for", 0o755))
    must_fail(lambda: history.check_exact(intruder.tree()), "never-asked-for")
    history.resume(after.tree())
    assert [op for op in history.ops if op != ("crash",)] == history.ops[:101] and history.in_flight is None
    history.check_exact(after.tree())


@test()
def prefixes_and_what_was_synced(t):
    history = History(t.seed)
    history.run(t.folder("d"), 150)
    for count in (0, 1, 75, 149):
        tree = history.state_after(count).tree()
        assert history.check_prefix(tree, at_least=0) >= count
        assert not tree_diff(history.state_after(history.check_prefix(tree, at_least=0)).tree(), tree)
    for op in (("create", "one", 0o644), ("create", "two", 0o644), ("append", "one", 1, 10)):
        history.model.apply(op)
        history.ops.append(op)
    cut = history.state_after(len(history.ops) - 2).tree()
    must_fail(lambda: history.check_prefix(cut, at_least=len(history.ops)), "were synced")
    mixed = history.state_after(len(history.ops) - 2)  # the third without the second: no prefix
    mixed.apply(("append", "one", 1, 10))
    must_fail(lambda: history.check_prefix(mixed.tree(), at_least=0), "no prefix")


@test()
def what_an_fsync_covers(t):
    model = Model()
    for op in (("mkdir", "d", 0o755), ("create", "d/f", 0o644), ("append", "d/f", 1, 5), ("create", "other", 0o644)):
        assert model.apply(op) == 0
    assert model.synced_by(("fsync", "d/f")) == 3  # its own bytes, not what came later elsewhere
    assert model.apply(("rename", "d", "e", 0)) == 0
    assert model.synced_by(("fsync", "e/f")) == 5  # the new name of the directory on its way
    assert model.synced_by(("fsyncdir", "")) == 5
    assert model.apply(("rename", "e", "e/f", EXCHANGE)) == errno.EINVAL


@test(timeout=120, needs=("root", "fuse", "tools"))
def power_cuts_of_a_synced_ext4(t):
    """Where every 5th operation is followed by a syncfs and a mark, a cut at the mark finds exactly that state."""
    history = History(t.seed)
    with powercut.PowerCutDisk(size_mb=256) as disk:
        fd = os.open(disk.dir, os.O_RDONLY)

        def on_ack(h):
            if len(h.ops) % 5 == 0:
                libc_call("syncfs", fd)
                disk.mark(len(h.ops))
        assert history.run(disk.dir, 150, on_ack)
        os.close(fd)
        disk.unmount()
        for record, text in disk.marks()[::3]:
            with disk.at(t.rng.getrandbits(32), record, where=disk.dir) as image:
                assert image.marks[-1] == text
                assert history.check_prefix(tree_of(image.dir), at_least=int(text)) >= int(text)


if __name__ == "__main__":
    sys.exit(main())
