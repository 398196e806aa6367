"""FUSE over io_uring in tests: the fuse module's parameter, which all of the machine shares.

It is turned on while somebody needs it (a lock that users share) and put back by the last one, also when a test failed or
the run was ended by a signal. Mounts that were made meanwhile keep what they have."""
import contextlib
import fcntl
import os
import signal

PARAMETER = "/sys/module/fuse/parameters/enable_uring"
WANTED = os.environ.get("JFS_TEST_TRANSPORT") == "io_uring"  # by all mounts that do not choose themselves
LOCK = "/run/lock/jfs-test-enable-uring"  # holds the value to be put back


def missing():
    """Why there can be no rings here, or None."""
    if not os.path.exists(PARAMETER):
        return "this kernel has no FUSE over io_uring"
    return None if os.access(PARAMETER, os.W_OK) else "needs root"


def _value():
    with open(PARAMETER, encoding="ascii") as f:
        return f.read().strip()


def _set(value):
    with open(PARAMETER, "w", encoding="ascii") as f:
        f.write(value)


def _terminated(number, frame):
    raise SystemExit(128 + number)


@contextlib.contextmanager
def _alone():
    with open(LOCK + ".mutex", "w", encoding="ascii") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def as_wanted():
    """For a whole run: turned_on() if its mounts want rings."""
    if WANTED and missing():
        raise SystemExit(missing())
    return turned_on() if WANTED else contextlib.nullcontext()


@contextlib.contextmanager
def turned_on():
    """Call it in a process that no test can kill: the runner's."""
    before = signal.signal(signal.SIGTERM, _terminated)
    with open(LOCK, "a+", encoding="ascii") as users:
        with _alone():
            fcntl.flock(users, fcntl.LOCK_SH)
            if _value() == "N":
                users.truncate(0)
                users.write("N")
                users.flush()
                _set("Y")
        try:
            yield
        finally:
            with _alone(), contextlib.suppress(BlockingIOError):  # another run needs it still, and puts it back
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                users.seek(0)
                if users.read() == "N":
                    _set("N")
                    users.truncate(0)
            signal.signal(signal.SIGTERM, before)
