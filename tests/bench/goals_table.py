"""The table of the goals."""
import statistics
import subprocess
import sys
import time

from bench import say


class Table:
    def __init__(self):
        self.lines = []

    def add(self, what, against, value, goal, reached, text, spread=""):
        self.lines.append({"what": what, "against": against, "value": value, "goal": goal, "reached": reached, "text": text,
                           "spread": spread})
        say(f"  {what}, {against}: {text} {spread}" + (f" ({goal}: {'reached' if reached else 'MISSED'})" if goal else ""))

    def ratio(self, what, against, ours, theirs, limit=None):
        """ours and theirs: seconds of each turn; the goal is at most `limit`; None: no goal, to compare with."""
        self.compare(what, against, ours, theirs, f"<= {limit}x" if limit else "", lambda value: value <= limit if limit else None)

    def rate(self, what, against, ours, theirs, limit):
        """The same for operations a second: at least `limit`."""
        self.compare(what, against, theirs, ours, f">= {limit}x", lambda value: value >= limit)

    def compare(self, what, against, over, under, goal, reached):
        ratios = [a / b for a, b in zip(over, under)]
        value = statistics.median(ratios)
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else (value, value, value)
        self.add(what, against, value, goal, reached(value), f"{value:.2f}x",
                 f"[{low:.2f} {high:.2f}] best {min(over) / min(under):.2f}x")

    def missing(self, what, why):
        self.lines.append({"what": what, "against": "", "value": None, "goal": "", "reached": None, "text": f"not measured: {why}", "spread": ""})

    def print(self, out=sys.stdout):
        columns = ("what", "against", "text", "spread", "goal")
        widths = [max(len(line[k]) for line in self.lines if line["value"] is not None or k == "what") for k in columns]
        for line in self.lines:
            cells = [line[k].ljust(w) for k, w in zip(columns, widths)]
            verdict = {True: "reached", False: "MISSED", None: ""}[line["reached"]]
            print("  ".join([*cells, verdict]).rstrip(), file=out)


def seconds(*argv, cwd=None, env=None):
    start = time.perf_counter()
    subprocess.run(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
    return time.perf_counter() - start
