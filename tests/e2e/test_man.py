#!/usr/bin/env python3
"""The man pages: well-formed, and complete as far as a program can tell."""
import os
import re
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *  # noqa: E402,F403

MAN = os.path.join(ROOT, "man")


def page(name):
    with open(os.path.join(MAN, name), encoding="ascii") as f:
        return f.read().replace("\\-", "-")


@test(needs=("jfs",))
def every_option_has_its_place_in_a_page(t):
    for name, command in (("jfs-format.8", (JFS, "format")), ("jfs-mount.8", (JFS, "mount")), ("jfs.1", (JFS, "umount")),
                          ("jfs.1", (JFS, "status")), ("jfs-recover.8", (JFS_RECOVER, "check"))):
        text = page(name)
        options = re.findall(r"(?<![\w-])--[a-z][a-z-]+", t.run(*command, "--help"))
        assert options, command
        lost = sorted({o for o in options if o != "--help" and not re.search(re.escape(o) + r"(?![\w-])", text)})
        assert not lost, f"{name} says nothing of {' '.join(lost)}"


@test(needs=("jfs",))
def every_command_is_in_jfs_1(t):
    text = page("jfs.1")
    for name in re.findall(r"^  (\w+) ", t.run(JFS, "--help"), re.M):
        assert re.search(rf"^(\.B |\\fB){name}\b", text, re.M), name


@test()
def pages_render_without_warnings(t):
    if not shutil.which("groff"):
        raise Skip("groff is not installed")
    for name in sorted(os.listdir(MAN)):
        warnings = [line for line in t.run("groff", "-ww", "-man", "-Tascii", os.path.join(MAN, name)).splitlines()
                    if line.startswith(("groff:", "troff:", os.path.join(MAN, name)))]
        assert not warnings, warnings


if __name__ == "__main__":
    sys.exit(main())
