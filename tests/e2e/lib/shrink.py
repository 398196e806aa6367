"""Makes a failing sequence short, and runs it again: delta debugging over [(thread, operation)] (crashes.py).

A violation was found with several threads and at some instant; the program is run again one operation after the other,
with the crashes where they were. Often that is enough to meet the violation again; then what does not matter is left out,
and the rest is printed and written to a file that `fault-injection/replay` takes. If it is not enough, that is said, and the
whole program is kept."""
import ast
import os
import time

from crashes import CRASH, CutRun, Victim, Violation, apart
from model import Model
from servers import RedisServer
from volume import Volume


def minimize(items, fails, seconds=120):
    """A short sub-sequence for which fails() is true, as it is for all of them: ever smaller pieces are left out (ddmin).
    Ends early when the time is up."""
    end, n = time.monotonic() + seconds, 2
    items = list(items)
    while len(items) > 1 and time.monotonic() < end:
        size = max(1, len(items) // n)
        for start in range(0, len(items), size):
            rest = items[:start] + items[start + size:]
            if rest and fails(rest):
                items, n = rest, max(n - 1, 2)
                break
            if time.monotonic() >= end:
                break
        else:
            if size == 1:
                break
            n = min(n * 2, len(items))
    return items


def sound(program):
    """Can the model say what each operation must answer?"""
    models = {}
    for thread, op in program:
        model = models.setdefault(thread, Model())
        if not model.knows(op):
            return False
        for m in models.values() if op == CRASH else (model,):
            m.apply(op)
    return True


class Replay:
    """Runs programs on a fresh volume each, one operation after the other. `spec`: {"kind": "kill"} or {"kind": "offline",
    "online" or "device", "fs": ..., "cuts": [seeds]}; "options" for the mount."""

    def __init__(self, t, spec):
        self.t, self.spec, self.runs = t, spec, 0
        self.found = None

    def fails(self, program):
        """True if this program, too, ends in a violation."""
        if not sound(program):
            return False
        self.runs += 1
        try:
            if self.spec["kind"] == "kill":
                self.kill(program)
            else:
                self.cut(program)
        except Violation as e:
            self.found = e
            return True
        return False

    def kill(self, program):
        with apart(self.t, "replay") as t:
            redis = RedisServer(t)
            t.defer(redis.kill)
            volume = Volume(t, redis).format("--trash-days", "0")
            v = Victim(t, volume, "replay", *self.spec.get("options", ()), threads=self.spec.get("threads", 3),
                       query=self.spec.get("query", ""))
            for thread, op in program:
                if op == CRASH:
                    v.crash()
                else:
                    v.workers.run_one(v.work, thread, op)
            v.crash()
            v.finish()

    def cut(self, program):
        with apart(self.t, "replay") as t:
            run = CutRun(t, self.spec["fs"], "replay", self.spec["kind"], self.spec.get("threads", 3))
            for thread, op in program:
                if op == CRASH:
                    run.kill_and_go_on()
                else:
                    run.workers.run_one(run.work_dir, thread, op)
                    run.mark(thread, run.workers.histories[thread])
            run.stop()
            for seed in self.spec["cuts"]:
                run.cut(seed)


def save(path, spec, program):
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"# python3 fault-injection/replay {os.path.basename(path)}\n{spec!r}\n")
        f.writelines(f"{step!r}\n" for step in program)


def load(path):
    with open(path, encoding="utf-8") as f:
        lines = [ast.literal_eval(line) for line in f if not line.startswith("#")]
    return lines[0], lines[1:]
