"""Names: every byte but two, up to 255 of them, and paths up to PATH_MAX."""
import os

from base import *  # noqa: F401,F403


@check
def every_byte(p):
    folder = os.fsencode(p())
    names = set()
    for byte in range(1, 256):
        if byte == ord("/"):
            continue
        for name in (bytes([byte]), b"a" + bytes([byte]) + b"z"):
            if name == b".":
                continue
            os.close(os.open(os.path.join(folder, name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            names.add(name)
    same(set(os.listdir(folder)), names)
    for name in names:
        os.stat(os.path.join(folder, name))
        os.rename(os.path.join(folder, name), os.path.join(folder, b"longer " + name))
    same(set(os.listdir(folder)), {b"longer " + n for n in names})
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    same(os.listdir(folder), [])


@check
def of_all_lengths(p):
    for n in (1, 2, 7, 8, 100, 253, 254, 255):
        name = "n" * n
        p.file(name, b"%d" % n)
        same(read(p(name)), b"%d" % n)
    same(sorted(map(len, os.listdir(p()))), [1, 2, 7, 8, 100, 253, 254, 255])
    # What counts is bytes, not characters.
    p.file("ü" * 127)
    fails(ENAMETOOLONG, p.file, "ü" * 128)
    for make in (lambda n: os.mkdir(n), lambda n: os.mkfifo(n), lambda n: os.symlink("x", n), lambda n: os.link(p("n"), n), lambda n: os.rename(p("n"), n)):
        fails(ENAMETOOLONG, make, p("m" * 256))
    for number, make in enumerate((lambda n: os.mkdir(n), lambda n: os.mkfifo(n), lambda n: os.symlink("x", n), lambda n: os.link(p("n"), n))):
        make(p(f"{number}" * 255))
    os.rename(p("n" * 255), p("r" * 255))
    os.unlink(p("r" * 255))
    os.rmdir(p("0" * 255))


@check
def case_and_forms_differ(p):
    for name in ("name", "Name", "NAME", "n\u0061\u0308me", "n\u00e4me", "name ", " name", "name.", "name\n", "-name", "~", "*", "name\\", "name\t"):
        p.file(name, name.encode())
    same(len(os.listdir(p())), 14)
    for name in os.listdir(p()):
        same(read(p(name)), name.encode())


@check
def paths_up_to_the_limit(p):
    os.chdir(p())
    parts = []
    while len("/".join(parts)) + 101 < 4090:
        parts.append("d" * 100)
        os.mkdir("/".join(parts))
    path = "/".join(parts) + "/"
    path += "f" * min(255, 4095 - len(path))
    same(len(path) > 4000, True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    os.stat(path)
    # Deeper than a path can say, from inside.
    for _ in range(60):
        os.mkdir("deeper" + "x" * 100)
        os.chdir("deeper" + "x" * 100)
    with open("f", "wb") as f:
        f.write(b"down here")
    same(read("f"), b"down here")
    os.chdir("../" * 60)
    same(os.getcwd(), p())


@check
def slashes_at_the_end(p):
    p.file()
    p.folder()
    for function in (os.stat, os.unlink, os.readlink, lambda path: os.truncate(path, 0), lambda path: os.rename(path, p("x"))):
        fails(ENOTDIR, function, p("f/"))
    fails((EISDIR, ENOENT, ENOTDIR), os.open, p("new/"), os.O_CREAT | os.O_WRONLY)
    fails((ENOENT, ENOTDIR), os.link, p("f"), p("new/"))
    os.rename(p("d") + "/", p("e") + "/")
    same(sorted(os.listdir(p())), ["e", "f"])


@check
def names_come_and_go(p):
    """A name that was looked for before it was there, made, removed and made again, is found each time."""
    for n in range(100):
        fails(ENOENT, os.stat, p("f"))
        p.file("f", b"%d" % n)
        same(read(p("f")), b"%d" % n)
        os.rename(p("f"), p("g"))
        fails(ENOENT, os.stat, p("f"))
        same(os.stat(p("g")).st_size, len(str(n)))
        os.unlink(p("g"))
