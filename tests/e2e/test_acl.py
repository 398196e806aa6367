#!/usr/bin/env python3
"""POSIX ACLs: what the kernel makes of them on a mount of ours, what is inherited, and that Redis always has every rule."""
import errno
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from harness import *  # noqa: E402,F403
from op import acl_bytes, acl_text  # noqa: E402

NEEDS = ("root", "fuse", "jfs")
NAMED = "u::rw-,u:1001:rw-,g::r--,m::rw-,o::---"
DEFAULT = "u::rwx,u:1001:r-x,g::r-x,g:1002:rwx,m::rwx,o::---"


def mounted(t, *options, query=""):
    volume = Volume(t, RedisServer(t)).format("--block-size", "64", "--trash-days", "0", "--enable-acl")
    return Mount(t, volume, "--writeback", *options, query=query)


def write(path, data=b"text"):
    with open(path, "wb") as f:
        f.write(data)


def set_acl(path, rule, kind="access"):
    os.setxattr(path, "system.posix_acl_" + kind, acl_bytes(rule))


def acl(path, kind="access"):
    try:
        return acl_text(os.getxattr(path, "system.posix_acl_" + kind))
    except OSError as e:
        assert e.errno == errno.ENODATA, e
        return None


def mode(path):
    return os.lstat(path).st_mode & 0o7777


def fails(code, function, *args):
    try:
        function(*args)
    except OSError as e:
        assert e.errno == code, f"{e.strerror} instead of {os.strerror(code)}"
        return
    raise AssertionError(f"succeeded, expected {os.strerror(code)}")


def cat_as(uid, path, groups=()):
    return subprocess.run(["cat", path], user=uid, group=uid, extra_groups=list(groups), capture_output=True, check=False).returncode == 0


