#!/usr/bin/env python3
"""File operations for the scenarios' scripts that the usual shell tools lack. Standard library only.

op.py data SEED N              N reproducible random bytes to standard output
op.py text N                   N bytes of text that compress well
op.py many DIR N SIZE          files f00000, f00001, ... of SIZE bytes each
op.py pwrite PATH OFF SEED N   data at an offset of a file that is made if need be, never truncated
op.py setxattr PATH NAME VALUE | rmxattr PATH NAME
op.py acl PATH access|default RULE   sets a POSIX ACL: u::rwx,u:1000:r--,g::r-x,m::r-x,o::---; an empty one removes it
op.py rename2 A B FLAGS        renameat2(2): 1 is NOREPLACE, 2 EXCHANGE
op.py fallocate PATH MODE OFF LEN   fallocate(2): 1 KEEP_SIZE, 3 PUNCH_HOLE, 16 ZERO_RANGE, 17 both
op.py cfr SRC OFF DST OFF LEN  copy_file_range(2) until all is copied or the source ends
op.py socket PATH
op.py hold PATH FILE           opens PATH, unlinks it, makes FILE, then waits for a signal
op.py lock PATH FILE           locks PATH with flock(2) and fcntl(2), makes FILE, then waits for a signal
"""
import ctypes
import fcntl
import hashlib
import os
import signal
import socket
import struct
import sys

AT_FDCWD = -100
libc = ctypes.CDLL(None, use_errno=True)


def random_bytes(seed, count):
    """The bytes that the recorded trees' checksums belong to: SHA-512 of "SEED/0", "SEED/1", ..."""
    blocks = (hashlib.sha512(f"{seed}/{i}".encode()).digest() for i in range((count + 63) // 64))
    return b"".join(blocks)[:count]


def text_bytes(count):
    lines = (b"The quick brown fox jumps over the lazy dog, line %08d.\n" % i for i in range(count // 57 + 1))
    return b"".join(lines)[:count]


def system_call(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def make_many(folder, count, size):
    for i in range(int(count)):
        with open(os.path.join(folder, f"f{i:05d}"), "wb") as f:
            f.write(random_bytes(i, int(size)))


def write_at(path, offset, seed, count):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    data, at = random_bytes(seed, int(count)), int(offset)
    while data:
        done = os.pwrite(fd, data, at)
        data, at = data[done:], at + done
    os.close(fd)


def allocate(path, mode, offset, length):
    fd = os.open(path, os.O_WRONLY)
    system_call(libc.fallocate(fd, int(mode), ctypes.c_long(int(offset)), ctypes.c_long(int(length))))
    os.close(fd)


def copy_range(source, source_at, target, target_at, length):
    src = os.open(source, os.O_RDONLY)
    dst = os.open(target, os.O_WRONLY | os.O_CREAT, 0o644)
    a, b, left = int(source_at), int(target_at), int(length)
    while left:
        done = os.copy_file_range(src, dst, left, a, b)
        if not done:
            break
        a, b, left = a + done, b + done, left - done
    os.close(dst)
    os.close(src)


def make_socket(path):
    os.chdir(os.path.dirname(path) or ".")  # a socket's address is limited to 107 bytes
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(os.path.basename(path))


def hold(path, ready, locks):
    fd = os.open(path, os.O_RDWR)
    if locks:
        fcntl.flock(fd, fcntl.LOCK_EX)
        fcntl.lockf(fd, fcntl.LOCK_EX, 100, 50)
    else:
        os.unlink(path)
        os.fsync(fd)
    with open(ready, "wb"):
        pass
    signal.pause()


ACL_TAGS = {("u", False): 1, ("u", True): 2, ("g", False): 4, ("g", True): 8, ("m", False): 16, ("o", False): 32}


def acl_bytes(rule):
    """The xattr's value: version 2, then tag, permissions and id of each entry."""
    out = struct.pack("<I", 2)
    for entry in filter(None, rule.split(",")):
        who, number, perm = entry.split(":")
        bits = sum(bit for bit, letter in ((4, "r"), (2, "w"), (1, "x")) if letter in perm)
        out += struct.pack("<HHI", ACL_TAGS[who, number != ""], bits, int(number) if number else 0xFFFFFFFF)
    return out


def acl_text(value):
    """The other way round."""
    names = {tag: name for (name, _), tag in ACL_TAGS.items()}
    entries = [struct.unpack_from("<HHI", value, at) for at in range(4, len(value), 8)]
    return ",".join(f"{names[tag]}:{number if tag in (2, 8) else ''}:" +
                    "".join(letter if perm & bit else "-" for bit, letter in ((4, "r"), (2, "w"), (1, "x")))
                    for tag, perm, number in entries)


VERBS = {
    "acl": lambda path, kind, rule: os.setxattr(path, "system.posix_acl_" + kind, acl_bytes(rule)),
    "data": lambda seed, n: sys.stdout.buffer.write(random_bytes(seed, int(n))),
    "text": lambda n: sys.stdout.buffer.write(text_bytes(int(n))),
    "many": make_many,
    "pwrite": write_at,
    "setxattr": lambda path, name, value: os.setxattr(path, name, value.encode(), follow_symlinks=False),
    "rmxattr": lambda path, name: os.removexattr(path, name, follow_symlinks=False),
    "rename2": lambda a, b, flags: system_call(
        libc.renameat2(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), int(flags))),
    "fallocate": allocate,
    "cfr": copy_range,
    "socket": make_socket,
    "hold": lambda path, ready: hold(path, ready, False),
    "lock": lambda path, ready: hold(path, ready, True),
}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in VERBS:
        sys.exit(__doc__)
    VERBS[sys.argv[1]](*sys.argv[2:])
