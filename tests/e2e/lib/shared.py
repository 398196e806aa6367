"""Several threads on the same few names: can what they were answered, and what a crash left, have been in some order?

    shared = Shared(seed)
    shared.make(directory)
    while shared.burst(directory):                 # each thread does some operations; False: the mount went away
        shared.check(tree_of(directory))           # Mismatch if no order explains it
    ... recover ...
    shared.check(tree_of(directory))               # operations in flight may have happened or not
    shared.crash()

An order fits when every operation answers what it was answered, one that was answered before another was asked for stands
before it, and the tree at its end is the one that was found. Only operations that happen at one instant are drawn: what
resolves a path first and acts on the inode later (open and write, link) goes through a slot, whose opening is an operation of
its own. All states that fit are kept, since a tree does not tell what a slot holds.

One answer is the kernel's alone: it counts an inode's links by itself, once more for each unlink's answer. A look at the inode
that was answered between an unlink and that has the new count already, and the kernel then is one too low until the next look.
At 0 it refuses a link (ENOENT) and does not ask us. So that answer fits where names went away in the same burst."""
import copy
import ctypes
import errno
import os
import random
import threading
import time

from model import EXCHANGE, GONE, NOREPLACE, Error, Mismatch, Model, Real, libc_call, name_of, tree_diff

NAMES = ("d0/a", "d0/b", "d0/c", "d1/a", "d1/b", "d1/c")
WEIGHTS = {"create": 4, "open": 5, "hwrite": 3, "hlink": 5, "unlink": 6, "rename": 5, "mkdir": 1, "rmdir": 2, "symlink": 1}
NEVER = float("inf")


class SharedModel(Model):
    def op_hlink(self, slot, new):
        node = self.handle(slot)
        d, name = self.parent(new)
        if name in d.entries:
            raise Error(errno.EEXIST)
        if node.nlink == 0:
            raise Error(errno.ENOENT)
        node.nlink += 1
        self.add(d, name, node)

    def key(self):
        """Everything that an operation to come can see."""
        tree = self.tree()
        names = {id(self.find(path)): path for path in tree}
        slots, nameless = [], {}
        for slot, node in sorted(self.handles.items()):
            here = names.get(id(node)) or nameless.setdefault(id(node), f"-{len(nameless)} {node.content.digest()}")
            slots.append((slot, here))
        return frozenset(tree.items()), tuple(slots)


class SharedReal(Real):
    def op_hlink(self, slot, new):
        libc_call("linkat", self.handle(slot), b"", ctypes.c_int(-100), os.fsencode(self.path(new)), 0x1000)


class Done:
    """An operation, when it was asked for and answered (NEVER: it was in flight), and the answer."""

    def __init__(self, op, asked):
        self.op, self.asked, self.answered, self.answer = op, asked, NEVER, None

    def __str__(self):
        return f"{self.op} {'in flight' if self.answered == NEVER else name_of(self.answer)}"


class Shared:
    def __init__(self, seed, threads=3, each=5):
        self.seed, self.rng, self.each = seed, random.Random(f"{seed}/shared"), each
        self.models = [SharedModel()]
        self.reals = [None] * threads
        self.lanes = [[] for _ in range(threads)]  # what is not checked yet
        self.operations = self.bursts = self.most = 0

    def make(self, directory):
        os.umask(0)
        for name in ("d0", "d1"):
            os.makedirs(os.path.join(directory, name), 0o755)
            self.models[0].apply(("mkdir", name, 0o755))

    def draw(self, lane):
        kind = self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        name, other, slot = self.rng.choice(NAMES), self.rng.choice(NAMES), f"{lane}.{self.rng.randrange(2)}"
        return {"create": (kind, name, 0o644), "open": (kind, slot, name), "hlink": (kind, slot, name), "unlink": (kind, name),
                "hwrite": (kind, slot, self.rng.choice((0, 50)), self.rng.getrandbits(32), 100), "mkdir": (kind, name, 0o755),
                "rmdir": (kind, name), "symlink": (kind, "nowhere", name),
                "rename": (kind, name, other, self.rng.choice((0, 0, NOREPLACE, EXCHANGE)))}[kind]

    def burst(self, directory):
        """True: all operations were answered."""
        assert not any(self.lanes), "the last burst was not checked"
        programs = [[self.draw(lane) for _ in range(self.each)] for lane in range(len(self.lanes))]
        start = threading.Barrier(len(self.lanes))
        wrong = []

        def body(lane):
            real = self.reals[lane] = self.reals[lane] or SharedReal(directory)
            try:
                start.wait()
                for op in programs[lane]:
                    done = Done(op, time.monotonic_ns())
                    self.lanes[lane].append(done)
                    answer = real.apply(op)
                    if answer in GONE:
                        return
                    done.answered, done.answer = time.monotonic_ns(), answer
            except BaseException as e:  # raised again in the test's thread
                wrong.append(e)
        threads = [threading.Thread(target=body, args=(lane,)) for lane in range(len(self.lanes))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if wrong:
            raise wrong[0]
        self.bursts += 1
        self.operations += sum(map(len, self.lanes))
        return all(done.answered != NEVER for lane in self.lanes for done in lane)

    def check(self, found):
        """Keeps the states that explain the tree and all answers since the last check."""
        ends, nearest = self.endings(found)
        if not ends:
            lines = sorted((done for lane in self.lanes for done in lane), key=lambda d: d.asked)
            where = {id(done): i for i, lane in enumerate(self.lanes) for done in lane}
            raise Mismatch(f"seed {self.seed}, burst {self.bursts}: no order explains what was answered and found; asked for in "
                           "this order:\n  " + "\n  ".join(f"thread {where[id(d)]}: {d}" for d in lines) +
                           "\nthe nearest state with these answers differs in:\n  " + "\n  ".join(nearest or ["(none has them)"]))
        self.models = list(ends.values())
        self.most = max(self.most, len(self.models))
        self.lanes = [[] for _ in self.lanes]

    def endings(self, found):
        """{key: model} of the states that fit, and how the nearest other differs."""
        ends, nearest, seen = {}, None, set()
        todo = [((0,) * len(self.lanes), model) for model in self.models]
        while todo:
            at, model = todo.pop()
            key = model.key()
            if (at, key) in seen:
                continue
            seen.add((at, key))
            left = [lane[n] if n < len(lane) else None for lane, n in zip(self.lanes, at)]
            if all(d is None or d.answered == NEVER for d in left):
                diff = tree_diff(found, model.tree())
                if not diff:
                    ends[key] = model
                elif nearest is None or len(diff) < len(nearest):
                    nearest = diff
            first = min((d.answered for d in left if d), default=NEVER)
            for lane, done in enumerate(left):
                if done is None or done.asked > first:
                    continue
                after = copy.deepcopy(model)
                fits = after.apply(done.op) == done.answer or done.answered == NEVER
                if fits or self.kernel_refused(done):
                    todo.append((tuple(n + (i == lane) for i, n in enumerate(at)), after if fits else model))
        return ends, nearest

    def kernel_refused(self, done):
        went = ("unlink", "rename")
        return done.op[0] == "hlink" and done.answer == errno.ENOENT and any(
            other.op[0] in went and other.asked < done.answered and other.answer in (0, None) for lane in self.lanes for other in lane)

    def crash(self):
        """The mount and with it all slots are gone."""
        for real in self.reals:
            if real:
                real.close()
        for model in self.models:
            model.apply(("crash",))
        self.models = list({model.key(): model for model in self.models}.values())