def as_user(uid, function, *args, groups=()):
    """The errno of the call, 0 if it succeeds."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            os.setgroups(list(groups))
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            function(*args)
            code = 0
        except OSError as e:
            code = e.errno
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@test(timeout=60, needs=NEEDS)
def the_kernel_checks_them(t):
    m = mounted(t, "-o", "allow_other")
    os.chmod(t.dir, 0o755)
    path = m.path("f")
    write(path)
    os.chmod(path, 0o600)
    assert not cat_as(1001, path) and not cat_as(1002, path)
    set_acl(path, NAMED)
    assert cat_as(1001, path) and not cat_as(1002, path)
    assert mode(path) == 0o660, "the group's bits are the mask"
    os.chmod(path, 0o600)  # takes the mask away, not the entry
    assert not cat_as(1001, path)
    assert acl(path) == "u::rw-,u:1001:rw-,g::r--,m::---,o::---"
    set_acl(path, "u::rw-,g::---,g:1005:r--,m::r--,o::---")
    assert cat_as(1003, path, [1005]) and not cat_as(1003, path)
    os.removexattr(path, "system.posix_acl_access")
    assert acl(path) is None and os.listxattr(path) == [] and not cat_as(1003, path, [1005])
    # Only the owner and root may change one.
    assert as_user(1003, set_acl, path, NAMED) == errno.EPERM and acl(path) is None
    os.chown(path, 1003, 1005)
    for groups, kept in (([1005], 0o2000), ([], 0)):
        os.chmod(path, 0o2750)
        assert as_user(1003, set_acl, path, NAMED, groups=groups) == 0
        assert mode(path) == 0o660 | kept, "setgid stays only for who is in the group"


@test(timeout=60, needs=NEEDS)
def what_is_new_inherits(t):
    m = mounted(t)
    os.umask(0o077)
    os.mkdir(m.path("d"))
    set_acl(m.path("d"), DEFAULT, "default")
    assert os.listxattr(m.path("d")) == ["system.posix_acl_default"]
    write(m.path("d/f"))
    os.mkdir(m.path("d/sub"), 0o770)
    os.mkfifo(m.path("d/pipe"), 0o640)
    os.symlink("x", m.path("d/link"))
    assert acl(m.path("d/f")) == "u::rw-,u:1001:r-x,g::r-x,g:1002:rwx,m::rw-,o::---", "the umask plays no part"
    assert mode(m.path("d/f")) == 0o660
    assert acl(m.path("d/pipe")) == "u::rw-,u:1001:r-x,g::r-x,g:1002:rwx,m::r--,o::---"
    assert acl(m.path("d/sub")) == "u::rwx,u:1001:r-x,g::r-x,g:1002:rwx,m::rwx,o::---"
    assert acl(m.path("d/sub"), "default") == DEFAULT and mode(m.path("d/sub")) == 0o770
    fails(errno.EACCES, set_acl, m.path("d/f"), DEFAULT, "default")
    os.mkdir(m.path("d/plain"))
    set_acl(m.path("d/plain"), "u::rwx,g::r-x,o::---", "default")
    write(m.path("d/plain/f"))
    assert acl(m.path("d/plain/f")) is None and mode(m.path("d/plain/f")) == 0o640
    set_acl(m.path("d/plain"), "", "default")
    assert acl(m.path("d/plain"), "default") is None
    write(m.path("d/plain/g"))
    assert mode(m.path("d/plain/g")) == 0o600, "the umask is back"
    set_acl(m.path("d/f"), "u::rwx,g::r-x,o::r--")  # no more than a mode
    assert acl(m.path("d/f")) is None and mode(m.path("d/f")) == 0o754
    before = {n: (acl(m.path("d", n)), mode(m.path("d", n))) for n in ("f", "sub", "pipe", "plain")}
    m.kill()
    t.run("umount", "-l", m.dir)
    m.mount()
    assert {n: (acl(m.path("d", n)), mode(m.path("d", n))) for n in before} == before
    m.umount(flush=True)
    fresh = Mount(t, m.volume, name="fresh")
    assert {n: (acl(fresh.path("d", n)), mode(fresh.path("d", n))) for n in before} == before
    m.volume.check()


@test(timeout=60, needs=NEEDS)
def rules_are_shared_and_only_a_new_one_waits_for_redis(t):
    m = mounted(t)
    for i in range(50):
        write(m.path(f"f{i}"))
        set_acl(m.path(f"f{i}"), NAMED)
    with m.volume.redis.client(m.volume.db) as c:
        assert c("HLEN", "acl") == 1 and int(c("GET", "aclMaxId")) == 1
        assert c("HGET", "acl", "1").hex() == "000600040006000000000001000003e9000600000000"
    os.kill(m.volume.redis.process.pid, signal.SIGSTOP)
    t.defer(os.kill, m.volume.redis.process.pid, signal.SIGCONT)
    write(m.path("known"))
    set_acl(m.path("known"), NAMED)
    assert acl(m.path("known")) == NAMED
    new = subprocess.Popen([sys.executable, "-c", "import os, sys; os.setxattr(sys.argv[1], 'system.posix_acl_access', "
                            "bytes.fromhex(sys.argv[2]))", m.path("known"), acl_bytes(DEFAULT).hex()])
    wait_until(lambda: sum(v for k, v in m.stats().items() if k.startswith("workers_busy")) or None, what="it to ask Redis")
    write(m.path("others go on"))
    assert new.poll() is None and acl(m.path("f1")) == NAMED
    os.kill(m.volume.redis.process.pid, signal.SIGCONT)
    assert new.wait(30) == 0
    assert acl(m.path("known")) == DEFAULT
    m.umount(flush=True)
    m.volume.check()


@test(timeout=60, needs=NEEDS)
def p8_a_redis_that_forgot_a_rule_gets_it_back(t):
    m = mounted(t, "--upload-delay", "10m", query="batch_interval=10m")
    write(m.path("f"))
    set_acl(m.path("f"), NAMED)
    with m.volume.redis.client(m.volume.db) as c:
        c("DEL", "acl", "aclMaxId")
        c("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    write(m.path("g"))
    set_acl(m.path("g"), NAMED)
    m.flush()
    with m.volume.redis.client(m.volume.db) as c:
        assert c("HLEN", "acl") == 1 and int(c("GET", "aclMaxId")) == 1
    # A rule of its own afterwards: never under a number that was given out.
    set_acl(m.path("g"), DEFAULT)
    m.umount(flush=True)
    ks = m.volume.check()
    assert sorted(ks.table("acl")) == ["1", "2"]


@test(timeout=60, needs=NEEDS)
def a_volume_without_them_refuses(t):
    volume = Volume(t, RedisServer(t)).format("--block-size", "64")
    m = Mount(t, volume)
    write(m.path("f"))
    fails(errno.EOPNOTSUPP, set_acl, m.path("f"), NAMED)
    fails(errno.EOPNOTSUPP, os.getxattr, m.path("f"), "system.posix_acl_access")
    m.umount(flush=True)
    volume.format("--enable-acl")
    setting = volume.keyspace().setting
    assert setting["EnableACL"] is True and setting["MinClientVersion"] == "1.2.0-A"
    m.mount()
    set_acl(m.path("f"), NAMED)
    assert acl(m.path("f")) == NAMED
    m.umount(flush=True)
    assert "--no-xattr: the volume has POSIX ACLs" in m.mount("--no-xattr", status=1)


@test(timeout=120, needs=(*NEEDS, "juicefs"))
def conformance_30_stock_and_we_mean_the_same(t):
    m = mounted(t)
    os.mkdir(m.path("d"))
    set_acl(m.path("d"), DEFAULT, "default")
    for i in range(3):
        write(m.path(f"d/f{i}"))
    set_acl(m.path("d/f1"), NAMED)
    os.chmod(m.path("d/f2"), 0o604)
    os.mkdir(m.path("d/sub"))
    ours = {n: (acl(m.path(n)), acl(m.path(n), "default") if n != "d/f0" and not n[-1].isdigit() else None, mode(m.path(n)))
            for n in ("d", "d/f0", "d/f1", "d/f2", "d/sub")}
    m.umount(flush=True)
    m.volume.check()
    stock = Stock(t, m.volume.url())
    stock.find_nothing()
    s = StockMount(t, m.volume.url(), read_only=False)
    theirs = {n: (acl(s.path(n)), acl(s.path(n), "default") if v[1] else None, mode(s.path(n))) for n, v in ours.items()}
    assert theirs == {n: (a, d, o) for n, (a, d, o) in ours.items()}
    write(s.path("d/by stock"))
    set_acl(s.path("d/f0"), "u::rw-,u:7:r--,g::---,m::r--,o::---")
    seen = acl(s.path("d/by stock"))
    s.umount()
    m.mount()
    assert acl(m.path("d/by stock")) == seen
    assert acl(m.path("d/f0")) == "u::rw-,u:7:r--,g::---,m::r--,o::---"
    write(m.path("d/last"))
    m.umount(flush=True)
    m.volume.check()
    stock.find_nothing()


if __name__ == "__main__":
    sys.exit(main())
