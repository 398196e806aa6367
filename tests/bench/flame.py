#!/usr/bin/env python3
"""Where the daemon's time goes: a flame graph, made with perf while a benchmark runs on a mount.

    flame.py [--ops create] [--files 20000] [--threads 1] [--out profile.svg]      record and draw
    flame.py --fold FILE [--out profile.svg]                                       draw from the text of `perf script`

Beside the SVG lies OUT.folded: a line a stack, outermost function first, and how many samples had it. Both show CPU time only; a
thread that waits is not seen. Frames are as wide as their share; alphabetical, not in order of time. Pointing at one names it."""
import argparse
import collections
import html
import os
import re
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

WIDTH, ROW, CHAR = 1200, 17, 6.6
FRAME = re.compile(r"^\s+[0-9a-f]+ (.*) \((.*)\)$")


def fold(lines):
    """Counter of stacks, each a tuple from the thread's name to the innermost function, from `perf script`'s text."""
    stacks, thread, frames = collections.Counter(), None, []
    for line in [*lines, ""]:
        line = line.rstrip("\n")
        frame = FRAME.match(line)
        if frame:
            name = re.sub(r"\+0x[0-9a-f]+$", "", frame[1])
            frames.append(name if name != "[unknown]" else f"[{os.path.basename(frame[2]).strip('[]')}]")
        elif not line.strip():
            if thread:
                stacks[(thread, *reversed(frames))] += 1
            thread, frames = None, []
        else:
            thread = re.match(r"\s*(.*?)\s+\d+(?:/\d+)?\s", line + " ")[1]
    return stacks


class Node:
    def __init__(self):
        self.count, self.below = 0, {}


def tree(stacks):
    root = Node()
    for stack, count in stacks.items():
        node = root
        node.count += count
        for name in stack:
            node = node.below.setdefault(name, Node())
            node.count += count
    return root


def depth(node):
    return 1 + max((depth(n) for n in node.below.values()), default=0)


def colour(name):
    """Warm, the same for the same name; the kernel's are not told apart from ours but by name."""
    h = sum(ord(c) * (i + 7) for i, c in enumerate(name))
    return f"rgb({205 + h % 50},{80 + h // 50 % 130},{h // 7 % 55})"


def draw(stacks, title):
    root = tree(stacks)
    height = (depth(root) + 2) * ROW
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="monospace" font-size="11">',
           f'<text x="8" y="{ROW - 4}">{html.escape(title)}: {root.count} samples</text>']

    def frame(name, node, x, level):
        wide = WIDTH * node.count / root.count
        if wide < 0.3:
            return
        y = height - (level + 1) * ROW
        text = html.escape(name[:int(wide / CHAR)] if wide > 3 * CHAR else "")
        out.append(f'<g><title>{html.escape(name)}: {node.count} samples, {100 * node.count / root.count:.1f} %</title>'
                   f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{ROW - 1}" fill="{colour(name)}"/>'
                   f'<text x="{x + 2:.1f}" y="{y + ROW - 5}">{text}</text></g>')
        for below in sorted(node.below):
            frame(below, node.below[below], x, level + 1)
            x += WIDTH * node.below[below].count / root.count
    if root.count:
        frame("all", root, 0.0, 0)
    out.append("</svg>\n")
    return "\n".join(out)


def write(stacks, title, path):
    with open(path, "w", encoding="utf-8") as f:
        f.write(draw(stacks, title))
    with open(path + ".folded", "w", encoding="utf-8") as f:
        for stack, count in sorted(stacks.items()):
            print(";".join(name.replace(";", ":") for name in stack), count, file=f)


def record(args):
    """perf script's text of a run of fsbench on a fresh mount."""
    from rows import bench_test, core, harness, loop_image, tool  # they need root and FUSE, --fold needs neither
    for need in ("root", "fuse", "jfs"):
        if core.missing(need):
            sys.exit(f"flame: cannot run: {core.missing(need)}")
    if not shutil.which("perf"):
        sys.exit("flame: perf is not installed (apt-get install linux-perf)")
    with bench_test() as t:
        cache = os.path.join(loop_image(t, "cache", 8 << 30), "cache")
        os.mkdir(cache, 0o700)
        m = harness.Mount(t, harness.Volume(t, harness.RedisServer(t)).format("--trash-days", "0"), "--writeback", cache=cache)
        os.mkdir(m.path("d"))
        data = t.path("perf.data")
        with open(t.path("perf.log"), "w", encoding="utf-8") as log:
            perf = subprocess.Popen(["perf", "record", "-q", "--call-graph", "dwarf,4096", "-F", "499", "-p", str(m.pid), "-o", data],
                                    stdout=log, stderr=log)
            harness.wait_until(lambda: perf.poll() is not None or os.path.exists(data), 20, "perf")
            t.run(tool("tests/bench/fsbench"), args.ops, m.path("d"), str(args.files), "1024", str(args.threads), timeout=600)
            perf.send_signal(signal.SIGINT)
            perf.wait(60)
        if not os.path.exists(data) or not os.path.getsize(data):
            with open(t.path("perf.log"), encoding="utf-8") as log:
                sys.exit(f"flame: perf could not record: {log.read().strip()}")
        done = subprocess.run(["perf", "script", "-i", data, "-F", "comm,tid,time,ip,sym,dso", "--no-inline"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, errors="replace", check=True)
        return done.stdout.splitlines()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--ops", default="create", help="of fsbench, comma-separated (create)")
    p.add_argument("--files", type=int, default=20000)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--fold", metavar="FILE")
    p.add_argument("--out", default="profile.svg")
    args = p.parse_args()
    if args.fold:
        with open(args.fold, encoding="utf-8", errors="replace") as f:
            stacks = fold(f)
    else:
        stacks = fold(record(args))
    if not stacks:
        sys.exit("flame: no samples")
    write(stacks, args.fold or f"fsbench {args.ops}, {args.files} files, {args.threads} threads", args.out)
    print(f"{args.out}, {args.out}.folded: {sum(stacks.values())} samples")
    return 0


if __name__ == "__main__":
    sys.exit(main())
